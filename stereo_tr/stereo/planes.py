"""Blank walls as planes: where a photograph shows nothing, what was found for sure goes on.

On a wall without texture a match is a guess, right near the wall's borders and marks and anywhere
between. Most of what is blank is flat: if one plane holds for most of what is known of a blank
region, by how sure that is, the unsure rest of the region takes the plane's disparity, seen by the
right camera or not. A region that isn't flat has no such plane and stays as it is.

A wall behind something is seen in pieces. So a region that doesn't clearly agree also looks at
others of its colour: if it and one of them agree on a plane, and more of all of them fits that one
than the region's own, it is a piece of that wall.

Letters  B views, H W image in pixels, N pixels of a region
Source   planes fitted to segments of like colour: Tao, Sawhney and Kumar 2001,
         https://doi.org/10.1109/ICCV.2001.937562; Fischler and Bolles 1981 (RANSAC)
Tests    tests/stereo/test_planes.py; what it gains on real pairs: docs/accuracy.md
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from ..geometry import fill_from_background

BLUR = 1.5
"""pixels: deviation of the filter that takes the camera's noise away"""
BLANK = 0.8 / 255
"""brightness a pixel: where it changes by less, there is nothing to be seen"""
LEAST_AREA = 0.003
"""of the image: smaller regions are left alone"""
AGREES = 1.0
"""pixels of disparity from a plane that still fit it"""
MAJORITY = 0.6
"""of what is known of a region, weighed by squared confidence: as much must fit its plane"""
CLEAR = 0.8
"""of it fits its plane: then no other is looked for"""
ALIKE = 30 / 255
"""of the mean colour, each of RGB: regions that differ by less can be pieces of one wall"""
LEAST_PART = 0.25
"""of what is known of a piece must fit a plane that it shares"""
OTHERS = 5
"""pieces at most, those of which most is known, that a piece looks at"""
SURE = 0.85
"""confidence from which a pixel keeps what was found"""
TRIALS = 100
"""planes through three pixels that are tried, with pixels drawn from a seed"""
JUDGES = 5000
"""pixels of a region, about, that judge a plane"""
ROUNDS = 10
"""of least squares over the pixels that fit"""
LEAST_SPREAD = 0.1
"""determinant of the covariance of places, px^4: with less they lie on a line and make no plane"""

Array = NDArray[np.float64]


class _Piece:
    """A blank region of a view, and what is known of it."""

    def __init__(
        self,
        place: tuple[slice, slice],
        region: Bool[np.ndarray, "rows columns"],
        colours: Float[np.ndarray, "rows columns 3"],
        disparity: Float[np.ndarray, "rows columns"],
        weight: Float[np.ndarray, "rows columns"],
    ) -> None:
        """Box and pixels of the region; in the box RGB, what was found, and how much it counts."""
        self.place, self.region = place, region
        self.colour = colours[region].mean(0)
        weight = weight * region
        self.known = _known(disparity, weight, place)  # a sample: boxes of many pieces are large
        self.amount = float(weight.sum())

    def agreed(self, plane: Array) -> float:
        """Of what is known, as much fits the plane."""
        *points, weights = self.known
        return float(weights[_fits(plane, *points)].sum())


class Completed(NamedTuple):
    """Disparities, and how sure they are, once walls go on."""

    disparity: Float[Tensor, "B H W"]
    """pixels"""
    confidence: Float[Tensor, "B H W"]
    """at least SURE where the right camera sees what a plane was given to"""


def complete(
    disparity: Float[Tensor, "B H W"],
    confidence: Float[Tensor, "B H W"],
    visible: Bool[Tensor, "B H W"],
    left: Float[Tensor, "B 3 H W"],
) -> Completed:
    """Give unsure pixels of flat blank regions the region's plane, and hidden ones the background.

    `disparity` in pixels, `confidence` and `left` (RGB) in [0, 1]; `visible` is where the right
    camera sees the point. What is hidden takes the disparity of the background beside it (see
    `fill_from_background`), or its region's plane where that lies farther.
    """
    planes = torch.full_like(disparity, torch.inf)
    for index, view in enumerate(left.permute(0, 2, 3, 1).cpu().numpy()):
        found, sure, seen = (map_[index].cpu().numpy() for map_ in (disparity, confidence, visible))
        pieces = [
            _Piece(place, region, view[place], found[place], sure[place] ** 2 * seen[place])
            for place, region in blank_regions(view.mean(-1))
        ]
        for piece in pieces:
            place, region = piece.place, piece.region
            plane = _best_plane(piece, pieces)
            if plane is None:
                continue
            expected = _values(plane, place)
            off = (np.abs(expected - found[place]) > AGREES) | ~seen[place]
            off &= region & (sure[place] < SURE) & (expected > 0)
            changed = torch.from_numpy(off).to(planes.device)
            planes[index][place][changed] = torch.from_numpy(expected[off]).to(planes)
    given = visible & planes.isfinite()
    flat = torch.where(given, planes, disparity)
    known = torch.minimum(fill_from_background(flat, visible), planes.where(~visible, torch.inf))
    return Completed(known, torch.where(given, confidence.clamp(min=SURE), confidence))


