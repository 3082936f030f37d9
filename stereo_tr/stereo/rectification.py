"""A pair that isn't quite rectified: by how many rows its right view lies too low, put right.

Matching along a row needs a point in the same row of both views. Cameras get knocked and lenses
drift; a row or two lose thin things and weak texture first, then everything. But seen small, a pair
still matches, and wherever that is sure it tells how the rows lie: the offset is taken to be a
plane over the view (a shift, a tilt, a stretch), and found by following the slope of the brightness
from coarse to fine, where unlike pixels hardly count.

Letters  B views, H W image in pixels, h w the same at a coarser level, N points that are compared
Source   Lucas and Kanade 1981, "An iterative image registration technique"; the weights: Cauchy's
Tests    tests/stereo/test_rectification.py; what it gains on real pairs: docs/accuracy.md
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

LEVELS = (8, 4, 2, 1)
"""pixels across what counts as one: an offset of two such pixels at the first can be followed"""
LEAST_SIDE = 24
"""such pixels: levels that have fewer are left out"""
STEPS = 4
"""at each level"""
POINTS = 50_000
"""about as many are compared at most, on a grid"""
WINDOW = 9
"""pixels across the square whose mean is taken off, since views differ in exposure"""
FITS = 0.03
"""difference of brightness at which a point counts half"""
MOST_UNLIKE = 0.15
"""and the most that a point adds when two offsets are compared"""
LEAST_POINTS = 500
"""fewer that are sure tell nothing"""
GAIN = 0.02
"""an offset has to make the views that much more alike, as a share: what gains less is mostly a
little worse afterwards, for the blur of a view taken between its rows (90 generated scenes)"""
RIDGE = 1e-6
"""squared slope of brightness, per point: less tells nothing, and the offset stays"""
LEAST_OFFSET = 0.2
"""rows somewhere in the view: less isn't worth another look"""


def vertical_offset(
    left: Float[Tensor, "B 3 H W"],
    right: Float[Tensor, "B 3 H W"],
    disparity: Float[Tensor, "B H W"],
    sure: Bool[Tensor, "B H W"],
    start: Float[Tensor, "B 3"] | None = None,
) -> Float[Tensor, "B 3"]:
    """Rows by which a point lies lower in the right view than in the left one.

    At the centre of the view, and how many more at its right and at its lower border. Told by the
    pixels that are `sure` of their `disparity` (pixels). As at the `start`, or all 0, where the
    views don't tell, or where it differs from that by less than LEAST_OFFSET everywhere.
    """
    none = disparity.new_zeros(len(disparity), 3)
    start = offset = none if start is None else start
    told = torch.zeros_like(none[:, 0], dtype=torch.bool)
    for level in LEVELS:
        if min(disparity.shape[1:]) < level * LEAST_SIDE:
            continue
        points, before = _Points(left, right, disparity, sure, level), offset
        for _ in range(STEPS):
            offset = offset - points.step(offset).clamp(-level, level)
        after, kept = points.unlikeness(offset), points.unlikeness(before)
        offset = torch.where((after < kept)[:, None], offset, before)
        if level == LEVELS[-1]:
            told = torch.minimum(after, kept) < (1 - GAIN) * points.unlikeness(none)
            told = told & (points.known.sum(1) >= LEAST_POINTS)
    told = told & (largest_offset(offset - start) >= LEAST_OFFSET)
    return torch.where(told[:, None], offset, start)


def largest_offset(offset: Float[Tensor, "B 3"]) -> Float[Tensor, " B"]:
    """The most rows of it in any corner of the view."""
    return offset.abs().sum(1)


