"""How wrong a disparity map is, and how well occlusion was found: one number an image.

Every function takes its mask explicitly and counts only the pixels where the mask is True, so
"all pixels" and "non-occluded pixels" are two calls that differ in one argument. The results are
one an image, [*B]: the mean over a data set is then the mean over its images, in which a large
image weighs no more than a small one. An image whose mask is empty has no score: nan, which the
caller leaves out of a mean (`Tensor.nanmean`) and says so.

Letters  *B any batch axes, H W image height and width in pixels
Units    disparities in pixels, `bad_n` and `d1` in percent [0, 100], occlusion scores in [0, 1]
Source   EPE, bad-n, pixels near depth edges: Scharstein and Szeliski 2002, section 5.1,
         https://doi.org/10.1023/A:1014573219977; Middlebury v3 for the percentages
         D1: Menze and Geiger 2015, the KITTI 2015 benchmark (> 3 px and > 5 % of the truth)
         Occlusion IoU over both classes: Li et al. 2021 (STTR), https://arxiv.org/abs/2011.02910
Tests    tests/stereo/test_metrics.py: worked out by hand, and against a loop over pixels
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

EDGE_JUMP = 2.0
"""pixels of disparity: a larger step between neighbours is a depth edge (Scharstein, Szeliski)"""
EDGE_REACH = 4
"""pixels: as far from a depth edge counts as near it; their window of 9x9"""


def epe(
    guess: Float[Tensor, "*B H W"], truth: Float[Tensor, "*B H W"], mask: Bool[Tensor, "*B H W"]
) -> Float[Tensor, "*B"]:
    """End-point error: the mean of |guess - truth| over the mask, in pixels, >= 0.

    A guess that isn't a number at a counted pixel makes the whole error nan or inf: it has no
    finite mean, and hiding it would flatter the method. An empty mask gives nan.
    """
    return _mean_over_mask((guess - truth).abs(), mask)


def bad_n(
    guess: Float[Tensor, "*B H W"],
    truth: Float[Tensor, "*B H W"],
    mask: Bool[Tensor, "*B H W"],
    n: int | float,
) -> Float[Tensor, "*B"]:
    """Percentage of masked pixels with |guess - truth| > n, in [0, 100]; any n >= 0, in pixels.

    A guess that isn't a number counts as wrong. An empty mask gives nan.
    """
    good = (guess - truth).abs() <= n
    return 100 * _mean_over_mask((~good).to(guess.dtype), mask)


def d1(
    guess: Float[Tensor, "*B H W"], truth: Float[Tensor, "*B H W"], mask: Bool[Tensor, "*B H W"]
) -> Float[Tensor, "*B"]:
    """KITTI's outliers: percentage of pixels off by more than 3 px and by more than 5 %.

    Never more than bad-3, which is the same without the second condition; papers that write "D1"
    for that one mean `bad_n(..., n=3)`. A guess that isn't a number counts as wrong; an empty mask
    gives nan.
    """
    error = (guess - truth).abs()
    good = (error <= 3) | (error <= 0.05 * truth)
    return 100 * _mean_over_mask((~good).to(guess.dtype), mask)


class OcclusionPixels(NamedTuple):
    """Counts, one an image, from which every score of occlusion follows; they add up."""

    known: Float[Tensor, "*B"]
    """where the truth about occlusion is known"""
    occluded: Float[Tensor, "*B"]
    """of these, occluded"""
    said: Float[Tensor, "*B"]
    """of these, called occluded"""
    both: Float[Tensor, "*B"]
    """of these, rightly"""

    def iou(self) -> Float[Tensor, "*B"]:
        """Intersection over union of the occluded pixels, in [0, 1].

        nan where no pixel is occluded or called so: there is nothing to find.
        """
        return self.both / (self.occluded + self.said - self.both)

    def f1(self) -> Float[Tensor, "*B"]:
        """Harmonic mean of precision and recall of the occluded pixels, in [0, 1]; nan likewise."""
        return 2 * self.both / (self.occluded + self.said)

    def iou_of_both_classes(self) -> Float[Tensor, "*B"]:
        """STTR's and CSTR's IoU, in [0, 1]: both classes' intersections over both unions' sum.

        The classes are "occluded" and "seen by both". nan where nothing is known.
        """
        either = self.occluded + self.said - self.both
        rightly_seen, seen_or_called_so = self.known - either, self.known - self.both
        return (self.both + rightly_seen) / (either + seen_or_called_so)


def occlusion_pixels(
    guess: Bool[Tensor, "*B H W"], truth: Bool[Tensor, "*B H W"], mask: Bool[Tensor, "*B H W"]
) -> OcclusionPixels:
    """Count occluded pixels within the mask, where the truth about occlusion is known.

    `guess` is decided already (occlusion probability > 0.5, say).
    """
    maps = (mask, truth & mask, guess & mask, guess & truth & mask)
    return OcclusionPixels(*(map_.sum((-2, -1)).double() for map_ in maps))


def near_depth_edges(
    disparity: Float[Tensor, "H W"], valid: Bool[Tensor, "H W"]
) -> Bool[Tensor, "H W"]:
    """Pixels within EDGE_REACH rows and columns of a depth edge, known or not.

    An edge lies between two known pixels that follow each other in a row or a column, with nothing
    but unknown ones between them, if their disparities differ by more than EDGE_JUMP and by more
    than half their distance: where something hides `n` pixels, truth often has a hole as wide as
    the step, `n`; the same difference over a wider hole of sparse truth may be a slanted surface.
    Both pixels belong to the edge.
    """
    edge = _steps(disparity, valid) | _steps(disparity.T, valid.T).T
    side = 2 * EDGE_REACH + 1
    return F.max_pool2d(edge[None].float(), side, stride=1, padding=EDGE_REACH)[0] > 0


def _steps(disparity: Float[Tensor, "H W"], valid: Bool[Tensor, "H W"]) -> Bool[Tensor, "H W"]:
    """Both ends of every edge along the rows."""
    row, column = valid.nonzero(as_tuple=True)  # in the order of reading
    value = disparity[row, column]
    step, gap = value.diff().abs(), column.diff()
    found = (row.diff() == 0) & (step > EDGE_JUMP) & (2 * step > gap)
    edge = torch.zeros_like(valid)
    for end in (slice(None, -1), slice(1, None)):
        edge[row[end][found], column[end][found]] = True
    return edge


def _mean_over_mask(
    value: Float[Tensor, "*B H W"], mask: Bool[Tensor, "*B H W"]
) -> Float[Tensor, "*B"]:
    """Mean of `value` where `mask`, whatever stands elsewhere (inf included); 0 / 0 is nan."""
    total = torch.where(mask, value, 0).sum((-2, -1))
    return total / mask.sum((-2, -1))
