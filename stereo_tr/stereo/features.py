"""Features of both views: what the matcher compares and what the context path starts from.

A small residual pyramid down to 1/16, and a way back up to 1/4, so that the tokens that are matched
know a large neighbourhood. Both views go through the same weights, stacked on the batch.

Letters  B images (left views, then right views), C2 C4 C16 channels at strides 2, 4 and 16,
         H W image size in pixels, a multiple of 16
Source   pyramid with a way back up: FPN, https://arxiv.org/abs/1612.03144
Tests    tests/stereo/test_model.py
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..convolution import ResidualBlock, convolution

STRIDE = 16
"""image sizes must be multiples of this"""


class Pyramid(NamedTuple):
    """Maps of one image at three resolutions."""

    half: Float[Tensor, "B C2 H/2 W/2"]
    """for refinement"""
    quarter: Float[Tensor, "B C4 H/4 W/4"]
    """tokens of the main path"""
    sixteenth: Float[Tensor, "B C16 H/16 W/16"]
    """tokens of the context path"""


class Features(nn.Module):
    """Image to pyramid. Map position (y, x) at stride s is centred on pixel (s y, s x)."""

    def __init__(self, widths: Sequence[int], blocks: Sequence[int]) -> None:
        """`widths` at strides 2, 4, 8 and 16; `blocks` residual blocks at strides 4, 8 and 16."""
        super().__init__()
        half, quarter, eighth, sixteenth = widths
        self.stem = nn.Sequential(convolution(3, half, stride=2), convolution(half, half))
        self.quarter = _stage(half, quarter, blocks[0])
        self.eighth = _stage(quarter, eighth, blocks[1])
        self.sixteenth = _stage(eighth, sixteenth, blocks[2])
        self.to_eighth = nn.Conv2d(sixteenth, eighth, 1)
        self.merge_eighth = convolution(eighth, eighth)
        self.to_quarter = nn.Conv2d(eighth, quarter, 1)
        self.merge_quarter = nn.Conv2d(quarter, quarter, 3, padding=1)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Pyramid:
        """Compute the pyramid of images that are standardised and whose sizes divide by STRIDE."""
        half = self.stem(images)
        quarter = self.quarter(half)
        eighth = self.eighth(quarter)
        sixteenth = self.sixteenth(eighth)
        eighth = self.merge_eighth(eighth + _double(self.to_eighth(sixteenth)))
        quarter = self.merge_quarter(quarter + _double(self.to_quarter(eighth)))
        return Pyramid(half, quarter, sixteenth)


def _stage(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
    first = ResidualBlock(inputs, outputs, stride=2)
    return nn.Sequential(first, *(ResidualBlock(outputs, outputs) for _ in range(blocks - 1)))


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
