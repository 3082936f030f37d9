"""Steps of an augmentation that move pixels: crop, scale, flips. The truth moves along exactly.

Each is a function of (sample, rng) with its settings as keywords. Afterwards warping the right view
by the disparity still gives the left one, and a pixel whose partner left the picture is occluded.

A scaled crop is a window of whole pixels resized to the wanted size, so that the scale is the exact
ratio of two widths. Views are interpolated linearly. Disparity is too, but only within a surface:
where the four pixels around differ by more than `EDGE`, or in validity or occlusion, the nearest is
taken, so that no disparity appears that lies between two surfaces.

Letters  H W size before, h w size after, in pixels
Source   swapped views: FlowNet's flip made fit for stereo, as in STTR and CREStereo
Tests    tests/datasets/test_framing.py
"""

from collections.abc import Callable

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from .sample import StereoSample

EDGE = 1.0
"""pixels of disparity from one column to the next: a surface that steep is folded in the other
view's row, so what is steeper is an edge between two surfaces"""
APART = 1e6
"""pixels: added to tell kinds of pixels apart, far above any disparity"""

Scales = Callable[[np.random.Generator], tuple[float, float]]
"""draws how much larger, along rows and down columns, things are to become"""


def crop(
    sample: StereoSample, rng: np.random.Generator, *, height: int, width: int
) -> StereoSample:
    """Cut out a random window of height x width.

    A smaller sample is padded at the bottom and the right, where columns keep their numbers: views
    with their last pixels, truth as unknown.
    """
    rows, columns = sample.disparity.shape[-2:]
    window = _place(rng, (rows, columns), (min(height, rows), min(width, columns)))
    return _padded(mark_outside(_cut(sample, window)), height, width)


def scale_and_crop(
    sample: StereoSample, rng: np.random.Generator, *, height: int, width: int, scales: Scales
) -> StereoSample:
    """Scale by what `scales` draws and cut out height x width at a random place.

    Where the scaled sample would be smaller than that, it is scaled up until it fits. Disparity
    grows with the width.
    """
    rows, columns = sample.disparity.shape[-2:]
    least = max(height / rows, width / columns)
    along, down = (max(scale, least) for scale in scales(rng))
    window = (
        min(max(round(height / down), 1), rows),
        min(max(round(width / along), 1), columns),
    )
    cut = _cut(sample, _place(rng, (rows, columns), window))
    if window != (height, width):
        cut = _resized(cut, height, width)
    return mark_outside(cut)


def swap_mirrored(
    sample: StereoSample, rng: np.random.Generator, *, probability: float
) -> StereoSample:
    """Mirror both views and exchange them: a scene with objects on the other side.

    The new left view's truth is the mirrored truth of the right one, so a sample without any is
    left as it is.
    """
    if rng.random() >= probability or not bool(sample.right_valid.any()):
        return sample
    return StereoSample(
        left=sample.right.flip(-1),
        right=sample.left.flip(-1),
        disparity=sample.right_disparity.flip(-1),
        valid=sample.right_valid.flip(-1),
        occluded=sample.right_occluded.flip(-1),
        right_disparity=sample.disparity.flip(-1),
        right_valid=sample.valid.flip(-1),
        right_occluded=sample.occluded.flip(-1),
        name=sample.name,
    )


def turn_upside_down(
    sample: StereoSample, rng: np.random.Generator, *, probability: float
) -> StereoSample:
    """Flip everything from top to bottom."""
    if rng.random() >= probability:
        return sample
    return StereoSample(*(tensor.flip(-2) for tensor in sample[:-1]), name=sample.name)


def mark_outside(sample: StereoSample) -> StereoSample:
    """Mark as occluded what is known to have its partner outside the other view."""
    width = sample.disparity.shape[-1]
    columns = torch.arange(width, dtype=torch.float32)
    outside = sample.valid & (columns < sample.disparity)
    right_outside = sample.right_valid & (columns + sample.right_disparity > width - 1)
    return sample._replace(
        occluded=sample.occluded | outside, right_occluded=sample.right_occluded | right_outside
    )


