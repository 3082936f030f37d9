"""Surfaces in disparity space, seen from both cameras without approximation.

A surface gives each point (x, y) of the left image plane, also beyond the image, a disparity

    d(x, y) = k0 + k1 X + k2 Y + k3 X² + k4 X Y + k5 Y² + a sin(p X + q Y + r)
    X = x - cx,  Y = y - cy

and is seen at x_r = x - d by the right camera. A plane of space is a plane here, since disparity is
affine in the pixel for rectified cameras. The right camera's look-up, x from (x_r, y), is the root
of a quadratic; Newton's method goes on from there where there is a wave. A mask says where the
surface exists: its values are interpolated linearly and compared with one half, by both cameras, so
a shape is one and the same function for both. The nearest surface (largest disparity) wins at the
centre of each pixel.

Letters  H W image size in pixels; x y pixel centres, x right and y down; d disparity in pixels
Tests    tests/datasets/test_surfaces.py: against float64 bisection and a brute-force search
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

STEEPEST = 0.6
"""largest |∂d/∂x| inside a mask; below 1 each right pixel sees at most one point of a surface"""
MARGIN = 0.05
"""pixels by which a surface must be nearer to hide another: to be off by less is no error,
and faces that share an edge overlap there by about as much"""
MOST = 256
"""surfaces of a scene: their numbers fit a byte, as OpenCV's tables want them"""
NEWTON_STEPS = 5
"""from the quadratic's root to below 1e-4 px for every wave that the layouts make"""


@dataclass
class Surface:
    """One surface; see the module's formula."""

    centre: tuple[float, float]
    """(cx, cy), pixels of the left image"""
    shape: tuple[float, float, float, float, float, float]
    """k0 ... k5"""
    object: int
    """number of the object it belongs to, unique within a scene"""
    category: int
    """index into generated.CLASSES"""
    wave: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    """a, p, q, r"""
    origin: tuple[int, int] = (0, 0)
    """(x, y) of the mask's first value"""
    mask: NDArray[np.uint8] | None = field(default=None, repr=False)
    """0 to 255, exists where > 127; its border is 0. None: exists everywhere"""

    def disparity(self, x: Floats, y: Floats) -> Floats:
        """Disparity at left positions; x and y broadcast."""
        k0, k1, k2, k3, k4, k5 = (np.float32(k) for k in self.shape)
        across, down = x - np.float32(self.centre[0]), y - np.float32(self.centre[1])
        d = (k1 + k4 * down) * across + (k0 + (k2 + k5 * down) * down)
        if k3:
            d += k3 * across * across
        if self.wave[0]:
            a, p, q, r = (np.float32(w) for w in self.wave)
            d += a * np.sin(p * across + q * down + r)
        return d

    def seen_from_right(self, x: Floats, y: Floats) -> Floats:
        """Left position x + d of what the right camera sees at right positions (x, y)."""
        return _seen_from_right(
            x, y, *(np.float32(v) for v in (*self.centre, *self.shape, *self.wave))
        )

    def box(self, height: int, width: int) -> tuple[int, int, int, int]:
        """First and last-plus-one row and column of the mask, not cut to the image."""
        if self.mask is None:
            return 0, height, 0, width
        (x, y), (rows, columns) = self.origin, self.mask.shape
        return y, y + rows, x, x + columns


def _seen_from_right(x, y, cx, cy, k0, k1, k2, k3, k4, k5, a, p, q, r):
    """Solve X - d(X, Y) = x_r - cx for X; scalars or arrays alike. Returns X + cx."""
    down = y - cy
    linear = 1 - k1 - k4 * down
    constant = (k0 + (k2 + k5 * down) * down) + (x - cx)
    if np.any(k3):
        # the root that tends to constant / linear as k3 tends to 0, free of cancellation; where
        # there is none (negative discriminant), this lies beyond the parabola's vertex, unmasked
        root = np.sqrt(np.maximum(linear * linear - 4 * k3 * constant, 0))
        across = 2 * constant / (linear + root)
    else:
        across = constant / linear
    if np.any(a):
        for _ in range(NEWTON_STEPS):
            angle = p * across + q * down + r
            error = (linear - k3 * across) * across - a * np.sin(angle) - constant
            across = across - error / (linear - 2 * k3 * across - a * p * np.cos(angle))
    return across + cx


class Views(NamedTuple):
    """What both cameras see of a list of surfaces; every array is [H, W]."""

    disparity: Floats
    surface: NDArray[np.uint8]
    """index of the winning surface"""
    occluded: NDArray[np.bool_]
    right_disparity: Floats
    right_surface: NDArray[np.uint8]
    right_occluded: NDArray[np.bool_]


