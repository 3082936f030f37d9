"""A disparity map from two rectified photographs.

    stereo-tr estimate left.png right.png --out results
    stereo-tr estimate --example --out results
    stereo-tr estimate 'scenes/*/im0.png' 'scenes/*/im1.png' --out results
    stereo-tr estimate left.png right.png --out results --calibration calib.txt --depth --ply
    torchrun --nproc-per-node 2 -m stereo_tr.scripts.estimate lefts rights --out results

What is written: scripts/results.py. All pictures are read once before the first is matched, and the
files of a pair appear together, so that bad input leaves nothing half-written. With torchrun each
of n processes takes every n-th pair; the files are those of one process with as many threads.

Tests  tests/scripts/test_estimate.py, tests/scripts/test_bad_input.py
"""

import json
import math
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional

from stereo_tr.scripts.command import NO_DEFAULT, run

if TYPE_CHECKING:
    from stereo_tr.datasets.calibration import Calibration
    from stereo_tr.datasets.sample import StereoSample
    from stereo_tr.matcher import StereoResult
    from stereo_tr.scripts.pairing import ViewPair

EXAMPLE_SIZE = (480, 640)
EXAMPLE_SEED = 23

DESCRIPTION = (
    "A disparity map from two rectified photographs. Writes, into --out, NAME.pfm (float, pixels), "
    "NAME.png (16 bit, disparity x 256), NAME_color.png and NAME_occlusion.png; NAME is the left "
    "file without its suffix."
)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Settings of `stereo-tr estimate`."""

    left: Annotated[Positional[str | None], NO_DEFAULT] = None
    """left view: a picture, a folder of them, or a glob in quotes"""
    right: Annotated[Positional[str | None], NO_DEFAULT] = None
    """right view, of the same kind; folders and globs pair in sorted order"""
    out: Path
    """folder for the results; made if it isn't there"""
    example: bool = False
    """run on a generated pair, and compare with its truth"""
    weights: Annotated[str | None, NO_DEFAULT] = None
    """weights: a file, also an .onnx one of stereo-tr export, or a packaged name (default: the
    packaged ones)"""
    model: Annotated[str | None, NO_DEFAULT] = None
    """the model's name, where the weights don't tell"""
    device: str = "cpu"
    """where to compute: cpu, cuda, cuda:1, mps ..."""
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    """of products and convolutions; fp16 on CUDA only"""
    max_memory: Annotated[str | None, NO_DEFAULT] = None
    """what may be taken, like 2GB; the result is the same up to rounding"""
    thorough: bool = False
    """look at each pair enlarged as well: fewer errors, almost three times the time"""
    depth: bool = False
    """also write depth in metres, NAME_depth.pfm (inf = no depth)"""
    ply: bool = False
    """also write a coloured point cloud in metres, NAME.ply, where any point is near enough"""
    calibration: Annotated[Path | None, NO_DEFAULT] = None
    """calibration file of Middlebury (calib.txt) or KITTI"""
    focal_length: Annotated[float | None, NO_DEFAULT] = None
    """pixels; with --baseline, in place of a calibration file"""
    baseline: Annotated[float | None, NO_DEFAULT] = None
    """metres between the cameras"""
    principal_offset: Annotated[float | None, NO_DEFAULT] = None
    """pixels, right principal point's x less the left one's (Middlebury's doffs; default 0)"""


def estimate(settings: Estimate) -> list[Path]:
    """Write the results of every pair and return their paths."""
    from stereo_tr.datasets.files import writable_folder
    from stereo_tr.matcher import StereoMatcher
    from stereo_tr.processes import Processes
    from stereo_tr.progress import progress
    from stereo_tr.scripts import results

    if settings.example and settings.left is not None:
        raise ValueError(f"--example makes its own views; leave out {settings.left}, or --example")
    calibration = _calibration(settings)
    suffixes = results.suffixes(settings.depth, settings.ply)
    pairs = [] if settings.example else _pairs(settings, calibration, suffixes)
    with Processes(settings.device) as processes:
        matcher = StereoMatcher.from_pretrained(
            *(settings.weights, settings.model, processes.device),
            *(settings.precision, settings.max_memory, settings.thorough),
        )
        writable_folder(settings.out)
        truth = None
        if settings.example and processes.first:
            pair, truth = _example(settings.out)
            pairs = [pair]
        written = []
        mine = range(processes.rank, len(pairs), processes.count)
        # A single pair needs no bar.
        steps = progress(mine, label="estimate", hidden=len(pairs) == 1 or not processes.first)
        for index in steps:
            started = time.perf_counter()
            result = matcher(pairs[index].left, pairs[index].right)
            seconds = time.perf_counter() - started
            paths = _write(settings, pairs[index], result, calibration)
            written += [json.dumps((index, str(path))) for path in paths]
            steps.print(_report(pairs[index], result, seconds, paths))
            if truth is not None:
                steps.print(_comparison(result, truth))
        # In the order of the pairs; sorting keeps the files of a pair as they are.
        everyone = sorted(map(json.loads, processes.gather(written)), key=lambda each: each[0])
    return [Path(path) for _, path in everyone]


