"""A pair whose truth is a formula, for tests: a slanted plane painted with smooth waves."""

import numpy as np
import torch

from stereo_tr.datasets.sample import StereoSample

FAR, ALONG, DOWN = 6.0, 0.04, 0.03
"""disparity of left (x, y) = FAR + ALONG x + DOWN y"""


def waves(x, y):
    """Colour of the point that the right camera sees at (x, y)."""
    phases = [x / 5.0 + y / 9.0, x / 7.0 - y / 11.0, x / 6.0 + y / 23.0]
    return np.stack([0.5 + 0.25 * np.sin(phase) for phase in phases]).astype(np.float32)


def slanted_pair(height, width, right_truth=True):
    y, x = np.mgrid[:height, :width].astype(np.float64)
    disparity = FAR + ALONG * x + DOWN * y
    # right x = left x - disparity, solved for left x
    right_disparity = (x + FAR + DOWN * y) / (1 - ALONG) - x
    everywhere = torch.ones(height, width, dtype=torch.bool)
    known = everywhere if right_truth else ~everywhere
    right_disparity = torch.from_numpy(right_disparity.astype(np.float32))
    return StereoSample(
        left=torch.from_numpy(waves(x - disparity, y)),
        right=torch.from_numpy(waves(x, y)),
        disparity=torch.from_numpy(disparity.astype(np.float32)),
        valid=everywhere,
        occluded=torch.from_numpy(x - disparity < 0),
        right_disparity=right_disparity * known,
        right_valid=known,
        right_occluded=known & (torch.from_numpy(x) + right_disparity > width - 1),
        name="slanted",
    )
