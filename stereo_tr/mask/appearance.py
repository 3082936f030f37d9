"""A short way for colour and place, from the image to the map that masks are read off.

Encoders that start from random weights scramble colours: where masks are given the mean of their
true pixels' features, and each pixel goes to the nearest, generated scenes of 96 px reach half the
panoptic quality that mean colours reach, and a training of thousands of steps only makes up for
that (docs/model_card.md). Colour and place are also what superpixels are clustered by.

Letters  B batch, C channels, H W image size in pixels, h w size of the map
Source   SLIC, Achanta et al. 2012, https://doi.org/10.1109/TPAMI.2012.120 (colour and place)
Tests    tests/mask/test_appearance.py
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..attention.normalised import BatchNorm
from .clustering import coordinates

MIDDLE, SPREAD = 0.5, 0.27
"""of colours, about"""
PLACE = 0.5
"""what half the image's width counts beside `SPREAD` of a colour"""
STRENGTH = 3.0
"""standard deviation of what is added, at first; the map's own is about 1"""


class Appearance(nn.Module):
    """Adds a projection of each pixel's mean colour and of its place to a map of `channels`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(5, channels, 1, bias=False)
        self.norm = BatchNorm(channels)
        nn.init.constant_(self.norm.weight, STRENGTH)

    def forward(
        self, images: Float[Tensor, "B 3 H W"], pixels: Float[Tensor, "B C h w"]
    ) -> Float[Tensor, "B C h w"]:
        """Images are RGB in [0, 1]; each pixel of the map gets the mean over its part of them."""
        colour = (F.adaptive_avg_pool2d(images, pixels.shape[2:]) - MIDDLE) / SPREAD
        seen = torch.cat((colour, PLACE * coordinates(colour)), dim=1)
        return pixels + self.norm(self.project(seen))
