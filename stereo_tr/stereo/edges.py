"""Depth edges where the photograph has them: a median over pixels of like colour.

Across a depth edge a network's disparity bends from one surface to the other within some pixels,
and lies beside the edge of the photograph. There a pixel takes the weighted median of the pixels
around it, which weigh more the more they look like it and the surer they are. A median of
disparities that were found invents none, and where all agree it changes nothing.

Letters  B views, H W image in pixels, N pixels to change, K pixels around each
Source   Ma et al. 2013, "Constant time weighted median filtering for stereo matching and beyond"
Tests    tests/stereo/test_edges.py; what it gains on real pairs: docs/accuracy.md
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

RINGS = ((0.0, 1), (1.5, 6), (3.5, 8), (6.0, 10))
"""radius in pixels, and how many pixels on it: a disc without the cost of all its pixels"""
REACH = 6
"""pixels: the radius of the outermost ring"""
STEP = 2.0
"""pixels of disparity within the disc: with less there is no edge"""
SURE = 0.9
"""confidence from which a pixel is left alone"""
LIKE = 0.2
"""sum of the differences of red, green and blue at which a weight has fallen to 1/e"""
LEAST_WEIGHT = 0.05
"""of a pixel without any confidence, beside 1 more with full confidence"""
AT_ONCE = 2**13
"""pixels: changed together, as few as stay in a processor's cache (measured)"""


def sharpen_edges(
    disparity: Float[Tensor, "B H W"],
    confidence: Float[Tensor, "B H W"],
    left: Float[Tensor, "B 3 H W"],
) -> Float[Tensor, "B H W"]:
    """Replace disparities near depth edges by the weighted median of those around.

    `disparity` in pixels, `confidence` and `left` (RGB) in [0, 1]. Only where `confidence` is below
    SURE and disparities within REACH differ by more than STEP. Beyond the border its last pixels
    are repeated.
    """
    places = ((confidence < SURE) & (_spread(disparity) > STEP)).flatten().nonzero()[:, 0]
    height, width = disparity.shape[1:]
    colours = left.movedim(1, 0).flatten(1)
    trust = confidence.flatten() + LEAST_WEIGHT
    rows, columns = _disc(disparity.device)
    before, result = disparity.flatten(), disparity.flatten().clone()
    for some in places.split(AT_ONCE):
        x, y = some % width, some // width % height
        around = (y + rows).clamp(0, height - 1) * width + (x + columns).clamp(0, width - 1)
        around += some - y * width - x  # where the view begins
        unlike = sum((colour.take(around) - colour.take(some)).abs() for colour in colours)
        weights = (unlike / -LIKE).exp() * trust.take(around)
        result[some] = weighted_median(before.take(around), weights)
    return result.view_as(disparity)


def weighted_median(
    values: Float[Tensor, "K N"], weights: Float[Tensor, "K N"]
) -> Float[Tensor, " N"]:
    """The one of K values from which all are least far in total, each distance times its weight."""
    median, least = values[0], None
    for value in values:
        distance = (values - value).abs_().mul_(weights).sum(0)
        nearer = None if least is None else distance < least
        median = median if nearer is None else torch.where(nearer, value, median)
        least = distance if nearer is None else torch.minimum(distance, least)
    return median


def _disc(device: torch.device) -> tuple[Int[Tensor, "K 1"], Int[Tensor, "K 1"]]:
    """Rows and columns of the pixels around, each ring turned against the one before."""
    turns = [
        (radius, 2 * math.pi * (k + radius) / count)
        for radius, count in RINGS
        for k in range(count)
    ]
    rows = [[round(radius * math.sin(turn))] for radius, turn in turns]
    columns = [[round(radius * math.cos(turn))] for radius, turn in turns]
    return torch.tensor(rows, device=device), torch.tensor(columns, device=device)


def _spread(disparity: Float[Tensor, "B H W"]) -> Float[Tensor, "B H W"]:
    """Largest minus least disparity in the square that holds the disc."""
    both = torch.stack((disparity, -disparity), dim=1)
    both = F.pad(both, (REACH, REACH, REACH, REACH), value=-torch.inf)
    for dim in (3, 2):  # by doubling: pooling takes ten times as long (measured)
        reached = 1
        while reached < 2 * REACH + 1:
            more = min(reached, 2 * REACH + 1 - reached)
            length = both.shape[dim] - more
            both = torch.maximum(both.narrow(dim, 0, length), both.narrow(dim, more, length))
            reached += more
    return both.sum(1)