def _write(
    settings: Estimate,
    pair: "ViewPair",
    result: "StereoResult",
    calibration: "Calibration | None",
) -> list[Path]:
    """Write the files of one pair, all or none, and return their paths.

    Where no point is near enough for a cloud, it warns and writes the others: one such pair
    shouldn't cost the rest of a long job.
    """
    from stereo_tr.datasets.files import read_image, write_files
    from stereo_tr.scripts import results

    cloud = _path(settings.out, pair, ".ply")
    files = results.disparity_files(result, calibration)
    if settings.depth:
        files |= results.depth_file(result, calibration)
    if settings.ply:
        left = read_image(pair.left)
        try:
            files |= results.point_cloud_file(result, calibration, left)
        except ValueError as error:  # it was given maps, so it can't name the pair
            warnings.warn(f"{pair.left}: {error}; {cloud} isn't written", stacklevel=2)
    contents = {_path(settings.out, pair, suffix): content for suffix, content in files.items()}
    write_files(contents)
    if settings.ply and ".ply" not in files:
        cloud.unlink(missing_ok=True)  # an older result's cloud would pass for this one's
    return list(contents)


def _pairs(
    settings: Estimate, calibration: "Calibration | None", suffixes: Sequence[str]
) -> "list[ViewPair]":
    """The pairs asked for, every picture read and every output's place checked."""
    from stereo_tr.matcher import prepare_views
    from stereo_tr.scripts.pairing import find_pairs

    if settings.left is None or settings.right is None:
        raise ValueError(
            "give a left and a right view (stereo-tr estimate LEFT RIGHT), or --example"
        )
    pairs = find_pairs(settings.left, settings.right)
    for pair in pairs:
        height, width = prepare_views(pair.left, pair.right)[0].shape[1:]
        if calibration is not None and calibration.size not in (None, (height, width)):
            raise ValueError(
                f"{pair.left} has {width}x{height} px, but {settings.calibration} is made for "
                f"{calibration.size[1]}x{calibration.size[0]}; resized views need their own "
                "calibration (--focal-length, --baseline and --principal-offset)"
            )
    inputs = {view.resolve() for pair in pairs for view in (pair.left, pair.right)}
    outputs = Counter(_path(settings.out, pair, suffix) for pair in pairs for suffix in suffixes)
    for path, count in outputs.items():
        if path.resolve() in inputs:
            raise ValueError(f"{path}: a result would overwrite this view; choose another --out")
        if count > 1:
            raise ValueError(f"{path}: two results have this name; rename a left view")
    return pairs


def _calibration(settings: Estimate) -> "Calibration | None":
    """The cameras, if the settings tell of any."""
    from stereo_tr.datasets.calibration import Calibration, read_calibration

    metric = (settings.focal_length, settings.baseline, settings.principal_offset)
    if not all(math.isfinite(value) for value in metric if value is not None):
        raise ValueError(
            "--focal-length (pixels), --baseline (metres) and --principal-offset (pixels) must be "
            "finite; give plain numbers"
        )
    if settings.calibration is not None:
        if settings.focal_length is not None or settings.principal_offset is not None:
            raise ValueError(
                "--calibration already holds the focal length and the principal offset; give "
                "these or the file"
            )
        return read_calibration(settings.calibration, settings.baseline)
    if settings.focal_length is not None and settings.baseline is not None:
        if not (settings.focal_length > 0 and settings.baseline > 0):
            raise ValueError("--focal-length (pixels) and --baseline (metres) must be positive")
        return Calibration(
            settings.focal_length, settings.baseline, settings.principal_offset or 0.0
        )
    if settings.depth or settings.ply or any(value is not None for value in metric):
        raise ValueError(
            "metres need --focal-length (pixels) and --baseline (metres), or --calibration FILE"
        )
    return None


def _example(folder: Path) -> "tuple[ViewPair, StereoSample]":
    """Write the views of a generated scene; return them as a pair, with the truth."""
    from stereo_tr.datasets.files import write_png
    from stereo_tr.datasets.generated import GeneratedScenes
    from stereo_tr.pictures import view_picture
    from stereo_tr.scripts.pairing import ViewPair

    sample = GeneratedScenes(*EXAMPLE_SIZE, seed=EXAMPLE_SEED, photographs=False)[0]
    pair = ViewPair(folder / "example_left.png", folder / "example_right.png", "example")
    for path, view in zip(pair[:2], (sample.left, sample.right), strict=True):
        write_png(path, view_picture(view))
    print(f"example: {pair.left}, {pair.right}")
    return pair, sample


def _path(folder: Path, pair: "ViewPair", suffix: str) -> Path:
    return folder / f"{pair.name}{suffix}"


def _report(pair: "ViewPair", result: "StereoResult", seconds: float, paths: Sequence[Path]) -> str:
    height, width = result.disparity.shape
    low, high = result.disparity.min(), result.disparity.max()
    return (
        f"{pair.name}: {width}x{height} px, disparity {low:.1f} to {high:.1f} px, "
        f"{(result.occlusion > 0.5).mean():.1%} occluded, {seconds:.2f} s\n  "
        + "\n  ".join(map(str, paths))
    )


def _comparison(result: "StereoResult", truth: "StereoSample") -> str:
    import torch

    from stereo_tr.stereo.metrics import bad_n, epe

    guess = torch.from_numpy(result.disparity)
    everywhere, seen = truth.valid, truth.valid & ~truth.occluded
    return "  error against the known truth: " + ", ".join(
        f"{name} EPE {epe(guess, truth.disparity, mask):.2f} px, "
        f"bad-2 {bad_n(guess, truth.disparity, mask, 2):.1f} %"
        for name, mask in (("visible pixels", seen), ("all pixels", everywhere))
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `stereo-tr estimate`."""
    run(Estimate, estimate, "estimate", DESCRIPTION, arguments)


if __name__ == "__main__":
    main()
