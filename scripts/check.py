"""Check whether a copy of a data set is complete and whole, and its truth explains its pictures.

    stereo-tr check --data kitti2015 --root ~/data/kitti2015
    stereo-tr check --data sceneflow --root ~/data/sceneflow --samples 200
    python -m stereo_tr.scripts.check --data folder --root ~/pairs

Counts the pairs against the published number, names what is missing, reads some of them, spread
evenly, and checks their sizes and ranges. For each it warps the right view by the truth: the result
must be nearer to the left view than with a truth 1 px smaller or larger, or the scale, the sign or
the order of the views is wrong. Where both views' disparities are known everywhere, the occlusion
map is held against what they say. Exit code 1: something is wrong; 2: it can't be checked.

Tests  tests/scripts/test_check.py
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

# Absolute, so that `python scripts/check.py` works as well.
from stereo_tr.scripts.command import one_line, run

if TYPE_CHECKING:
    from torch import Tensor

    from stereo_tr.datasets.indexed import IndexedPairs
    from stereo_tr.datasets.sample import StereoSample

MOST_LISTED = 20
"""problems of one kind that are named; the others are counted"""
LEAST_AGREEMENT = 0.3
"""IoU between an occlusion map and what the disparities of both views say. Of generated scenes, a
map of the same scene agrees by 0.79 to 0.95 (they differ at edges), another's by 0.01 to 0.11"""
LEAST_HIDDEN = 0.005
"""share of the pixels that must be occluded for an agreement to mean anything"""


@dataclass(frozen=True)
class Check:
    """Settings of one check."""

    data: str
    """name of the data set; a wrong one lists those that are known"""
    root: Path
    """folder that its loader's description draws"""
    samples: int = 8
    """how many pairs to read, spread evenly; a large number reads all"""


@dataclass(frozen=True)
class Report:
    """What a check found."""

    pairs: int
    """complete ones"""
    read: tuple[str, ...]
    """a line for each pair that was read"""
    problems: tuple[str, ...]
    """empty: the copy is as published, as far as was looked"""
    summary: str


def check(settings: Check) -> Report:
    """Look a copy over. Raises ValueError or OSError where there is nothing that can be checked."""
    from stereo_tr.datasets.registry import open_dataset

    if settings.samples < 0:
        raise ValueError(f"--samples {settings.samples}: give 0 or more")
    start = time.perf_counter()
    pairs = open_dataset(settings.data, settings.root, incomplete=True)
    seconds = time.perf_counter() - start
    problems = list(pairs.problems[:MOST_LISTED])
    if more := len(pairs.problems) - len(problems):
        problems.append(f"... and {more} more of this kind")
    if pairs.published and len(pairs) not in pairs.published:
        published = " or ".join(f"{count:,}" for count in pairs.published)
        problems.append(f"{len(pairs):,} complete pairs, but {published} are published")
    lines, found = _read_some(pairs, settings.samples)
    published = " or ".join(f"{count:,}" for count in pairs.published) or "an unknown number"
    known = sum(pairs.occlusion_known(index) for index in range(len(pairs)))
    summary = (
        f"{settings.data}: {len(pairs):,} complete pairs of {published} published, "
        f"{known:,} with occlusion, indexed in {seconds:.1f} s; {len(lines)} read"
    )
    return Report(len(pairs), tuple(lines), tuple(problems + found), summary)


