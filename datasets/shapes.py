"""Outlines of generated objects, as masks: polygons, ellipses, plates with holes, thin things.

A mask is uint8 [rows, columns], 0 to 255, with antialiased edges and a border of zeros; the object
exists where the interpolated value is above one half. `half` is half its extent (across, down) in
pixels, and the object's centre lies at the middle of the mask.

Tests  tests/datasets/test_shapes.py
"""

from collections.abc import Callable
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.uint8]
Half = tuple[float, float]

BORDER = 2
"""pixels of nothing around each shape"""
FINE = 3
"""a shape is drawn this many times larger, then averaged: its outline is exact to 1/6 px. Odd, so
that no average is one half, which rounding would decide"""
THINNEST = 4.0
"""pixels; half of that is left where an opening is off the middle"""
SUBPIXEL = 4
"""bits of fraction in the corner positions given to OpenCV"""


def blank_canvas(rows: int, columns: int) -> Mask:
    """An enlarged canvas for a mask of `rows` by `columns`."""
    return np.zeros((rows * FINE, columns * FINE), np.uint8)


def finished(canvas: Mask) -> Mask:
    """The mask of a canvas, with its outermost pixels empty."""
    size = (canvas.shape[1] // FINE, canvas.shape[0] // FINE)
    mask = cv2.resize(canvas, size, interpolation=cv2.INTER_AREA)
    mask[[0, -1]] = 0
    mask[:, [0, -1]] = 0
    return mask


def fill(canvas: Mask, corners: np.ndarray, value: int = 255) -> None:
    """Fill the polygon of corners [N, 2] (x, y; pixels of the mask, integers at their centres)."""
    points = (corners + 0.5) * FINE - 0.5
    cv2.fillPoly(
        canvas, [np.rint(points * (1 << SUBPIXEL)).astype(np.int32)], value, cv2.LINE_8, SUBPIXEL
    )


def _blank(half: Half) -> tuple[Mask, np.ndarray]:
    """A canvas that holds a shape and its border, and the shape's centre (x, y)."""
    columns, rows = (2 * int(np.ceil(h)) + 1 + 2 * BORDER for h in half)
    return blank_canvas(rows, columns), np.array([(columns - 1) / 2, (rows - 1) / 2])


def _turned(corners: np.ndarray, angle: float) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    return corners @ np.array([[cos, sin], [-sin, cos]])


def _stroke(canvas: Mask, start: np.ndarray, end: np.ndarray, width: float) -> None:
    """A straight bar of given width."""
    along = end - start
    length = float(np.hypot(*along)) or 1.0
    across = np.array([-along[1], along[0]]) * (width / 2 / length)
    fill(canvas, np.array([start + across, end + across, end - across, start - across]))


def _circle() -> np.ndarray:
    """A circle of radius 1, as corners of a polygon."""
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def polygon(rng: np.random.Generator, half: Half) -> Mask:
    """Three to eight corners around the centre, or a star."""
    canvas, centre = _blank(half)
    _draw_polygon(canvas, centre, rng, half)
    return finished(canvas)


def _draw_polygon(canvas: Mask, centre: np.ndarray, rng: np.random.Generator, half: Half) -> None:
    if rng.random() < 0.25:
        count, radius = 2 * int(rng.integers(4, 8)), np.resize([1.0, rng.uniform(0.3, 0.7)], 16)
        radius = radius[:count]
    else:
        count = int(rng.integers(3, 9))
        radius = rng.uniform(0.55, 1.0, count)
    angle = (np.arange(count) + rng.uniform(-0.3, 0.3, count)) * (2 * np.pi / count)
    angle += rng.uniform(0, 2 * np.pi)
    fill(canvas, centre + np.stack([np.cos(angle), np.sin(angle)], 1) * radius[:, None] * half)


def rectangle(rng: np.random.Generator, half: Half) -> Mask:
    """Upright or turned a little, as books and posters are."""
    canvas, centre = _blank(half)
    _draw_rectangle(canvas, centre, rng, half)
    return finished(canvas)


def _draw_rectangle(canvas: Mask, centre: np.ndarray, rng: np.random.Generator, half: Half) -> None:
    angle = 0.0 if rng.random() < 0.5 else rng.normal(0, 0.4)
    shrink = 1 / (abs(np.cos(angle)) + abs(np.sin(angle)))
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half * shrink
    corners += rng.uniform(-0.1, 0.1, (4, 2)) * half * (rng.random() < 0.4)
    fill(canvas, centre + _turned(corners, angle))


def ellipse(rng: np.random.Generator, half: Half) -> Mask:
    """Filled, sometimes a ring."""
    if rng.random() < 0.15:
        return ring(rng, half)
    canvas, centre = _blank(half)
    fill(canvas, centre + _circle() * half)
    return finished(canvas)


def ring(rng: np.random.Generator, half: Half) -> Mask:
    """An ellipse with an elliptic opening, not quite in its middle; filled if it is very small."""
    canvas, centre = _blank(half)
    circle = _circle() * half
    fill(canvas, centre + circle)
    inner = min(rng.uniform(0.5, 0.92), 1 - THINNEST / min(half))
    if inner > 0:
        fill(canvas, centre + circle * inner + rng.uniform(-0.4, 0.4, 2) * (1 - inner) * half, 0)
    return finished(canvas)


def stick(rng: np.random.Generator, half: Half) -> Mask:
    """A thin straight bar from corner to corner, 1.5 to 9 px wide."""
    canvas, centre = _blank(half)
    tip = np.array(half) * (1 if rng.random() < 0.5 else -1, 1)
    _stroke(canvas, centre - tip, centre + tip, 1.5 * 6 ** rng.random())
    return finished(canvas)


def bar(rng: np.random.Generator, half: Half) -> Mask:
    """One thin straight bar from edge to edge, 1.5 to 9 px wide."""
    canvas, centre = _blank(half)
    angle = rng.uniform(0, np.pi) if rng.random() < 0.6 else rng.choice([0.0, np.pi / 2])
    tip = np.array([np.cos(angle), np.sin(angle)]) * max(half)
    tip *= min(1.0, *(h / (abs(t) + 1e-6) for h, t in zip(half, tip, strict=True)))
    _stroke(canvas, centre - tip, centre + tip, 1.5 * 6 ** rng.random())
    return finished(canvas)


def holes(rng: np.random.Generator, half: Half) -> Mask:
    """A plate with round and square holes."""
    canvas, centre = _blank(half)
    (_draw_polygon if rng.random() < 0.4 else _draw_rectangle)(canvas, centre, rng, half)
    angle = np.linspace(0, 2 * np.pi, int(rng.choice([4, 24])), endpoint=False) + 0.785
    circle = np.stack([np.cos(angle), np.sin(angle)], 1)
    for _ in range(int(rng.integers(1, 9))):
        radius = rng.uniform(0.08, 0.3) * min(half)
        fill(canvas, centre + rng.uniform(-0.7, 0.7, 2) * half + circle * radius, 0)
    return finished(canvas)


def blob(rng: np.random.Generator, half: Half) -> Mask:
    """A smooth closed outline."""
    canvas, centre = _blank(half)
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    radius = np.ones(64)
    for order in range(2, 7):
        radius += rng.normal(0, 0.45 / order) * np.cos(order * angle + rng.uniform(0, 6.3))
    radius = np.maximum(radius, 0.15)
    circle = np.stack([np.cos(angle), np.sin(angle)], 1) * (radius / radius.max())[:, None]
    fill(canvas, centre + circle * half)
    return finished(canvas)


def frame(rng: np.random.Generator, half: Half) -> Mask:
    """A rectangle with a large opening: a window, a picture frame, a chair's back."""
    canvas, centre = _blank(half)
    _draw_rectangle(canvas, centre, rng, half)
    columns, rows = 2 * centre + 1
    edge = np.clip(rng.uniform(0.06, 0.25) * min(half), 2.0, 14.0) + BORDER
    openings = int(rng.integers(1, 4))
    bounds = np.linspace(edge, columns - 1 - edge, openings + 1)
    gap = (edge - BORDER) / 2
    for a, b in pairwise(bounds):
        if b - a > 2 * gap:
            x, y = (a + gap, b - gap), (edge, rows - 1 - edge)
            fill(canvas, np.array([[x[0], y[0]], [x[1], y[0]], [x[1], y[1]], [x[0], y[1]]]), 0)
    return finished(canvas)


def grid(rng: np.random.Generator, half: Half) -> Mask:
    """A fence or a lattice: parallel thin bars, often crossed by others."""
    canvas, centre = _blank(half)
    angle = rng.choice([0.0, np.pi / 2, rng.uniform(0, np.pi)])
    for turn in (0.0, np.pi / 2)[: 1 + int(rng.random() < 0.6)]:
        width, pitch = 1.5 * 3.5 ** rng.random(), rng.uniform(8, 36)
        direction = np.array([np.cos(angle + turn), np.sin(angle + turn)])
        side = np.array([-direction[1], direction[0]])
        reach = float(np.hypot(*half))
        for offset in np.arange(-reach, reach, width + pitch) + rng.uniform(0, pitch):
            middle = centre + side * offset
            _stroke(canvas, middle - direction * reach, middle + direction * reach, width)
    return finished(canvas)


def foliage(rng: np.random.Generator, half: Half) -> Mask:
    """Many leaves, and often the twigs that carry them."""
    canvas, centre = _blank(half)
    angle = np.linspace(0, 2 * np.pi, 10, endpoint=False)
    leaf = np.stack([np.cos(angle), np.sin(angle)], 1)
    twigs = rng.random() < 0.6
    long = rng.uniform(0.08, 0.3) * min(half) + 2
    slim = rng.uniform(0.25, 0.7) * long
    for _ in range(int(rng.integers(6, 28))):
        place = centre + np.clip(rng.normal(0, 0.45, 2), -0.9, 0.9) * half
        if twigs:
            _stroke(canvas, centre + np.array([0, half[1] * 0.8]), place, rng.uniform(1.2, 2.5))
        size = rng.uniform(0.6, 1.3)
        fill(canvas, place + _turned(leaf * (long * size, slim * size), rng.uniform(0, np.pi)))
    return finished(canvas)


def furniture(rng: np.random.Generator, half: Half) -> Mask:
    """A board on legs: a table, a stool, a chair."""
    canvas, centre = _blank(half)
    width = np.clip(rng.uniform(0.06, 0.2) * min(half), 1.6, 9.0)
    board = rng.uniform(-1.0, 0.2) * half[1]
    left, right = centre[0] - half[0], centre[0] + half[0]
    board += centre[1]
    _stroke(canvas, np.array([left, board]), np.array([right, board]), 2 * width)
    for x in np.linspace(left + width, right - width, int(rng.integers(2, 5))):
        foot = np.array([x + rng.normal(0, 0.05) * half[0], centre[1] + half[1]])
        _stroke(canvas, np.array([x, board]), foot, width)
    if rng.random() < 0.5:
        side = rng.choice([left + width, right - width])
        _stroke(canvas, np.array([side, centre[1] - half[1]]), np.array([side, board]), width)
    return finished(canvas)


def letters(rng: np.random.Generator, half: Half) -> Mask:
    """One to four capital letters."""
    canvas, _ = _blank(half)
    text = "".join(rng.choice(list("ABCEFGHKMNOPRSTXZ0123456789"), int(rng.integers(1, 5))))
    font = cv2.FONT_HERSHEY_DUPLEX
    thickness = max(2 * FINE, int(min(half) * FINE * rng.uniform(0.08, 0.3)))
    (width, height), _ = cv2.getTextSize(text, font, 1.0, thickness)
    edge = BORDER * FINE + thickness // 2
    rows, columns = canvas.shape
    scale = min((columns - 2 * edge) / width, (rows - 2 * edge) / height)
    cv2.putText(canvas, text, (edge, rows - edge), font, max(scale, 0.1), 255, thickness)
    return finished(canvas)


SHAPES: dict[str, Callable[[np.random.Generator, Half], Mask]] = {
    "polygon": polygon,
    "rectangle": rectangle,
    "ellipse": ellipse,
    "bar": bar,
    "holes": holes,
    "blob": blob,
    "frame": frame,
    "grid": grid,
    "foliage": foliage,
    "furniture": furniture,
    "letters": letters,
}
THIN = ("bar", "grid", "foliage", "furniture", "frame", "letters")
"""shapes with parts of a few pixels"""
