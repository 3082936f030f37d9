"""Steps of an augmentation that harm the right view alone: misalignment, and things that hide it.

Each is a function of (sample, rng) with its settings as keywords.

Letters  H W image size in pixels
Source   both as in STTR, RAFT-Stereo and CREStereo
Tests    tests/datasets/test_right_view.py
"""

import cv2
import numpy as np
import torch

from .sample import StereoSample


def misalign(
    sample: StereoSample,
    rng: np.random.Generator,
    *,
    pixels: float,
    degrees: float = 0.0,
    whole: bool = False,
    centred: bool = True,
    probability: float = 1.0,
) -> StereoSample:
    """Move the right view up or down by up to `pixels` and turn it by up to `degrees`.

    whole: by whole pixels. centred: turn about the middle, else about any point. What comes in at
    the border repeats it. The truth stays as it was: this stands for what rectification leaves
    undone, and a network shall answer as if it were done. A turn by 0.2 degrees moves the ends of
    a column of 320 pixels sideways by 0.6.
    """
    if rng.random() >= probability:
        return sample
    height, width = sample.disparity.shape
    shift = rng.integers(-pixels, pixels, endpoint=True) if whole else rng.uniform(-pixels, pixels)
    angle = rng.uniform(-degrees, degrees)
    middle = np.array([width - 1, height - 1]) * (0.5 if centred else rng.random(2))
    move = cv2.getRotationMatrix2D(middle.tolist(), angle, 1.0)
    move[1, 2] += shift
    channels = [
        cv2.warpAffine(
            channel,
            move,
            (width, height),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        for channel in sample.right.numpy()
    ]
    return sample._replace(right=torch.from_numpy(np.stack(channels)))


def hide_rectangles(
    sample: StereoSample,
    rng: np.random.Generator,
    *,
    count: tuple[int, int],
    sides: tuple[int, int],
    probability: float,
) -> StereoSample:
    """Paint rectangles of the right view's mean colour over it, anywhere, cut off at its border.

    count, sides: bounds of their number and of their sides in pixels, both included.

    A left pixel with its partner, or one of the two columns around it, under a rectangle now has
    something before it: it becomes `occluded`, and its disparity stays, as for any occluded pixel
    whose disparity is known. A right pixel under a rectangle shows nothing of the scene: it
    becomes `right_occluded`; its disparity is still that of the scene behind.
    """
    if rng.random() >= probability:
        return sample
    height, width = sample.disparity.shape
    right, occluded = sample.right.clone(), sample.occluded.clone()
    right_occluded = sample.right_occluded.clone()
    colour = sample.right.mean((1, 2))[:, None, None]
    columns = torch.arange(width, dtype=torch.float32)
    for _ in range(int(rng.integers(*count, endpoint=True))):
        y, x = int(rng.integers(height)), int(rng.integers(width))
        down, along = (int(side) for side in rng.integers(*sides, size=2, endpoint=True))
        rows, end = slice(y, y + down), min(x + along, width)
        right[:, rows, x:end] = colour
        right_occluded[rows, x:end] = True
        partner = columns - sample.disparity[rows]
        occluded[rows] |= sample.valid[rows] & (partner > x - 1) & (partner < end)
    return sample._replace(right=right, occluded=occluded, right_occluded=right_occluded)
