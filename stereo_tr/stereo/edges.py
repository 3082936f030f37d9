"""Depth edges where both photographs have them: a median over pixels around, of what fits here.

Across a depth edge a network's disparity bends from one surface to the other within some pixels,
and lies beside the edge of the photograph. There a pixel takes the weighted median of the pixels
around it. They weigh more the more they look like it, the surer they are, and the more alike both
views are where their disparity would put it. What was matched before anything was smoothed takes
part as well: of a thin thing it may be all that is left. A median of disparities that were found
invents none, and where all agree it changes nothing. What has moved tells more, so pixels beside it
are asked once again.

Letters  B views, H W image in pixels, N pixels to change, K disparities around each
Source   Ma et al. 2013, "Constant time weighted median filtering for stereo matching and beyond"
Tests    tests/stereo/test_edges.py; what it gains on real pairs: docs/accuracy.md
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .output import Candidates

RINGS = ((0.0, 1), (2.0, 6), (4.5, 8), (8.0, 10))
"""radius in pixels, and how many pixels on it: a disc without the cost of all its pixels"""
MIDDLE, CANDIDATE_WEIGHT = 7, 0.7
"""of the pixels around, so many in the middle whose candidates take part, and what these count
beside disparities that are as sure"""
LEAST_SHARE = 0.5
"""of its token that a match must have taken to be one: where nothing can be matched, what is found
may be anything, and far off"""
MOVED, NEAR = 1.0, 2
"""pixels of disparity, and pixels: what has been changed by more tells those so near more, and they
are asked once again"""
REACH = 8
"""pixels: the radius of the outermost ring"""
STEP = 2.0
"""pixels of disparity within the disc: with less there is no edge"""
SURE = 0.95
"""confidence from which a pixel is left alone"""
LIKE = 0.25
"""sum of the differences of red, green and blue at which a weight has fallen to 1/e"""
LEAST_WEIGHT = 0.05
"""of a pixel without any confidence, beside 1 more with full confidence"""
CROSS = ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0))
"""rows and columns of the pixels that are compared with the right view"""
FITS, UNFIT = 0.05, 0.3
"""mean over the cross of such sums between the views: at which a weight has fallen to 1/e, and the
most that a pixel adds, since what moved or glitters says nothing"""
MATCHED = 0.8
"""confidence of pixels that tell how the views' light differs"""
GRID, WINDOW, ELSEWHERE = 8, 0.15, 0.05
"""pixels between those that are asked; the square over which light is averaged, as a share of the
shorter side; what the rest of the view counts beside it"""
AT_ONCE, AT_ONCE_ON_GPU = 2**13, 2**18
"""pixels: changed together, as few as stay in a processor's cache (measured); elsewhere so many
that launching what is done with them hardly counts (not measured)"""


def sharpen_edges(
    disparity: Float[Tensor, "B H W"],
    confidence: Float[Tensor, "B H W"],
    visible: Bool[Tensor, "B H W"],
    left: Float[Tensor, "B 3 H W"],
    right: Float[Tensor, "B 3 H W"],
    candidates: Candidates | None = None,
) -> Float[Tensor, "B H W"]:
    """Replace disparities near depth edges by the weighted median of those around.

    `disparity` in pixels, `confidence` and the views (RGB) in [0, 1]; `visible` is where the right
    camera sees the point: elsewhere the right view isn't asked. Only where `confidence` is below
    SURE and disparities within REACH differ by more than STEP. Beyond the border its last pixels
    are repeated. Of `candidates`, which not every model gives, those take part whose confidence
    exceeds LEAST_SHARE. Pixels within NEAR of a change of more than MOVED are asked once again.
    """
    light = relative_light(left, right, disparity, (confidence > MATCHED) & visible)
    views = (visible, left, right, light)
    asked = (confidence < SURE) & (_spread(disparity) > STEP)
    once = _medians(asked, disparity, confidence, *views, candidates)
    moved = ((once - disparity).abs() > MOVED).to(once.dtype)
    asked = asked & (F.max_pool2d(moved, 2 * NEAR + 1, 1, NEAR) > 0)
    return _medians(asked, once, confidence, *views, candidates)


