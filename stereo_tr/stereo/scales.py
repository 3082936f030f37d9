"""A pair matched at two scales, and for every pixel the surer answer.

Seen small, a picture shows what a flat wall belongs to: a token covers more of it, and fewer steps
lead to its edge. Seen large, it shows detail. So a model that tells its own confidence is asked
twice: at `coarse` of the scale for a sixth of the cost, and at full scale, where matches that the
coarse look excludes cost more. The coarse answer stands where it is clearly surer. With time to
spare it is asked a third time, of the pair enlarged. Where the coarse look finds points in other
rows of the right view, that view is moved first. What is unsure on blank walls then goes on as
the wall does, pixels that the right camera doesn't see take the background's disparity, and depth
edges move to where both photographs have them.

Letters  B batch, H W image in pixels, h w the same at another scale
Tests    tests/stereo/test_scales.py; what it gains on real pairs: docs/accuracy.md
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .edges import sharpen_edges
from .expectation import Expectation
from .output import Candidates, maps_only
from .planes import complete
from .rectification import moved_up, vertical_offset

LEAST_ENLARGEMENT = 1.05
"""a pair that is nearly large enough is matched as it is"""
COARSE_PENALTY = 0.3
"""the coarse answer stands where its confidence times this exceeds the fine one's: its confidence
is about pixels of a smaller picture, and detail is lost there"""
FINER, FINER_PENALTY = 1.4, 0.8
"""how much larger a third look is than the usual one, and that one's penalty beside it"""
HIDDEN = 0.5
"""occlusion probability above which a pixel takes the background's disparity"""
MATCHED = 0.8
"""confidence of pixels that tell in which rows of the right view points lie"""
MOVES = 4
"""times that the right view is moved at most: after the first, more is sure"""


class Scales(NamedTuple):
    """At which scales a model is to be asked."""

    least_pixels: int = 0
    """smaller pairs are enlarged to this many pixels; tokens are several pixels wide"""
    coarse: float | None = None
    """the scale of a look before, as a share of the usual one; None: ask once, change nothing"""
    finer: float | None = None
    """the scale of a look after, as a multiple of the usual one"""
    guided: bool = False
    """whether the model takes what the look before found as a third argument"""

    def thorough(self) -> "Scales":
        """Return the same with a third look; ValueError where a model is asked once."""
        if self.coarse is None:
            raise ValueError(
                "a thorough look is for models that are asked at several scales (cstr_small); this "
                "one is asked once, as it was published"
            )
        return self._replace(finer=FINER)


class Maps(NamedTuple):
    """What a model says about every pixel of the left view."""

    disparity: Float[Tensor, "B H W"]
    """pixels"""
    occlusion: Float[Tensor, "B H W"]
    confidence: Float[Tensor, "B H W"]


class Look(NamedTuple):
    """What a model says at one scale, at the size of the views."""

    maps: Maps
    candidates: Candidates | None


class Matched(NamedTuple):
    """What all looks together say."""

    maps: Maps
    row_offset: Float[Tensor, "B 3"] | None
    """how the right view was moved first (see `vertical_offset`); None: it wasn't looked into"""


def fine_factor(scales: Scales, height: int, width: int) -> float:
    """Return by how much a pair of that size is enlarged for the usual look."""
    factor = (scales.least_pixels / (height * width)) ** 0.5
    return factor if factor >= LEAST_ENLARGEMENT else 1.0


def largest_factor(scales: Scales, height: int, width: int) -> float:
    """Return by how much such a pair is enlarged at most."""
    return fine_factor(scales, height, width) * (scales.finer or 1.0)