def _place(
    rng: np.random.Generator, size: tuple[int, int], window: tuple[int, int]
) -> tuple[slice, slice]:
    """A random place for `window` within `size`, all equally likely."""
    starts = [int(rng.integers(whole - part + 1)) for whole, part in zip(size, window, strict=True)]
    rows, columns = (slice(start, start + part) for start, part in zip(starts, window, strict=True))
    return rows, columns


def _cut(sample: StereoSample, window: tuple[slice, slice]) -> StereoSample:
    """Copies of the window, so that a batch doesn't keep whole pictures in memory."""
    return StereoSample(
        *(tensor[(..., *window)].contiguous() for tensor in sample[:-1]), name=sample.name
    )


def _padded(sample: StereoSample, height: int, width: int) -> StereoSample:
    rows, columns = sample.disparity.shape
    below, beside = height - rows, width - columns
    if not (below or beside):
        return sample

    def pad(tensor: Tensor) -> Tensor:
        if tensor.ndim == 3:
            return F.pad(tensor[None], (0, beside, 0, below), mode="replicate")[0]
        return F.pad(tensor, (0, beside, 0, below))

    return StereoSample(*(pad(tensor) for tensor in sample[:-1]), name=sample.name)


def _resized(sample: StereoSample, height: int, width: int) -> StereoSample:
    views = (_resized_view(view, height, width) for view in (sample.left, sample.right))
    left = _resized_truth(sample.disparity, sample.valid, sample.occluded, height, width)
    right = _resized_truth(
        sample.right_disparity, sample.right_valid, sample.right_occluded, height, width
    )
    return StereoSample(*views, *left, *right, name=sample.name)


def _resized_view(view: Float[Tensor, "3 H W"], height: int, width: int) -> Float[Tensor, "3 h w"]:
    """Linear, a channel at a time; torch's and kornia's resizing took 20 times as long."""
    channels = [
        cv2.resize(channel, (width, height), interpolation=cv2.INTER_LINEAR)
        for channel in view.numpy()
    ]
    return torch.from_numpy(np.stack(channels))


def _resized_truth(
    disparity: Float[Tensor, "H W"],
    valid: Bool[Tensor, "H W"],
    occluded: Bool[Tensor, "H W"],
    height: int,
    width: int,
) -> tuple[Float[Tensor, "h w"], Bool[Tensor, "h w"], Bool[Tensor, "h w"]]:
    if not bool(valid.any()) and not bool(occluded.any()):
        nowhere = torch.zeros(height, width, dtype=torch.bool)
        return torch.zeros(height, width), nowhere, nowhere.clone()
    known, hidden, values = valid.numpy(), occluded.numpy(), disparity.numpy()
    rows, before_rows = _sources(known.shape[0], height)
    columns, before_columns = _sources(known.shape[1], width)

    def at(pixels: NDArray, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray:
        return pixels.take(rows, 0).take(columns, 1)  # a third of the time of np.ix_

    # The four pixels around a point are those at and after the one before it, on both axes.
    kinds = values + np.float32(APART) * hidden - np.float32(2 * APART) * ~known
    four = np.ones((2, 2), np.uint8)
    border = {"anchor": (0, 0), "borderType": cv2.BORDER_REPLICATE}
    span = cv2.dilate(kinds, four, **border) - cv2.erode(kinds, four, **border)
    within = at(span, before_rows, before_columns) <= EDGE

    linear = cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR)
    scaled = np.where(within, linear, at(values, rows, columns))
    scaled *= np.float32(width / known.shape[1])
    known, hidden = at(known, rows, columns), at(hidden, rows, columns)
    scaled[~known] = 0
    return torch.from_numpy(scaled), torch.from_numpy(known), torch.from_numpy(hidden)


def _sources(size: int, target: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """For each of `target` pixels: the nearest of `size`, and the last not after its centre."""
    centres = (np.arange(target) + 0.5) * size / target
    nearest = np.minimum(centres.astype(np.intp), size - 1)
    return nearest, np.maximum(np.floor(centres - 0.5), 0).astype(np.intp)