def _medians(
    asked: Bool[Tensor, "B H W"],
    disparity: Float[Tensor, "B H W"],
    confidence: Float[Tensor, "B H W"],
    visible: Bool[Tensor, "B H W"],
    left: Float[Tensor, "B 3 H W"],
    right: Float[Tensor, "B 3 H W"],
    light: Float[Tensor, "B 3 H W"],
    candidates: Candidates | None,
) -> Float[Tensor, "B H W"]:
    """Go once over the pixels that are `asked`."""
    places = asked.flatten().nonzero()[:, 0]
    height, width = disparity.shape[1:]
    left, right, light = (view.movedim(1, 0).flatten(1) for view in (left, right, light))
    trust, seen = confidence.flatten() + LEAST_WEIGHT, visible.flatten()
    rows, columns = _disc(disparity.device)
    before, result = disparity.flatten(), disparity.flatten().clone()
    for some in places.split(AT_ONCE if disparity.device.type == "cpu" else AT_ONCE_ON_GPU):
        x, y = some % width, some // width % height
        view = some - y * width - x  # where the view begins

        def row(step: int | Tensor, y: Tensor = y, view: Tensor = view) -> Tensor:
            return view + (y + step).clamp(0, height - 1) * width

        around = row(rows) + (x + columns).clamp(0, width - 1)
        values, trusted = before.take(around), trust.take(around)
        unlike = _difference(left, around, some)
        if candidates is not None:
            middle = around[:MIDDLE]
            share = candidates.confidence.take(middle)
            share = torch.where(share > LEAST_SHARE, share * CANDIDATE_WEIGHT, 0.0)
            values = torch.cat((values, candidates.disparity.take(middle)))
            trusted, unlike = torch.cat((trusted, share)), torch.cat((unlike, unlike[:MIDDLE]))
        unfit = torch.zeros_like(unlike)
        for down, across in CROSS:
            column = (x + across).clamp(0, width - 1)
            partner = (column - values).round_().clamp_(0, width - 1).long()
            there, here = row(down) + partner, row(down) + column
            unfit += _difference(right, there, here, left, light).clamp_(max=UNFIT)
        unfit *= seen.take(some) / (FITS * len(CROSS))
        weights = (unlike / -LIKE - unfit).exp_() * trusted
        result[some] = weighted_median(values, weights)
    return result.view_as(disparity)


def _difference(
    one: Float[Tensor, "3 pixels"],
    there: Int[Tensor, "K N"],
    here: Int[Tensor, " N"],
    other: Float[Tensor, "3 pixels"] | None = None,
    light: Float[Tensor, "3 pixels"] | None = None,
) -> Float[Tensor, "K N"]:
    """Sum over colours of how much `one` there differs from `other` (`one`) here, in its light.

    Colour by colour, which takes half the time.
    """
    total: float | Tensor = 0.0
    for channel, colour in enumerate(one):
        found = colour.take(there)
        if light is not None:
            found *= light[channel].take(here)
        total += found.sub_((one if other is None else other)[channel].take(here)).abs_()
    return total


def relative_light(
    left: Float[Tensor, "B 3 H W"],
    right: Float[Tensor, "B 3 H W"],
    disparity: Float[Tensor, "B H W"],
    sure: Bool[Tensor, "B H W"],
) -> Float[Tensor, "B 3 H W"]:
    """How much brighter the left view is than the right, by colour: in a square around each pixel.

    Told by the pixels that are `sure`; 1 where a view has none. Other exposure or other lamps then
    make no difference between a pixel and its partner times this.
    """
    height, width = disparity.shape[1:]
    grid = (..., slice(None, None, GRID), slice(None, None, GRID))
    known = sure[grid][:, None].to(left.dtype)
    column = torch.arange(0, width, GRID, device=left.device)
    partner = (column - disparity[grid]).round_().clamp_(0, width - 1).long()
    partner = partner[:, None].expand(-1, 3, -1, -1)
    seen = right[..., ::GRID, :].gather(-1, partner)
    both = torch.cat((left[grid] * known, seen * known), dim=1)
    square = 2 * round(WINDOW / 2 * min(both.shape[-2:])) + 1
    near = F.avg_pool2d(both, square, stride=1, padding=square // 2)
    brightness = near + ELSEWHERE * both.mean((2, 3), keepdim=True) + 1e-6
    one, other = brightness.chunk(2, dim=1)
    return F.interpolate((one / other).clamp_(0.25, 4), (height, width), mode="bilinear")


def weighted_median(
    values: Float[Tensor, "K N"], weights: Float[Tensor, "K N"]
) -> Float[Tensor, " N"]:
    """The one of K values from which all are least far in total, each distance times its weight."""
    values, weights = values.t().contiguous(), weights.t().contiguous()  # a pixel's together
    # On a CPU NumPy sorts so few values ten times as fast as torch (measured).
    on_cpu = values.device.type == "cpu"
    order = torch.from_numpy(values.numpy().argsort(1)) if on_cpu else values.argsort(1)
    heaped = weights.gather(1, order).cumsum_(1)
    middle = (heaped < heaped[:, -1:] / 2).sum(1, keepdim=True)
    return values.gather(1, order.gather(1, middle))[:, 0]


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