def _read_some(pairs: "IndexedPairs", count: int) -> tuple[list[str], list[str]]:
    """A line for each pair that could be read, and what is wrong with any of them."""
    from stereo_tr.progress import progress

    count = min(count, len(pairs))
    chosen = [index * len(pairs) // count for index in range(count)]
    lines, problems, failed = [], [], []
    for index in progress(chosen, label="pairs"):
        try:
            sample = pairs[index]
        except (ValueError, OSError) as error:
            problems.append(one_line(error))
            continue
        line, wrong, fits = _look_at(sample, pairs, index)
        lines.append(line)
        problems += wrong
        if fits is False:
            failed.append(str(sample.name))
    # One pair may fail for its own reasons (a lamp switched between the views); most may not.
    if 2 * len(failed) > len(lines):
        problems.append(
            f"the truth doesn't explain the left view in {len(failed)} of {len(lines)} pairs "
            f"({', '.join(failed[:3])}, ...): the views are swapped, or disparity has another "
            "scale, sign or file order than published"
        )
    return lines, problems


def _look_at(
    sample: "StereoSample", pairs: "IndexedPairs", index: int
) -> tuple[str, list[str], bool | None]:
    """A line about a pair, what is wrong with it, and whether the truth fits (None: no truth)."""
    height, width = sample.disparity.shape
    problems = []
    if pairs.size and (height, width) != pairs.size:
        problems.append(
            f"{sample.name}: {width}x{height}, but {pairs.size[1]}x{pairs.size[0]} is published"
        )
    for view, image in (("left", sample.left), ("right", sample.right)):
        if image.min() == image.max():
            problems.append(f"{sample.name}: the {view} view is of one colour throughout")
    if bool((sample.left == sample.right).all()):
        problems.append(f"{sample.name}: both views are the same picture")
    line = f"{sample.name}: {width}x{height}"
    if "disparity" not in pairs.required:
        return f"{line}, no truth published", problems, None
    known = sample.disparity[sample.valid]
    if not len(known):
        return (
            f"{line}, no disparity known",
            [*problems, f"{sample.name}: no disparity known"],
            None,
        )
    if known.max() >= width:
        problems.append(f"{sample.name}: a disparity of {known.max():.0f} px, but {width} columns")
    errors = warp_errors(sample)
    fits = errors[0] < min(errors[-1], errors[1]) and not mirrored_error(sample) < errors[0]
    line += (
        f", disparity {known.min():.2f} to {known.max():.2f} px at "
        f"{100 * sample.valid.float().mean():.0f} %, occluded "
        f"{100 * sample.occluded.float().mean():.1f} %, left - warped right "
        f"{errors[0]:.4f} (1 px beside: {errors[-1]:.4f}, {errors[1]:.4f})"
    )
    agreement = occlusion_agreement(sample) if pairs.occlusion_known(index) else None
    if agreement is not None:
        line += f", occlusion agrees by {agreement:.2f}"
        if agreement < LEAST_AGREEMENT:
            problems.append(
                f"{sample.name}: its occlusion map agrees with both views' disparities by "
                f"{agreement:.2f} only; is it another frame's?"
            )
    return line, problems, fits


def warp_errors(sample: "StereoSample") -> dict[int, float]:
    """Mean |left - right warped by (disparity + shift)| in [0, 1], for shifts of -1, 0 and 1 px.

    Over the pixels that are known, not occluded and inside for all three; nan where there is none.
    """
    views, mask = {}, sample.valid & ~sample.occluded
    for shift in (-1, 0, 1):
        views[shift], inside = _warped(sample, sample.disparity + shift)
        mask = mask & inside
    return {
        shift: float((sample.left - view).abs()[:, mask].mean()) for shift, view in views.items()
    }


def mirrored_error(sample: "StereoSample") -> float:
    """The same error with the disparity negated, as if the views were swapped."""
    view, inside = _warped(sample, -sample.disparity)
    return float((sample.left - view).abs()[:, sample.valid & ~sample.occluded & inside].mean())


def _warped(sample: "StereoSample", disparity: "Tensor") -> tuple["Tensor", "Tensor"]:
    from stereo_tr.geometry import warp_right_to_left

    view, inside = warp_right_to_left(sample.right[None], disparity[None])
    return view[0], inside[0]


def occlusion_agreement(sample: "StereoSample") -> float | None:
    """IoU of the occlusion map with what fails the left-right check, where the partner is inside.

    None unless both disparities are known everywhere, and where too little is occluded to tell.
    """
    from stereo_tr.geometry import consistent

    if not (sample.valid.all() and sample.right_valid.all()):
        return None
    inside = _warped(sample, sample.disparity)[1]
    hidden = inside & ~consistent(sample.disparity[None], sample.right_disparity[None])[0]
    said = inside & sample.occluded
    union = int((hidden | said).sum())
    return int((hidden & said).sum()) / union if union > LEAST_HIDDEN * said.numel() else None


def _print_report(settings: Check) -> None:
    report = check(settings)
    print("\n".join([*report.read, report.summary]))
    if report.problems:
        print(f"\n{len(report.problems)} problem(s):")
        print("\n".join(f"  {problem}" for problem in report.problems))
        sys.exit(1)
    print("no problem found")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `stereo-tr check`."""
    run(Check, _print_report, "check", __doc__.partition("\n")[0], arguments)


if __name__ == "__main__":
    main()
