"""What two cameras do differently to one scene: exposure, colour, noise, blur, misalignment.

Works on grey levels, float32 [H, W, 3] in 0 to 255, and changes no geometry beyond the misalignment
of the right view that rectification leaves in practice. About two pairs in five are nearly alike.

Source   asymmetric changes as in STTR, RAFT-Stereo and CREStereo, with the strengths of
         real rectified pairs
Tests    tests/datasets/test_camera.py
"""

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float32]

FINE = 16
"""steps per grey level in the tone curves' table"""


def photograph(
    left: Picture,
    right: Picture,
    edges: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    pool: NDArray[np.float32],
    rng: np.random.Generator,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Both views as cameras would record them, uint8 [H, W, 3].

    left, right: clean views; edges: pixels beside another surface, [H, W], in each view;
    pool: normal noise to draw from.
    """
    unlike = 0.1 if rng.random() < 0.4 else rng.uniform(0.3, 1.0)
    """how different the two cameras are, 0 to 1"""
    views = [left, right]
    if rng.random() < 0.8:  # a pixel gathers light from both sides of an edge
        width = rng.uniform(0.4, 0.7)
        views = [_softened(v, edge, width) for v, edge in zip(views, edges, strict=True)]
    if rng.random() < 0.35:
        width = rng.uniform(0.3, 0.9)
        views = [_blurred(view, width) for view in views]
    if rng.random() < 0.15 * (1 + unlike):
        one = int(rng.integers(2))
        views[one] = _blurred(views[one], rng.uniform(0.3, 0.3 + 0.9 * unlike))
    if rng.random() < 0.6:
        views[1] = _misaligned(views[1], _slip(rng) * unlike, rng.normal(0, 0.08) * unlike)
    if rng.random() < 0.3:
        _hide_patches(views[1], pool, rng)

    grey = rng.random() < 0.08
    gamma, gain = np.exp(rng.normal(0, 0.15)), np.exp(rng.normal(0, 0.1))
    tint = np.exp(rng.normal(0, 0.05, 3))
    level = 7.0 * rng.random() ** 2.5
    grainy = rng.random() < 0.3
    result = []
    for view in views:
        own_gamma = gamma * np.exp(rng.normal(0, 0.13) * unlike)
        own_gain = gain * tint * np.exp((rng.normal(0, 0.12) + rng.normal(0, 0.04, 3)) * unlike)
        view = _toned(view, own_gamma, own_gain, rng.normal(0, 5) * unlike)
        if rng.random() < 0.25:
            view *= _vignette(view.shape[:2], rng.uniform(0.05, 0.4))
        if grey:
            view[:] = view @ np.array([0.299, 0.587, 0.114], np.float32)[:, None]
        view = _noisy(view, level * rng.uniform(1 - 0.5 * unlike, 1), grey, grainy, pool, rng)
        result.append(cv2.add(view, 0.0, dtype=cv2.CV_8U))  # rounds and saturates
    if rng.random() < 0.08:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(50, 97))]
        result = [cv2.imdecode(cv2.imencode(".jpg", v, quality)[1], 1) for v in result]
    return result[0], result[1]


def highlight(
    left: Picture,
    right: Picture,
    on_object: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    place: tuple[int, int],
    disparity: float,
    rng: np.random.Generator,
) -> None:
    """Add a mirror's glint to an object, in place; it moves between the views against its surface.

    on_object: the object's pixels in each view; place: (x, y) in the left view; disparity: the
    object's there.
    """
    size, power = rng.uniform(3, 14), rng.uniform(30, 130)
    drift = rng.normal(0, 0.12) * disparity
    columns = (place[0], place[0] - disparity + drift)
    for view, mask, x in zip((left, right), on_object, columns, strict=True):
        height, width = mask.shape
        across = np.exp(-np.square((np.arange(width, dtype=np.float32) - np.float32(x)) / size) / 2)
        down = np.exp(-np.square((np.arange(height, dtype=np.float32) - place[1]) / size) / 2)
        glint = np.outer(down, across).astype(np.float32) * np.float32(power)
        view += (glint * mask)[..., None]


def relit(view: Picture, surface: NDArray[np.uint8], rng: np.random.Generator) -> Picture:
    """The view under other lamps: brighter and darker places, and surfaces that catch other light.

    surface: number of the surface seen at each pixel, [H, W]. Factors stay between about 0.4 and
    2.5; a pair like that was taken at another hour, as some of Middlebury's are on purpose.
    """
    height, width = surface.shape
    strength = 0.05 + 0.4 * rng.random() ** 1.5
    rows, columns = rng.integers(2, 6, 2)
    field = rng.normal(0, 1, (int(rows), int(columns))).astype(np.float32)
    field = cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC)
    table = rng.normal(0, 0.7, (1, 256)).astype(np.float32)
    field += cv2.LUT(surface, table)
    light = np.exp(np.clip(field * np.float32(strength), -0.9, 0.9))
    return view * light[..., None]


def _blurred(view: Picture, width: float) -> Picture:
    return cv2.GaussianBlur(view, (0, 0), width)


def _softened(view: Picture, edge: NDArray[np.bool_], width: float) -> Picture:
    return cv2.copyTo(cv2.GaussianBlur(view, (3, 3), width), edge.view(np.uint8), view.copy())


def _slip(rng: np.random.Generator) -> float:
    """Vertical shift that rectification left, px: mostly below 0.5, one in twenty beyond 1.9."""
    normal = rng.normal()
    return 0.4 * normal + 0.15 * normal**3


def _misaligned(view: Picture, shift: float, degrees: float) -> Picture:
    """Moved down by `shift` px and turned about the middle."""
    height, width = view.shape[:2]
    move = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    move[1, 2] += shift
    return cv2.warpAffine(
        view, move, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )


def _hide_patches(view: Picture, pool: NDArray[np.float32], rng: np.random.Generator) -> None:
    """One or two rectangles of the mean colour, or of noise, in place."""
    height, width = view.shape[:2]
    for _ in range(int(rng.integers(1, 3))):
        rows, columns = (int(rng.uniform(0.08, 0.35) * height) + 1 for _ in range(2))
        y = int(rng.integers(0, max(height - rows, 1)))
        x = int(rng.integers(0, max(width - columns, 1)))
        patch = view[y : y + rows, x : x + columns]
        patch[:] = view[::7, ::7].mean((0, 1))
        if rng.random() < 0.3:
            patch += _draw(pool, patch.shape, rng) * rng.uniform(5, 60)


def _toned(view: Picture, gamma: float, gain: NDArray, offset: float) -> Picture:
    """Tone curve a channel: 255 (v / 255)^gamma gain + offset."""
    levels = np.linspace(0, 1, 255 * FINE + 1)
    table = (255 * levels[:, None] ** gamma * gain + offset).astype(np.float32)
    index = (np.clip(view, 0, 255) * FINE + 0.5).astype(np.uint16)
    return np.stack([table[:, c].take(index[..., c]) for c in range(3)], 2)


def _vignette(size: tuple[int, int], strength: float) -> Picture:
    """Factor [H, W, 1] that falls to 1 - strength in the corners."""
    y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in size)
    return (1 - np.float32(strength / 2) * (y[:, None] ** 2 + x**2))[..., None]


def _draw(pool: NDArray[np.float32], shape: tuple[int, ...], rng: np.random.Generator) -> Picture:
    """A piece of the pool from a random place, or fresh noise where the pool is too small."""
    count = int(np.prod(shape))
    if count > len(pool):
        return rng.standard_normal(shape, np.float32)
    start = int(rng.integers(len(pool) - count + 1))
    return pool[start : start + count].reshape(shape)


def _noisy(view, level: float, grey: bool, grainy: bool, pool, rng) -> Picture:
    """Noise of `level` grey levels; grainy: spread over neighbours, as demosaicing does."""
    if level < 0.1:
        return view
    added = _draw(pool, (*view.shape[:2], 1) if grey else view.shape, rng)
    if grainy:
        added = cv2.GaussianBlur(added, (3, 3), 0.6).reshape(added.shape) * 1.6
    return view + added * np.float32(level)
