"""Surfaces against bisection and a brute-force search in float64 that share no code with them."""

import numpy as np
import pytest

from stereo_tr.datasets import scene_layout
from stereo_tr.datasets.surfaces import MARGIN, Surface, Views, look


def disparity(s: Surface, x: float, y: float) -> float:
    """The module's formula, a point at a time."""
    across, down = x - s.centre[0], y - s.centre[1]
    k, (a, p, q, r) = s.shape, s.wave
    return float(
        k[0]
        + k[1] * across
        + k[2] * down
        + k[3] * across**2
        + k[4] * across * down
        + k[5] * down**2
        + a * np.sin(p * across + q * down + r)
    )


def source(s: Surface, x_right: float, y: float, low: float, high: float) -> float | None:
    """The left position seen at x_right: bisection of x - d(x) = x_right between low and high."""

    def error(x: float) -> float:
        return x - disparity(s, x, y) - x_right

    if error(low) > 0 or error(high) < 0:
        return None
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if error(middle) < 0 else (low, middle)
    return (low + high) / 2


def mask_value(s: Surface, x: float, y: int) -> float:
    """The mask at a fractional column, 0 outside; surfaces without a mask exist everywhere."""
    if s.mask is None:
        return 255.0
    column, row = x - s.origin[0], y - s.origin[1]
    if not (0 <= row < s.mask.shape[0] and 0 <= column < s.mask.shape[1] - 1):
        return 0.0
    i = int(np.floor(column))
    return float(s.mask[row, i] * (1 - (column - i)) + s.mask[row, i + 1] * (column - i))


def span(s: Surface, width: int) -> tuple[float, float]:
    """Left positions between which a surface exists (or is seen, where it has no mask)."""
    if s.mask is None:
        return -width, 3.0 * width
    return s.origin[0], s.origin[0] + s.mask.shape[1] - 1


def seen(surfaces: list[Surface], x: float, y: int, width: int, right: bool):
    """(disparity, index) of all surfaces at a position of one view, nearest first; and the least
    distance of any mask's value from one half, to leave out positions that rounding decides."""
    hits, doubt = [], 255.0
    for index, s in enumerate(surfaces):
        at = source(s, x, y, *span(s, width)) if right else x
        if at is None:
            continue
        value = mask_value(s, at, y)
        if s.mask is not None:
            doubt = min(doubt, abs(value - 127.5))
        if value > 127.5:
            hits.append((disparity(s, at, y), index))
    return sorted(hits, reverse=True), doubt


def scene(seed: int, height: int, width: int) -> list[Surface]:
    rng = np.random.default_rng(seed)
    return scene_layout.Layout(rng, height, width, (8.0, 14.0)).surfaces


SOME = 100
"""pixels of each view that a search looks at"""


def places(seed: int, height: int, width: int):
    """(y, x) of `SOME` random pixels."""
    flat = np.random.default_rng(seed).choice(height * width, SOME, replace=False)
    return zip((flat // width).tolist(), (flat % width).tolist(), strict=True)


@pytest.mark.parametrize("seed", range(3))
def test_both_views_against_a_float64_search(seed):
    height, width = 17, 41
    surfaces = scene(seed, height, width)
    views = look(surfaces, height, width)
    compared = wrong = 0
    for right in (False, True):
        own = views.right_disparity if right else views.disparity
        for y, x in places(seed, height, width):
            hits, doubt = seen(surfaces, x, y, width, right)
            if doubt < 8:  # cv2.remap rounds positions to 1/32 px, mask values to whole numbers
                continue
            compared += 1
            wrong += abs(hits[0][0] - own[y, x]) > 2e-3
    assert compared > SOME
    assert wrong == 0


@pytest.mark.parametrize("seed", range(3))
def test_occlusion_against_a_float64_search(seed):
    height, width = 17, 41
    surfaces = scene(seed, height, width)
    views = look(surfaces, height, width)
    compared = slivers = 0
    for right in (False, True):
        d = views.right_disparity if right else views.disparity
        occluded = views.right_occluded if right else views.occluded
        other = views.surface if right else views.right_surface
        for y, x in places(seed, height, width):
            partner = x + float(d[y, x]) * (1 if right else -1)
            if min(abs(partner), abs(partner - (width - 1))) < 1e-3:
                continue
            if not 0 <= partner <= width - 1:
                assert occluded[y, x]
                continue
            hits, doubt = seen(surfaces, partner, y, width, right=not right)
            nearer = hits[0][0] - float(d[y, x])
            if doubt < 8 or abs(nearer - MARGIN) < 0.01:
                continue
            compared += 1
            if occluded[y, x] == (nearer > MARGIN):
                continue
            # by definition, what no pixel centre beside the partner sees hides nothing
            assert not occluded[y, x]
            assert hits[0][1] not in other[y, int(partner) : int(partner) + 2]
            slivers += 1
    assert compared > SOME
    assert slivers < 0.05 * compared


def test_a_plane_is_seen_where_the_algebra_says():
    plane = Surface((0.0, 0.0), (7.0, 0.2, 0.1, 0.0, 0.0, 0.0), 0, 0)
    x = np.arange(19, dtype=np.float32)[None]
    y = np.arange(5, dtype=np.float32)[:, None]
    expected = (x + 0.1 * y + 7) / (1 - 0.2)
    np.testing.assert_allclose(plane.seen_from_right(x, y), expected, rtol=1e-6)


def test_curved_and_wavy_surfaces_come_back_to_where_they_were():
    surface = Surface(
        (30.0, 9.0), (11.0, 0.1, -0.2, -0.004, 0.003, 0.01), 0, 0, (1.3, 0.15, 0.3, 0.4)
    )
    x = np.arange(-5, 61, dtype=np.float32)[None]
    y = np.arange(23, dtype=np.float32)[:, None]
    right = x - surface.disparity(x, y)
    back = surface.seen_from_right(right, np.broadcast_to(y, right.shape))
    np.testing.assert_allclose(back, np.broadcast_to(x, right.shape), atol=1e-4)


def test_a_square_before_a_wall():
    """Worked out by hand: wall at 3 px, square of 8 px at columns 20 to 27 and disparity 9."""
    mask = np.zeros((9, 12), np.uint8)
    mask[2:7, 2:10] = 255
    wall = Surface((0.0, 0.0), (3.0, 0.0, 0.0, 0.0, 0.0, 0.0), 0, 0)
    square = Surface((24.0, 6.0), (9.0, 0.0, 0.0, 0.0, 0.0, 0.0), 1, 4, origin=(18, 2), mask=mask)
    views: Views = look([wall, square], 13, 40)
    row = 6
    assert set(np.flatnonzero(views.surface[row])) == set(range(20, 28))
    assert set(np.flatnonzero(views.right_surface[row])) == set(range(11, 19))
    # the wall behind the square's right image, 11 to 18, is the left image's 14 to 21, of which the
    # square hides 20 and 21 in the left view too; columns 0 to 2 fall off the right image
    assert set(np.flatnonzero(views.occluded[row])) == {0, 1, 2, *range(14, 20)}
    # the wall behind the square's left image, 20 to 27, is the right image's 17 to 24, of which the
    # square covers 17 and 18
    assert set(np.flatnonzero(views.right_occluded[row])) == {*range(19, 25), 37, 38, 39}
    assert not views.occluded[0, 3:].any()