class _Points:
    """What is compared at one level: points of the left view, and where they are in the right."""

    def __init__(
        self,
        left: Float[Tensor, "B 3 H W"],
        right: Float[Tensor, "B 3 H W"],
        disparity: Float[Tensor, "B H W"],
        sure: Bool[Tensor, "B H W"],
        level: int,
    ) -> None:
        here, self.there = _detail(left, level), _detail(right, level)
        self.level, (height, width) = level, here.shape[2:]
        spacing = max(1, round((height * width / POINTS) ** 0.5))
        rows, columns = (
            torch.arange(0, side, spacing, device=left.device) for side in (height, width)
        )
        rows, columns = (each.flatten() for each in torch.meshgrid(rows, columns, indexing="ij"))
        full_width = disparity.shape[2]
        middle = (rows * level + level // 2) * full_width + columns * level + level // 2
        self.here = here.flatten(1)[:, rows * width + columns]
        self.row, self.column = rows, columns - disparity.flatten(1)[:, middle] / level
        self.known = sure.flatten(1)[:, middle] & (self.column >= 0)
        full = [(side - 1) / level for side in disparity.shape[1:]]
        across = 2 * self.column / full[1] - 1
        down = (2 * self.row / full[0] - 1).expand_as(across)
        self.plane = torch.stack((torch.ones_like(across), across, down), dim=1)

    def seen(self, offset: Float[Tensor, "B 3"], *beside: int) -> tuple[Float[Tensor, "B N"], ...]:
        """Brightness of the right view at the points, and so many rows beside them."""
        row = self.row + (offset[:, :, None] * self.plane).sum(1) / self.level
        rows = torch.stack((row, *(row + each for each in beside)), dim=1)
        columns = self.column[:, None].expand_as(rows)
        return _sampled(self.there, columns, rows)[:, 0].unbind(1)

    def step(self, offset: Float[Tensor, "B 3"]) -> Float[Tensor, "B 3"]:
        """By how much the offset is too large: a least-squares fit with Cauchy's weights."""
        at, above, below = self.seen(offset, -1, 1)
        unlike, slope = at - self.here, (below - above) / (2 * self.level)
        slopes = slope[:, None] * self.plane
        weighed = slopes * (self.known / (1 + (unlike / FITS) ** 2))[:, None]
        # Sums written out: autocast would take products of matrices in low precision.
        normal = (weighed[:, :, None] * slopes[:, None]).sum(-1)
        stiff = RIDGE * self.row.numel() * torch.eye(3, device=normal.device)
        return torch.linalg.solve(normal + stiff, (weighed * unlike[:, None]).sum(-1))

    def unlikeness(self, offset: Float[Tensor, "B 3"]) -> Float[Tensor, " B"]:
        """How much the views differ, all known points together."""
        [at] = self.seen(offset)
        return ((at - self.here).abs().clamp(max=MOST_UNLIKE) * self.known).sum(1)


def moved_up(
    view: Float[Tensor, "B 3 H W"], offset: Float[Tensor, "B 3"]
) -> Float[Tensor, "B 3 H W"]:
    """The view with every row taken from `offset` (see `vertical_offset`) further down."""
    height, width = view.shape[2:]
    row, column = (torch.arange(s, device=view.device, dtype=view.dtype) for s in (height, width))
    down, across = 2 * row / (height - 1) - 1, 2 * column / (width - 1) - 1
    centre, right, lower = offset[:, :, None, None].unbind(1)
    there = row[:, None] + centre + right * across + lower * down[:, None]
    return _sampled(view, column.expand_as(there), there, "bicubic").clamp(0, 1)


def _detail(view: Float[Tensor, "B 3 H W"], level: int) -> Float[Tensor, "B 1 h w"]:
    """Brightness, without its mean in a square around, of pixels `level` across."""
    grey = F.avg_pool2d(view.mean(1, keepdim=True), level)
    edge = WINDOW // 2
    around = F.pad(grey, (edge,) * 4, mode="replicate")
    # One side of the square after the other: a quarter of the time (measured).
    return grey - F.avg_pool2d(F.avg_pool2d(around, (WINDOW, 1), 1), (1, WINDOW), 1)


def _sampled(
    view: Float[Tensor, "B C H W"],
    column: Float[Tensor, "B h w"],
    row: Float[Tensor, "B h w"],
    mode: str = "bilinear",
) -> Float[Tensor, "B C h w"]:
    """What lies between the pixels; beyond the border its last ones are repeated."""
    height, width = view.shape[2:]
    at = torch.stack((2 * column / (width - 1) - 1, 2 * row / (height - 1) - 1), dim=-1)
    return F.grid_sample(view, at, mode, "border", align_corners=True)
