"""How published numbers are made, by name, so that a number can be put beside one of them.

    stereo-tr evaluate --data kitti2015 --root DIR --protocol kitti2015
    stereo-tr evaluate --list-protocols

Each protocol says which pixels count, what is wrong, over what the mean is taken, which truth is
cut off by size, and on how many images; `describe` lays that out. A protocol scores whatever pairs
it is given; where these aren't as many as the published ones, the result says so.

Traps, and what is done about them:

* "D1" is KITTI 2015's two conditions (> 3 px and > 5 %) here; RAFT-Stereo's "D1" is a 3-px rate.
* KITTI 2012 averages over images, KITTI 2015 over pixels, STTR and CSTR one figure each way.
* Middlebury's own table is made at full size (F): a result at H or Q is enlarged before, so that
  its 2 px are 1 px at H and half a pixel at Q. Only middlebury_v3_f compares with the table.
* A cut at 192 px leaves out the nearest things; on Middlebury it would leave out half a scene.

Source  the field's own pages and code, as each protocol names them
Tests   tests/scripts/test_protocols.py
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from stereo_tr.datasets.naming import closest
from stereo_tr.scripts.scores import Published, Row, groups, pooled_score


class Figure(NamedTuple):
    """One published number."""

    name: str
    """as the benchmark or the paper has it"""
    area: str
    """one of `scores.AREAS`, or "occlusion" """
    metric: str
    """one of `scores.METRICS`, or an occlusion score"""
    mean_over: Literal["images", "pixels"]


@dataclass(frozen=True)
class Protocol:
    """How one benchmark or paper makes its numbers."""

    data: str
    """what the published numbers are about"""
    images: tuple[int, ...]
    """how many pairs that is"""
    figures: tuple[Figure, ...]
    rule: str
    """which pixels, what is wrong, the mean over what"""
    largest: str
    """which truth is left out by size"""
    source: str
    weights: Mapping[str, float] = field(default_factory=dict)
    """scene -> its weight in a mean over images; 1 where not named"""


def _grid(
    names: Mapping[str, str], areas: Mapping[str, str], mean_over: Literal["images", "pixels"]
) -> tuple[Figure, ...]:
    """Every metric in every area: metric -> its name, area -> what is put behind the name."""
    return tuple(
        Figure(f"{name} {suffix}".strip(), area, metric, mean_over)
        for metric, name in names.items()
        for area, suffix in areas.items()
    )


_BOTH = {"non_occluded": "noc", "all": "all"}
_MIDDLEBURY = {"bad_0.5": "bad-0.5", "bad_1": "bad-1", "bad_2": "bad-2", "bad_4": "bad-4"}
_MIDDLEBURY |= {"epe": "avgerr"}
_WHOLE = "none"
_CUT = "truth from 192 px on is left out"
_HALF = ("PianoL", "Playroom", "Playtable", "Shelves", "Vintage")


def _sceneflow(area: str) -> tuple[Figure, ...]:
    rates = {"epe": "EPE (pixels)", "bad_1": "> 1 px", "bad_3": "> 3 px", "d1": "D1"}
    return (Figure("EPE (images)", area, "epe", "images"), *_grid(rates, {area: ""}, "pixels"))


PROTOCOLS: dict[str, Protocol] = {
    "kitti2012": Protocol(
        data="kitti2012 (the server's table: its 195 test pairs)",
        images=(194, 195),
        figures=_grid({f"bad_{n}": f"Out-{n}px" for n in (2, 3, 4, 5)}, _BOTH, "images")
        + _grid({"epe": "Avg"}, _BOTH, "images"),
        rule="Out-n: % wrong by > n px (no 5 % term; 3 px by default). Avg: mean error in px. "
        "Non-occluded (noc: disp_noc) and all (disp_occ). Mean over images",
        largest=_WHOLE,
        source="Geiger, Lenz and Urtasun 2012; development kit, evaluate_stereo (statMean)",
    ),
    "kitti2015": Protocol(
        data="kitti2015 (the server's table: its 200 test pairs)",
        images=(200,),
        figures=(
            Figure("D1-bg", "background", "d1", "pixels"),
            Figure("D1-fg", "foreground", "d1", "pixels"),
            Figure("D1-all", "all", "d1", "pixels"),
            Figure("D1-bg noc", "background_non_occluded", "d1", "pixels"),
            Figure("D1-fg noc", "foreground_non_occluded", "d1", "pixels"),
            Figure("D1-all noc", "non_occluded", "d1", "pixels"),
        ),
        rule="D1: % wrong by > 3 px and by > 5 % of the truth. bg: obj_map is 0; fg: it isn't. "
        "All (disp_occ_0) and non-occluded (noc: disp_noc_0). Mean over the pixels of all images",
        largest=_WHOLE,
        source="Menze and Geiger 2015; development kit, evaluate_scene_flow (statWeightedMean)",
    ),
    "middlebury_v3": Protocol(
        data="middlebury_v3_f (the table's training page)",
        images=(15,),
        figures=_grid(_MIDDLEBURY, _BOTH, "images"),
        rule="bad-n: % wrong by > n px at full size (F). avgerr: mean error in px. Non-occluded "
        f"(mask0nocc is 255) and all. Mean over images, in which {', '.join(_HALF)} count half",
        largest=_WHOLE,
        source="https://vision.middlebury.edu/stereo/eval3/; Scharstein et al. 2014",
        weights=dict.fromkeys(_HALF, 0.5),
    ),
    "eth3d": Protocol(
        data="eth3d (the table's training page)",
        images=(27,),
        figures=_grid(_MIDDLEBURY, _BOTH, "images"),
        rule="bad-n: % wrong by > n px. avgerr: mean error in px. Non-occluded (mask0nocc is 255) "
        "and all. Mean over images",
        largest=_WHOLE,
        source="https://www.eth3d.net/low_res_two_view; Schöps et al. 2017",
    ),
    "sceneflow": Protocol(
        data="flyingthings3d_test (final pass)",
        images=(4370,),
        figures=_sceneflow("all"),
        rule="EPE in px, papers differ in the mean, so both. > n px and D1: % over the pixels of "
        "all images. All pixels",
        largest=_WHOLE,
        source="Mayer et al. 2016; IGEV, FoundationStereo and others report it so or cut",
    ),
    "sceneflow_192": Protocol(
        data="flyingthings3d_test (final pass)",
        images=(4370,),
        figures=_sceneflow("all_below_192"),
        rule="as sceneflow",
        largest=_CUT,
        source="PSMNet (Chang and Chen 2018), GwcNet, RAFT-Stereo and most after them",
    ),
    "sttr": Protocol(
        data="STTR: flyingthings3d_subset_val, kitti2015, sintel, scared; Middlebury at Q",
        images=(),
        figures=(
            Figure("> 3 px noc", "non_occluded", "bad_3", "pixels"),
            Figure("EPE noc", "non_occluded", "epe", "images"),
            Figure("occlusion IoU (both classes)", "occlusion", "iou_of_both_classes", "images"),
        ),
        rule="> 3 px: % over the non-occluded pixels of all images. EPE: non-occluded, mean over "
        "images. IoU: over both classes (occluded, seen), mean over images",
        largest=_WHOLE,
        source="Li et al. 2021, https://arxiv.org/abs/2011.02910, and its code",
    ),
    "cstr": Protocol(
        data="CSTR: flyingthings3d_test, kitti2015, sintel, scared, middlebury_v3_q",
        images=(),
        figures=(
            Figure("> 1 px noc", "non_occluded", "bad_1", "pixels"),
            Figure("> 3 px noc", "non_occluded", "bad_3", "pixels"),
            Figure("EPE noc", "non_occluded", "epe", "images"),
            Figure("occlusion IoU (both classes)", "occlusion", "iou_of_both_classes", "images"),
        ),
        rule="as sttr, and on SceneFlow % > 1 px",
        largest=_WHOLE,
        source="Guo et al. 2022 (CSTR), and its code",
    ),
    "nerf_supervised": Protocol(
        data="kitti2012 and kitti2015 (read > 3 px), middlebury_v3_f, _h, _q (> 2 px), "
        "eth3d (> 1 px)",
        images=(194, 200, 15, 27),
        figures=_grid(
            {"bad_1": "> 1 px", "bad_2": "> 2 px", "bad_3": "> 3 px", "epe": "EPE"},
            {"all": "all", "non_occluded": "noc"},
            "images",
        ),
        rule="% wrong by > n px (no 5 % term) and EPE, all and non-occluded pixels, authors' "
        "weights without fine-tuning. Mean over images, none of which counts half",
        largest=_WHOLE,
        source="Tosi et al. 2023, table 6, and its code (test.py)",
    ),
}


def check(names: Sequence[str], data: str) -> None:
    """Raise ValueError for a name that isn't known; warn where `data` can't give that number."""
    for name in names:
        if name not in PROTOCOLS:
            raise ValueError(f"unknown protocol {name!r}; {closest(name, PROTOCOLS)}")
    if "middlebury_v3" in names and data in ("middlebury_v3_h", "middlebury_v3_q"):
        warnings.warn(
            f"--protocol middlebury_v3 means pixels of the full size, which {data} doesn't have: "
            "only middlebury_v3_f gives numbers to put beside the benchmark's table",
            stacklevel=2,
        )


def apply(names: Sequence[str], rows: Sequence[Row]) -> list[Published]:
    """Make the numbers of each protocol for each group and method."""
    return [
        _published(name, group, [row for row in rows if row.method == method and row.group in here])
        for name in names
        for group in groups(rows)
        for here in [{row.group for row in rows} if group == "all" else {group}]
        for method in dict.fromkeys(row.method for row in rows)
    ]


def _published(name: str, group: str, rows: Sequence[Row]) -> Published:
    protocol = PROTOCOLS[name]
    return Published(
        protocol=name,
        group=group,
        method=rows[0].method,
        images=len(rows),
        published_images=protocol.images,
        figures={
            figure.name: _value(figure, rows, protocol.weights) for figure in protocol.figures
        },
        figure_images={
            figure.name: sum(_tells(row, figure) for row in rows) for figure in protocol.figures
        },
    )


def _value(figure: Figure, rows: Sequence[Row], weights: Mapping[str, float]) -> float:
    """The figure over the images that tell it; nan where none does."""
    if figure.mean_over == "pixels":
        return pooled_score(rows, figure.area, figure.metric)
    scores = [
        (weights.get(str(row.scene).rpartition("/")[2], 1.0), row.score(figure.area, figure.metric))
        for row in rows
    ]
    known = [(weight, value) for weight, value in scores if not math.isnan(value)]
    total = sum(weight for weight, _ in known)
    return math.fsum(weight * value for weight, value in known) / total if known else math.nan


def _tells(row: Row, figure: Figure) -> bool:
    """Whether the image enters the figure, be it with nothing: a street without a vehicle does."""
    if figure.mean_over == "images":
        return not math.isnan(row.score(figure.area, figure.metric))
    behind = figure.area.replace("foreground", "background")
    return any(row.pixels[area] for area in (behind, behind.replace("background", "foreground")))


def describe(names: Sequence[str] = tuple(PROTOCOLS)) -> str:
    """Lay out what each protocol does, as text of a few lines each."""
    return "\n\n".join(_description(name, PROTOCOLS[name]) for name in names)


def _description(name: str, protocol: Protocol) -> str:
    pairs = " or ".join(f"{count:,}" for count in protocol.images)
    return "\n".join(
        [
            f"{name}: on {protocol.data}" + (f", {pairs} pairs." if pairs else "."),
            f"  {protocol.rule}.",
            f"  Maximal disparity: {protocol.largest}. Source: {protocol.source}.",
        ]
    )
