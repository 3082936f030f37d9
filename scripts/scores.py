"""Scores of disparity maps: one row an image and method, their means, as a table and as JSON.

Tests  tests/scripts/test_evaluate.py
"""

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float

from stereo_tr.datasets.sample import StereoSample
from stereo_tr.stereo.metrics import bad_n, d1, epe, occlusion_f1, occlusion_iou

METRICS = {
    "epe": epe,
    "bad_1": lambda guess, truth, mask: bad_n(guess, truth, mask, 1),
    "bad_2": lambda guess, truth, mask: bad_n(guess, truth, mask, 2),
    "bad_3": lambda guess, truth, mask: bad_n(guess, truth, mask, 3),
    "d1": d1,
}
"""name -> function of disparity, truth and mask; epe in pixels, the others in percent"""

PROTOCOL = (
    "EPE: mean |error| in px. bad-n: % of pixels with |error| > n px. "
    "D1: % with |error| > 3 px and > 5 % of the truth. "
    "All: every pixel whose disparity is known; nothing is cut off by size. "
    "Non-occluded: those that the right camera sees too; left out where a data set doesn't tell. "
    "Occlusion IoU: pixels called occluded, within the known ones. "
    "Means are means over images, each image counting once. "
    "Seconds: wall clock of one pair, from arrays to arrays; means show the median."
)


@dataclass(frozen=True)
class Row:
    """The scores of one method on one image, or the mean over several. nan: not known."""

    scene: str | None
    """None: a mean"""
    group: str
    """the folder of scenes, or "all" """
    method: str
    images: int
    """1, or how many a mean is taken over"""
    images_with_occlusion: int
    """how many of these say which pixels are occluded; only they enter the other areas' means"""
    all: dict[str, float]
    """METRICS over every known pixel"""
    non_occluded: dict[str, float]
    occluded: dict[str, float]
    occlusion_iou: float
    """in [0, 1]"""
    occlusion_f1: float
    """in [0, 1]"""
    seconds: float


def score(
    disparity: Float[np.ndarray, "H W"],
    occluded: Bool[np.ndarray, "H W"],
    sample: StereoSample,
    occlusion_known: bool,
    method: str,
    group: str,
    seconds: float,
) -> Row:
    """Score one disparity map, and the pixels said to be occluded, against the truth."""
    guess, said = torch.from_numpy(disparity), torch.from_numpy(occluded)
    told = sample.valid & occlusion_known
    areas = {
        "all": sample.valid,
        "non_occluded": told & ~sample.occluded,
        "occluded": told & sample.occluded,
    }
    return Row(
        scene=str(sample.name),
        group=group,
        method=method,
        images=1,
        images_with_occlusion=int(occlusion_known),
        occlusion_iou=occlusion_iou(said, sample.occluded, told).item(),
        occlusion_f1=occlusion_f1(said, sample.occluded, told).item(),
        seconds=seconds,
        **{
            area: {name: f(guess, sample.disparity, mask).item() for name, f in METRICS.items()}
            for area, mask in areas.items()
        },
    )


def mean(rows: Sequence[Row], group: str) -> Row:
    """Average rows of one method, leaving out what isn't known; of the seconds, the median."""
    return Row(
        scene=None,
        group=group,
        method=rows[0].method,
        images=len(rows),
        images_with_occlusion=sum(row.images_with_occlusion for row in rows),
        occlusion_iou=_mean_of_known(row.occlusion_iou for row in rows),
        occlusion_f1=_mean_of_known(row.occlusion_f1 for row in rows),
        seconds=statistics.median(row.seconds for row in rows),
        **{
            area: {
                name: _mean_of_known(getattr(row, area)[name] for row in rows) for name in METRICS
            }
            for area in ("all", "non_occluded", "occluded")
        },
    )


def _mean_of_known(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return statistics.fmean(known) if known else math.nan


@dataclass(frozen=True)
class Scores:
    """Everything that one evaluation found."""

    images: tuple[Row, ...]
    means: tuple[Row, ...]
    """for each method, over each folder of scenes; where there are several, over all images too"""
    settings: dict[str, Any]
    """how the command was called, and the peer's parameters where there is one"""
    versions: dict[str, str]
    protocol: str
    """what the numbers mean"""

    def as_json(self) -> str:
        """Write everything as JSON, with null where a number isn't known."""
        return json.dumps(_without_nan(asdict(self)), indent=1, allow_nan=False)

    def as_table(self) -> str:
        """Lay everything out for reading, with - where a number isn't known."""
        rows = [*self.images, *self.means]
        names = [row.scene or f"mean of {row.images} in {row.group}" for row in rows]
        width = max(map(len, ["scene", *names]))
        method_width = max(len(row.method) for row in rows)
        left = f"{'scene':{width}}  {'method':{method_width}} "
        five = "".join(f"{name:>7}" for name in ("EPE", "bad-1", "bad-2", "bad-3", "D1"))
        head = f"{left}{five} {five} {'EPE':>7}{'bad-2':>7}{'IoU':>7}{'seconds':>9}"
        areas = f"{'':{len(left)}}{' all ':-^35} {' non-occluded ':-^35} {' occluded ':-^21}"
        lines = [areas, head]
        for index, (name, row) in enumerate(zip(names, rows, strict=True)):
            if index == len(self.images):
                lines.append("-" * len(head))
            ours = " ".join(
                "".join(_cell(value, 7) for value in area.values())
                for area in (row.all, row.non_occluded)
            )
            rest = [row.occluded["epe"], row.occluded["bad_2"], row.occlusion_iou]
            cells = "".join(_cell(value, 7) for value in rest) + _cell(row.seconds, 9, 3)
            lines.append(f"{name:{width}}  {row.method:{method_width}} {ours} {cells}")
        return "\n".join(lines)


def _cell(value: float, width: int, digits: int = 2) -> str:
    return f"{'-':>{width}}" if math.isnan(value) else f"{value:{width}.{digits}f}"


def _without_nan(value: Any) -> Any:
    """Replace what JSON can't write: nan and the infinities."""
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