def look(surfaces: list[Surface], height: int, width: int) -> Views:
    """What the two cameras see, each at its own pixel centres.

    At most `MOST` surfaces, of which the first must have no mask and positive disparity everywhere,
    so that no pixel is empty.
    A pixel is occluded if its partner lies outside the other image (before the first or after the
    last pixel centre), or if a surface seen at one of the two pixel centres beside the partner
    covers the partner's exact position and is nearer by more than `MARGIN`. Surfaces so thin that
    no pixel centre beside the partner sees them hide nothing.
    """
    columns = np.arange(width, dtype=np.float32)[None]
    rows = np.arange(height, dtype=np.float32)[:, None]
    nearest = np.full((height, width), -np.inf, np.float32)
    right_nearest = nearest.copy()
    winner = np.zeros((height, width), np.uint8)
    right_winner = winner.copy()

    for index, surface in enumerate(surfaces):
        top, bottom, first, last = surface.box(height, width)
        y0, y1 = max(top, 0), min(bottom, height)
        if y0 >= y1:
            continue
        y = rows[y0:y1]
        if surface.mask is None:
            d = surface.disparity(columns, y)
            _put_nearer(nearest, winner, (slice(y0, y1), slice(0, width)), d, None, index)
            x0, x1 = 0, width
        else:
            d = surface.disparity(np.arange(first, last, dtype=np.float32)[None], y)
            mask = surface.mask[y0 - top : y1 - top]
            x0, x1 = max(first, 0), min(last, width)
            if x0 < x1:
                part = slice(x0 - first, x1 - first)
                there = (slice(y0, y1), slice(x0, x1))
                _put_nearer(nearest, winner, there, d[:, part], mask[:, part] > 127, index)
            # columns of the right image that can see the mask; one more each side, for rounding
            x0 = max(int(first - d.max()) - 1, 0)
            x1 = min(int(last - d.min()) + 2, width)
            if x0 >= x1:
                continue
        x = columns[:, x0:x1]
        source = surface.seen_from_right(x, y)
        covers = None
        if surface.mask is not None:
            covers = _covers(mask, source - np.float32(first))
        there = (slice(y0, y1), slice(x0, x1))
        _put_nearer(right_nearest, right_winner, there, source - x, covers, index)

    table = _Table(surfaces)
    return Views(
        nearest,
        winner,
        _occluded(table, nearest, winner, right_winner, columns, from_left=True),
        right_nearest,
        right_winner,
        _occluded(table, right_nearest, right_winner, winner, columns, from_left=False),
    )


def _put_nearer(nearest, winner, there, d, covers, index) -> None:
    """Overwrite what lies farther than `d`, where the surface exists."""
    wins = d > nearest[there]
    if covers is not None:
        wins &= covers
    np.copyto(nearest[there], d, where=wins)
    np.copyto(winner[there], index, where=wins)


def _covers(mask: NDArray[np.uint8], columns: Floats) -> NDArray[np.bool_]:
    """Whether a mask exists at fractional columns [h, w] of its own rows [h, any width]."""
    rows = np.broadcast_to(np.arange(len(mask), dtype=np.float32)[:, None], columns.shape)
    # remap rejects what lies farther off than a short integer reaches; the border is empty anyway
    columns = np.clip(columns, -2, mask.shape[1] + 1)
    return cv2.remap(mask, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT) > 127


class _Table:
    """The numbers of all surfaces, to ask about scattered points of different surfaces at once."""

    def __init__(self, surfaces: list[Surface]) -> None:
        everywhere = np.full((1, 1), 255, np.uint8)
        masks = [everywhere if s.mask is None else s.mask for s in surfaces]
        self.numbers = np.array([(*s.centre, *s.shape, *s.wave) for s in surfaces], np.float32).T
        self.endless = np.array([s.mask is None for s in surfaces])
        self.first, self.top = np.array([s.origin for s in surfaces]).T
        self.rows, self.columns = np.array([mask.shape for mask in masks]).T
        self.start = np.cumsum([0] + [mask.size for mask in masks[:-1]])
        self.values = np.concatenate([mask.ravel() for mask in masks])

    def nearer(self, index, x, y, d, from_left: bool) -> NDArray[np.bool_]:
        """Whether surface `index` covers a point of the other view, nearer than disparity `d`.

        x, y: position in the other view [N]; d: disparity [N] of the pixel that asks.
        """
        cx, cy, k0, k1, k2, k3, k4, k5, a, p, q, r = self.numbers[:, index]
        if from_left:
            source = _seen_from_right(x, y, cx, cy, k0, k1, k2, k3, k4, k5, a, p, q, r)
            other = source - x
        else:
            source, across, down = x, x - cx, y - cy
            other = (k1 + k4 * down + k3 * across) * across + (k0 + (k2 + k5 * down) * down)
            other = other + a * np.sin(p * across + q * down + r)
        return (other > d + MARGIN) & (self.endless[index] | self._exists(index, source, y))

    def _exists(self, index, x, y) -> NDArray[np.bool_]:
        last = self.columns[index] - 1
        column = np.clip(x - self.first[index], 0, last)  # the border of every mask is 0
        before = np.minimum(column.astype(np.intp), np.maximum(last - 1, 0))
        row = y.astype(np.intp) - self.top[index]
        inside = (row >= 0) & (row < self.rows[index])
        place = self.start[index] + np.where(inside, row, 0) * self.columns[index] + before
        a, b = self.values[place], self.values[np.minimum(place + 1, len(self.values) - 1)]
        return inside & (a + (column - before) * (b.astype(np.float32) - a) > 127.5)


def _occluded(table, d, winner, other_winner, columns, from_left: bool) -> NDArray[np.bool_]:
    """Pixels without a partner in the other view; see `look`."""
    height, width = d.shape
    partner = columns - d if from_left else columns + d
    occluded = (partner < 0) | (partner > width - 1)
    # the pixels beside the partner, as places in the flattened view
    flat = partner.astype(np.int32)
    np.clip(flat, 0, max(width - 2, 0), out=flat)
    flat += np.arange(0, height * width, width, dtype=np.int32)[:, None]
    beside = other_winner.ravel()
    one, two = beside.take(flat), beside[1:].take(flat, mode="clip")
    # where both see the same surface as we do, nothing stands in between
    unsure = np.flatnonzero(((one != winner) | (two != winner)) & ~occluded)
    own, x, far = winner.ravel()[unsure], partner.ravel()[unsure], d.ravel()[unsure]
    y = (unsure // width).astype(np.float32)
    hidden = np.zeros(len(unsure), bool)
    for candidates in (one.ravel()[unsure], two.ravel()[unsure]):
        other = np.flatnonzero(candidates != own)
        hidden[other] |= table.nearer(candidates[other], x[other], y[other], far[other], from_left)
    occluded.ravel()[unsure] = hidden
    return occluded
