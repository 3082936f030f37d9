"""Scores of disparity maps: one row an image and method, and their means, as JSON.

Two means are kept apart. "images": each image counts once, however large. "pixels": the pixels of
all images are pooled, so that a large image, or one with much known truth, counts for more. Papers
use both, often in one table; `protocols` says which uses which.

Tests  tests/scripts/test_scores.py, tests/scripts/test_evaluate.py
"""

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from stereo_tr.datasets.sample import StereoSample
from stereo_tr.stereo.metrics import (
    OcclusionPixels,
    bad_n,
    d1,
    epe,
    near_depth_edges,
    occlusion_pixels,
)

THRESHOLDS = (0.5, 1, 2, 3, 4, 5)
"""pixels: those of Middlebury v3 and ETH3D (0.5, 1, 2, 4) and of KITTI 2012 (2, 3, 4, 5)"""
METRICS = {"epe": epe} | {f"bad_{n:g}": partial(bad_n, n=n) for n in THRESHOLDS} | {"d1": d1}
"""name -> function of disparity, truth and mask; epe in pixels, the others in percent"""

LARGEST_SEARCHED = 192
"""pixels: many networks search no further, and their papers leave out truth from there on"""

AREAS = {
    "all": "every pixel whose disparity is known, nothing cut off by size",
    "non_occluded": "those that the right camera sees too; left out where a data set doesn't tell",
    "occluded": "those that it doesn't see",
    "near_edges": "known, within 4 px (rows and columns) of a step of more than 2 px in the truth",
    "background": "known, outside the objects of KITTI 2015's obj_map",
    "foreground": "known, on them: vehicles",
    "background_non_occluded": "both",
    "foreground_non_occluded": "both",
    "all_below_192": "known, truth below 192 px",
    "non_occluded_below_192": "both",
}
"""name -> which pixels"""

PROTOCOL = (
    "EPE: mean |error| in px. bad-n: % of pixels with |error| > n px. "
    "D1: % with |error| > 3 px and > 5 % of the truth. "
    f"All: {AREAS['all']}. Non-occluded: {AREAS['non_occluded']}. "
    f"Near edges: {AREAS['near_edges']}. "
    "Occlusion IoU and F1: pixels called occluded (probability > 0.5), within the known ones. "
    '"Mean of n": each image counts once; "pixels of n": their pixels pooled. '
    "Seconds: wall clock of one pair, from arrays to arrays; means show the median."
)

Area = dict[str, float]


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
    mean_over: Literal["images", "pixels"] | None
    """None: one image"""
    images_with_occlusion: int
    """how many of these say which pixels are occluded; only they enter the other areas' means"""
    pixels: dict[str, int]
    """how many known pixels lie in each of AREAS"""
    all: Area
    """METRICS over every known pixel; the other AREAS likewise"""
    non_occluded: Area
    occluded: Area
    near_edges: Area
    background: Area
    foreground: Area
    background_non_occluded: Area
    foreground_non_occluded: Area
    all_below_192: Area
    non_occluded_below_192: Area
    occlusion_pixels: dict[str, int]
    """how many pixels are known, occluded, called occluded, and both"""
    occlusion_iou: float
    """in [0, 1]"""
    occlusion_f1: float
    """in [0, 1]"""
    occlusion_iou_of_both_classes: float
    """in [0, 1]: the intersections of both classes, occluded and seen, over the sum of their
    unions; the IoU of STTR and CSTR"""
    seconds: float

    def score(self, area: str, metric: str) -> float:
        """Look up one of METRICS in one of AREAS, or in area "occlusion" iou, f1, ..."""
        if area == "occlusion":
            return getattr(self, f"occlusion_{metric}")
        return getattr(self, area)[metric]


def score(
    disparity: Float[np.ndarray, "H W"],
    occluded: Bool[np.ndarray, "H W"],
    sample: StereoSample,
    occlusion_known: bool,
    method: str,
    group: str,
    seconds: float,
    foreground: Bool[np.ndarray, "H W"] | None = None,
) -> Row:
    """Score one disparity map, and the pixels said to be occluded, against the truth.

    `foreground` is where the data set says an object is; None where it doesn't tell.
    """
    guess, said = torch.from_numpy(disparity), torch.from_numpy(occluded)
    areas = _areas(sample, occlusion_known, foreground)
    counted = occlusion_pixels(said, sample.occluded, sample.valid & occlusion_known)
    return Row(
        scene=str(sample.name),
        group=group,
        method=method,
        images=1,
        mean_over=None,
        images_with_occlusion=int(occlusion_known),
        pixels={area: int(mask.sum()) for area, mask in areas.items()},
        occlusion_pixels={name: int(count) for name, count in counted._asdict().items()},
        seconds=seconds,
        **_occlusion_scores(counted),
        **{area: _measure(guess, sample.disparity, mask) for area, mask in areas.items()},
    )