def match_at_scales(
    model: nn.Module,
    left: Float[Tensor, "B 3 H W"],
    right: Float[Tensor, "B 3 H W"],
    scales: Scales,
) -> Matched:
    """Match two views, RGB in [0, 1], as `scales` says; maps have the size of the views."""
    factor = fine_factor(scales, *left.shape[-2:])
    if scales.coarse is None:
        return Matched(look(model, left, right, factor).maps, None)
    coarse, right, row_offset = _with_rows_aligned(model, left, right, factor * scales.coarse)
    chosen, candidates = look(model, left, right, factor, coarse if scales.guided else None)
    if scales.finer is not None:
        guide = _surer(chosen, coarse, COARSE_PENALTY) if scales.guided else None
        finer, candidates = look(model, left, right, factor * scales.finer, guide)
        chosen = _surer(finer, chosen, FINER_PENALTY)
    chosen = _surer(chosen, coarse, COARSE_PENALTY)
    visible = chosen.occlusion <= HIDDEN
    known = complete(chosen.disparity, chosen.confidence, visible, left)
    edges = sharpen_edges(*known, visible, left, right, candidates)
    return Matched(chosen._replace(disparity=edges), row_offset)


def _with_rows_aligned(
    model: nn.Module, left: Float[Tensor, "B 3 H W"], right: Float[Tensor, "B 3 H W"], factor: float
) -> tuple[Maps, Float[Tensor, "B 3 H W"], Float[Tensor, "B 3"]]:
    """What is found at `factor`, the right view moved where its rows are others, and how it was."""
    found, moved, offset = (
        look(model, left, right, factor).maps,
        right,
        left.new_zeros(len(left), 3),
    )
    for _ in range(MOVES):
        sure = (found.confidence > MATCHED) & (found.occlusion <= HIDDEN)
        before, offset = offset, vertical_offset(left, right, found.disparity, sure, offset)
        if torch.equal(offset, before):
            break
        moved = moved_up(right, offset)
        found = look(model, left, moved, factor).maps
    return found, moved, offset


def _surer(fine: Maps, coarse: Maps, penalty: float) -> Maps:
    """The coarse answer where its confidence times `penalty` exceeds the fine one's."""
    surer = coarse.confidence * penalty > fine.confidence
    return Maps(*(torch.where(surer, c, f) for c, f in zip(coarse, fine, strict=True)))


def look(
    model: nn.Module,
    left: Float[Tensor, "B 3 H W"],
    right: Float[Tensor, "B 3 H W"],
    factor: float,
    before: Maps | None = None,
) -> Look:
    """Match two views resized by `factor`; maps have the size of the views all the same.

    `before` is what another look found; a guided model is told so.
    """
    size = left.shape[-2:]
    height, width = (max(1, round(side * factor)) for side in size)
    views = (left, right)
    told = () if before is None else (before.disparity, before.confidence)
    if factor != 1:
        views = (_resized(view, (height, width)).clamp(0, 1) for view in views)
        told = tuple(F.interpolate(map_[:, None], (height, width))[:, 0] for map_ in told)
    if told:
        told = (Expectation(told[0] * (width / size[1]), told[1]),)
    with maps_only():
        found = model(*views, *told)
    # A model of the user's own may return three maps and no more.
    maps, candidates = found[:3], getattr(found, "candidates", None)
    del found  # whose details are large
    if factor == 1:
        return Look(Maps(*maps), candidates)
    wider = size[1] / width  # a length along a row grows with the width
    disparity, *shares = (
        F.interpolate(map_[:, None], size, mode="bilinear")[:, 0] for map_ in maps
    )
    if candidates is not None:  # what is between two of them wasn't found
        own, sure = (
            F.interpolate(map_[:, None], size, mode="nearest-exact")[:, 0] for map_ in candidates
        )
        candidates = Candidates(own * wider, sure)
    return Look(Maps(disparity * wider, *shares), candidates)


def _resized(view: Float[Tensor, "B 3 H W"], size: tuple[int, int]) -> Float[Tensor, "B 3 h w"]:
    return F.interpolate(view, size, mode="bicubic", antialias=size[1] < view.shape[-1])
