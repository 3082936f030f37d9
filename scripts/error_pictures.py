"""Pictures for people to look at: left view, prediction, truth, where it is wrong, and how badly.

Prediction and truth share one colour scale, from 0 to the largest true disparity. The error runs
from black (none) to light yellow (WORST pixels or more); grey is where nobody knows the truth, and
occluded pixels are tinted blue.

Letters  H W image height and width, in pixels
Tests    tests/scripts/test_evaluate.py
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8

from stereo_tr.datasets.sample import StereoSample
from stereo_tr.pictures import Span, colour_disparity, view_picture
from stereo_tr.stereo.metrics import near_depth_edges

WORST = 8.0
"""pixels of error that have the brightest colour"""
_OCCLUDED = np.array([40, 90, 255])
_APART = 0.05
"""of the picture's width: worst pixels are at least so far apart, or all were on one object"""

Picture = UInt8[np.ndarray, "H W 3"]


class WorstPixel(NamedTuple):
    """A pixel whose disparity is further off than any around it."""

    x: int
    y: int
    truth: float
    """pixels of disparity"""
    found: float
    error: float
    where: str
    """occluded, near an edge, or in the open"""


def truth_span(sample: StereoSample) -> Span:
    """What the colours of prediction and truth stand for, in pixels."""
    return Span(0, max(float(sample.disparity.max()), 1))  # a scene without a known pixel too


def truth_picture(sample: StereoSample) -> Picture:
    """The truth in colour; grey where it isn't known."""
    return colour_disparity(sample.disparity.numpy(), sample.valid.numpy(), truth_span(sample))


def error_picture(disparity: Float32[np.ndarray, "H W"], sample: StereoSample) -> Picture:
    """Where, and how far, the disparity is off."""
    error = np.abs(disparity - sample.disparity.numpy())
    picture = colour_disparity(error, sample.valid.numpy(), Span(0, WORST))
    hidden = sample.occluded.numpy()
    picture[hidden] = (0.65 * picture[hidden] + 0.35 * _OCCLUDED).astype(np.uint8)
    return picture


def error_strip(
    disparity: Float32[np.ndarray, "H W"], sample: StereoSample
) -> UInt8[np.ndarray, "H strip_width 3"]:
    """Lay left view, prediction, truth and error side by side, with two white pixels in between."""
    gap = np.full((len(disparity), 2, 3), 255, dtype=np.uint8)
    prediction = colour_disparity(disparity, span=truth_span(sample))
    return np.concatenate(
        [
            *(view_picture(sample.left), gap, prediction, gap),
            *(truth_picture(sample), gap, error_picture(disparity, sample)),
        ],
        axis=1,
    )


def worst_pixels(
    disparity: Float32[np.ndarray, "H W"], sample: StereoSample, count: int
) -> list[WorstPixel]:
    """Up to `count` known pixels with the largest errors, none close to another, worst first.

    A disparity that is no number is the worst of all.
    """
    error = np.abs(disparity - sample.disparity.numpy())
    left = np.where(sample.valid.numpy(), np.where(np.isfinite(error), error, np.inf), 0)
    edges = near_depth_edges(sample.disparity, sample.valid)
    apart = max(1, round(_APART * left.shape[1]))
    found: list[WorstPixel] = []
    while len(found) < count and left.max(initial=0) > 0:
        y, x = (int(place) for place in np.unravel_index(left.argmax(), left.shape))
        where = "occluded" if sample.occluded[y, x] else "near an edge" if edges[y, x] else "open"
        values = sample.disparity[y, x].item(), float(disparity[y, x]), float(error[y, x])
        found.append(WorstPixel(x, y, *values, where))
        left[max(0, y - apart) : y + apart + 1, max(0, x - apart) : x + apart + 1] = 0
    return found