def _areas(
    sample: StereoSample, occlusion_known: bool, foreground: Bool[np.ndarray, "H W"] | None
) -> dict[str, Tensor]:
    """Where each of AREAS lies; nowhere, if the data set doesn't tell."""
    valid = sample.valid
    seen = valid & occlusion_known & ~sample.occluded
    told = torch.full_like(valid, foreground is not None)
    objects = told if foreground is None else torch.from_numpy(foreground)
    searched = sample.disparity < LARGEST_SEARCHED
    return {
        "all": valid,
        "non_occluded": seen,
        "occluded": valid & occlusion_known & sample.occluded,
        "near_edges": valid & near_depth_edges(sample.disparity, valid),
        "background": valid & told & ~objects,
        "foreground": valid & objects,
        "background_non_occluded": seen & told & ~objects,
        "foreground_non_occluded": seen & objects,
        "all_below_192": valid & searched,
        "non_occluded_below_192": seen & searched,
    }


def _measure(guess: Tensor, truth: Tensor, mask: Tensor) -> Area:
    """METRICS over the mask, in float64 so that pooled means are those of the pixels."""
    guess, truth = guess[mask].double()[None], truth[mask].double()[None]
    everywhere = torch.ones_like(truth, dtype=torch.bool)
    return {name: f(guess, truth, everywhere).item() for name, f in METRICS.items()}


def _occlusion_scores(counted: OcclusionPixels) -> dict[str, float]:
    return {
        "occlusion_iou": counted.iou().item(),
        "occlusion_f1": counted.f1().item(),
        "occlusion_iou_of_both_classes": counted.iou_of_both_classes().item(),
    }


def mean(rows: Sequence[Row], group: str) -> Row:
    """Average rows of one method, each image counting once, leaving out what isn't known."""
    occlusion = {
        name: _mean_of_known(getattr(row, name) for row in rows)
        for name in ("occlusion_iou", "occlusion_f1", "occlusion_iou_of_both_classes")
    }
    areas = {
        area: {name: _mean_of_known(row.score(area, name) for row in rows) for name in METRICS}
        for area in AREAS
    }
    return Row(mean_over="images", **_sums(rows, group), **occlusion, **areas)


def pooled(rows: Sequence[Row], group: str) -> Row:
    """Average rows of one method as if all their pixels were in one image."""
    sums = _sums(rows, group)
    areas = {area: {name: pooled_score(rows, area, name) for name in METRICS} for area in AREAS}
    counts = {
        name: torch.tensor(n, dtype=torch.float64) for name, n in sums["occlusion_pixels"].items()
    }
    return Row(mean_over="pixels", **sums, **_occlusion_scores(OcclusionPixels(**counts)), **areas)


def pooled_score(rows: Sequence[Row], area: str, metric: str) -> float:
    """One of METRICS over the pixels of all rows; nan where there is none."""
    known = [(row.pixels[area], row.score(area, metric)) for row in rows if row.pixels[area]]
    total = sum(pixels for pixels, _ in known)
    return math.fsum(pixels * value for pixels, value in known) / total if total else math.nan


def _sums(rows: Sequence[Row], group: str) -> dict[str, Any]:
    """What both means share: counts add up; of the seconds, the median."""
    return {
        "scene": None,
        "group": group,
        "method": rows[0].method,
        "images": len(rows),
        "images_with_occlusion": sum(row.images_with_occlusion for row in rows),
        "pixels": _added(row.pixels for row in rows),
        "occlusion_pixels": _added(row.occlusion_pixels for row in rows),
        "seconds": statistics.median(row.seconds for row in rows),
    }


def _added(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    counts = list(counts)
    return {name: sum(count[name] for count in counts) for name in counts[0]}


def _mean_of_known(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return statistics.fmean(known) if known else math.nan


@dataclass(frozen=True)
class Published:
    """What one protocol makes of one method on one group of images."""

    protocol: str
    group: str
    method: str
    images: int
    published_images: tuple[int, ...]
    """how many images published numbers are means over; several where sets differ rightly"""
    figures: dict[str, float]
    """name, as the benchmark or the paper has it -> value; nan: the data don't tell"""
    figure_images: dict[str, int]
    """name -> how many of the images tell it: fewer than `images` where files are missing"""


@dataclass(frozen=True)
class Scores:
    """Everything that one evaluation found."""

    images: tuple[Row, ...]
    means: tuple[Row, ...]
    """for each method, over each folder of scenes; where there are several, over all images too;
    each image counts once"""
    pooled: tuple[Row, ...]
    """the same over pixels"""
    published: tuple[Published, ...]
    """by the protocols that were asked for"""
    settings: dict[str, Any]
    """how the command was called, and the peer's parameters where there is one"""
    versions: dict[str, str]
    protocol: str
    """what the numbers of the rows mean"""

    def as_json(self) -> str:
        """Write everything as JSON, with null where a number isn't known."""
        return json.dumps(_without_nan(asdict(self)), indent=1, allow_nan=False)


def summarize(rows: Sequence[Row], methods: Sequence[str]) -> tuple[list[Row], list[Row]]:
    """For each method the means over each group and, where there are several, over all images.

    Returns those over images and those over pixels.
    """
    chosen = [
        (group, [row for row in rows if row.method == method and group in (row.group, "all")])
        for group in groups(rows)
        for method in methods
    ]
    return [mean(part, group) for group, part in chosen], [
        pooled(part, group) for group, part in chosen
    ]


def groups(rows: Sequence[Row]) -> list[str]:
    """The groups of images, and "all" where there are several."""
    names = list(dict.fromkeys(row.group for row in rows))
    return [*names, "all"] if len(names) > 1 else names


def _without_nan(value: Any) -> Any:
    """Replace what JSON can't write: nan and the infinities."""
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
