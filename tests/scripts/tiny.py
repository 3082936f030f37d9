"""A model without weights for tests of `stereo-tr estimate`, and a pair of views."""

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from stereo_tr.matcher import StereoMatcher
from stereo_tr.stereo.output import StereoOutput


class RampModel(nn.Module):
    """Disparity 20 everywhere, but 400 in row 1 and 0 in row 2; occluded in the first 4 columns."""

    def forward(self, left, right):
        disparity = torch.full_like(left[:, 0], 20)
        disparity[:, 1], disparity[:, 2] = 400, 0
        occlusion = torch.zeros_like(disparity)
        occlusion[..., :4] = 0.75
        return StereoOutput(disparity, occlusion, 1 - occlusion, None)


def use_it(monkeypatch) -> None:
    """Let `stereo-tr estimate` find this model in place of the packaged one."""

    def from_pretrained(weights=None, model=None, device="cpu"):
        return StereoMatcher(RampModel(), device)

    monkeypatch.setattr(StereoMatcher, "from_pretrained", from_pretrained)


def write_views(folder: Path, left="left.png", right="right.png", height=40, width=56):
    """Two views, 20 px apart."""
    noise = np.random.default_rng(0).random((height // 4, width // 4 + 5, 3), np.float32)
    wide = (cv2.resize(noise, (width + 20, height)) * 255).astype(np.uint8)
    for name, view in ((left, wide[:, :width]), (right, wide[:, 20:])):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), view)
    return [str(folder / left), str(folder / right)]
