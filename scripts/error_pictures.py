"""One strip an image for people to look at: left | prediction | truth | where it is wrong.

Prediction and truth share one colour scale, from 0 to the largest true disparity. The error runs
from black (none) to light yellow (WORST pixels or more); grey is where nobody knows the truth, and
occluded pixels are tinted blue.

Tests  tests/scripts/test_evaluate.py
"""

import numpy as np
from jaxtyping import Float32, UInt8

from stereo_tr.datasets.sample import StereoSample
from stereo_tr.pictures import Span, colour_disparity, view_picture

WORST = 8.0
"""pixels of error that have the brightest colour"""
_OCCLUDED = np.array([40, 90, 255])


def error_strip(
    disparity: Float32[np.ndarray, "H W"], sample: StereoSample
) -> UInt8[np.ndarray, "H strip_width 3"]:
    """Lay left view, prediction, truth and error side by side, with two white pixels in between."""
    truth, valid = sample.disparity.numpy(), sample.valid.numpy()
    span = Span(0, max(float(truth.max()), 1))  # a scene without a known pixel has a picture too
    error = colour_disparity(np.abs(disparity - truth), valid, Span(0, WORST))
    hidden = sample.occluded.numpy()
    error[hidden] = (0.65 * error[hidden] + 0.35 * _OCCLUDED).astype(np.uint8)
    gap = np.full((len(truth), 2, 3), 255, dtype=np.uint8)
    prediction = colour_disparity(disparity, span=span)
    return np.concatenate(
        [
            *(view_picture(sample.left), gap, prediction, gap),
            *(colour_disparity(truth, valid, span), gap, error),
        ],
        axis=1,
    )