def blank_regions(
    view: Float[np.ndarray, "H W"],
) -> Iterator[tuple[tuple[slice, slice], Bool[np.ndarray, "rows columns"]]]:
    """Find the blank regions of a view, brightness in [0, 1]: the box of each, and its pixels."""
    smooth = cv2.GaussianBlur(view, (0, 0), BLUR)
    across, down = (cv2.Sobel(smooth, cv2.CV_32F, *axis, ksize=1) / 2 for axis in ((1, 0), (0, 1)))
    blank = (np.hypot(across, down) < BLANK).astype(np.uint8)
    # Thin bridges between two regions break, and what that takes off their borders comes back.
    square = np.ones((3, 3), np.uint8)
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(
        cv2.erode(blank, square), connectivity=4
    )
    for label in range(1, count):
        x, y, width, height, area = map(int, boxes[label])
        if area < LEAST_AREA * view.size:
            continue
        bottom, right = min(y + height + 1, view.shape[0]), min(x + width + 1, view.shape[1])
        place = (slice(max(y - 1, 0), bottom), slice(max(x - 1, 0), right))
        yield place, cv2.dilate((labels[place] == label).astype(np.uint8), square) > 0


def fit_plane(
    disparity: Float[np.ndarray, "H W"], weight: Float[np.ndarray, "H W"]
) -> Float[np.ndarray, "3"] | None:
    """Fit (a, b, c) with disparity = a + b x + c y, pixels from the first one, to the majority.

    The plane that most of the weight agrees with, of TRIALS through three pixels each, drawn by
    weight; then least squares over what fits. None where MAJORITY doesn't agree with it.
    """
    fitted = _fit(*_known(disparity, weight))
    return fitted and fitted[0]


def _best_plane(piece: _Piece, pieces: Sequence[_Piece]) -> Array | None:
    """The plane of a piece: its own, or one that it shares; None where it has none."""
    own = _fit(*piece.known)
    if own is not None and own[1] >= CLEAR:
        return own[0]
    if not piece.amount:
        return None
    alike = [p for p in pieces if p is not piece and np.abs(p.colour - piece.colour).max() <= ALIKE]
    others = sorted(alike, key=lambda p: p.amount, reverse=True)[:OTHERS]
    candidates = [] if own is None else [own[0]]
    for other in others:
        both = zip(piece.known, other.known, strict=True)
        common = _fit(*(np.concatenate(part, axis=-1) for part in both))
        if common and piece.agreed(common[0]) >= LEAST_PART * piece.known[2].sum():
            candidates.append(common[0])
    if not candidates:
        return None
    return max(candidates, key=lambda plane: sum(p.agreed(plane) for p in (piece, *others)))


def _known(
    disparity: Float[np.ndarray, "rows columns"],
    weight: Float[np.ndarray, "rows columns"],
    place: tuple[slice, slice] = (slice(0, None), slice(0, None)),
) -> tuple[Array, Array, Array]:
    """Points (1, x, y) of the image [3, N], their disparities and weights: about JUDGES of them.

    `place` is where in the image the first pixel lies. Each weighs as much as those it stands for.
    """
    y, x = np.nonzero(weight)
    step = max(1, -(-len(x) // JUDGES))
    y, x = y[::step], x[::step]
    points = np.stack((np.ones(len(x)), x + place[1].start, y + place[0].start))
    return points, disparity[y, x].astype(np.float64), step * weight[y, x].astype(np.float64)


def _fit(points: Array, values: Array, weights: Array) -> tuple[Array, float] | None:
    """See `fit_plane`; also the share of the weight that agrees."""
    if len(values) < 3:
        return None
    weights = weights / weights.sum()
    drawn = np.random.default_rng(0).choice(len(values), (TRIALS, 3), p=weights)
    corners = points[:, drawn].transpose(1, 2, 0)
    planes = np.abs(np.linalg.det(corners)) > 1  # three points on a line make none
    if not planes.any():
        return None
    trials = np.linalg.solve(corners[planes], values[drawn[planes]][..., None])[..., 0]
    agreed = [weights[_fits(plane, points, values)].sum() for plane in trials]
    plane = trials[int(np.argmax(agreed))]
    for _ in range(ROUNDS):
        fits = _fits(plane, points, values)
        some, wanted, share = points[:, fits], values[fits], weights[fits]
        # sums, no products of matrices: NumPy's threads would wait for torch's
        moments = [[(share * one * other).sum() for other in some] for one in some]
        if np.linalg.det(moments) <= LEAST_SPREAD * moments[0][0] ** 3:
            break  # and the plane before stands
        plane = np.linalg.solve(moments, [(share * one * wanted).sum() for one in some])
    agreed = weights[_fits(plane, points, values)].sum()
    return (plane, agreed) if agreed >= MAJORITY else None


def _fits(plane: Array, points: Array, values: Array) -> NDArray[np.bool_]:
    a, b, c = plane
    return np.abs(a + b * points[1] + c * points[2] - values) < AGREES


def _values(plane: Array, place: tuple[slice, slice]) -> NDArray[np.float32]:
    """The plane's disparity at every pixel of a box."""
    rows, columns = (np.arange(part.start, part.stop, dtype=np.float32) for part in place)
    a, b, c = plane.astype(np.float32)
    return a + b * columns + (c * rows)[:, None]
