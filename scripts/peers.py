"""What a stereo model is measured against: OpenCV's StereoSGBM, tuned fairly, every pixel filled.

Semi-global matching that anyone has at hand, in two modes: `sgbm_hh` sums the costs along eight
directions (MODE_HH), `sgbm_3way` along three and is several times faster (MODE_SGBM_3WAY).

Fair to the peer means here:
* It is told the largest true disparity of each scene and searches 0 to just above it, in steps of
  16 as OpenCV wants. In the field nobody tells; a network is never told.
* The images are widened on the left by the searched range, repeating the first column. OpenCV
  leaves out as many columns there as it searches disparities; this way they are computed too.
* Pixels that fail its own tests (uniqueness, left-right check, speckles) are filled with the
  smaller one of the next known disparities to the left and to the right in the same row, because
  what is hidden belongs to the background; `cstr_small` is filled by the same function. A row
  without any known pixel becomes 0.
* Grey instead of colour, block size, penalties and speckle window were chosen from some 35 settings
  on the very pairs that they are scored on (../shared/data), which a network's weights never are.
  Non-occluded EPE / bad-2, mean over the 17 Middlebury 2005 and 2006 pairs: 1.20 / 7.4 against
  1.29 / 7.8 in colour with blocks of 5; the lowest of all settings, 1.14 and 7.0, lost elsewhere.

Source  Hirschmueller 2008, https://doi.org/10.1109/TPAMI.2007.1166, as built into OpenCV
Tests   tests/scripts/test_evaluate.py
"""

import math
from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float32, UInt8

from stereo_tr.geometry import fill_from_background

MODES = {
    "sgbm_hh": cv2.STEREO_SGBM_MODE_HH,
    "sgbm_3way": cv2.STEREO_SGBM_MODE_SGBM_3WAY,
}
"""name of the method -> OpenCV's mode"""

# StereoSGBM searches a multiple of sixteen disparities, and returns sixteenths of a pixel.
_STEP = 16
_BLOCK = 3  # pixels
SETTINGS = {
    "minDisparity": 0,
    "blockSize": _BLOCK,
    "P1": 8 * _BLOCK**2,  # OpenCV's own advice for one channel
    "P2": 32 * _BLOCK**2,
    "disp12MaxDiff": 1,
    "preFilterCap": 63,
    "uniquenessRatio": 10,
    "speckleWindowSize": 200,
    "speckleRange": 2,
}
"""everything but the mode and the number of disparities"""

PROTOCOL = (
    "StereoSGBM is told each scene's largest disparity, its left border is computed, "
    "and its holes are filled from the background; they count as the pixels it calls occluded."
)


class PeerResult(NamedTuple):
    """What the peer found."""

    disparity: Float32[np.ndarray, "H W"]
    """pixels, >= 0, filled everywhere"""
    hole: Bool[np.ndarray, "H W"]
    """True where it found no match that it trusts: the nearest it has to an occlusion map"""


def match(
    left: Float32[np.ndarray, "H W 3"],
    right: Float32[np.ndarray, "H W 3"],
    largest: int | float,
    mode: str,
) -> PeerResult:
    """Match two RGB images in [0, 1], searching disparities from 0 to at least `largest` pixels.

    `mode` is one of MODES. Any image size, also one that is narrower than the searched range.
    """
    count = _STEP * math.ceil((largest + 1) / _STEP)
    views = [
        cv2.copyMakeBorder(_grey(view), 0, 0, count, 0, cv2.BORDER_REPLICATE)
        for view in (left, right)
    ]
    matcher = cv2.StereoSGBM_create(numDisparities=count, mode=MODES[mode], **SETTINGS)
    disparity = matcher.compute(*views)[:, count:].astype(np.float32) / _STEP
    hole = disparity < 0
    known = torch.from_numpy(np.where(hole, np.float32(0), disparity))[None]
    filled = fill_from_background(known, torch.from_numpy(~hole)[None])
    return PeerResult(filled[0].numpy(), hole)


def _grey(view: Float32[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W"]:
    return cv2.cvtColor((view * 255).round().astype(np.uint8), cv2.COLOR_RGB2GRAY)
