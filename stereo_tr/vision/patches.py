"""Patches: squares of pixels, or of a map's places, that become one token each.

Letters  B batch, C C2 channels in and out, H W size of what is cut, h w = ceil(H / size), ...
Source   Dosovitskiy et al. 2020, section 3.1, https://arxiv.org/abs/2010.11929
Tests    tests/vision/test_vit.py: odd sizes; the parity tests of ViT, Swin and ConvNeXt
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..attention.tracing import graph_is_recorded


def missing(side: int | Tensor, size: int) -> int | Tensor:
    """Return by how much a side falls short of a multiple of `size`.

    Not -side % size, which compilers get wrong for a side that is a symbol.
    """
    return (side + size - 1) // size * size - side


class Patches(nn.Module):
    """Cut into squares of `size` and project each of them to `outputs` channels.

    What isn't a multiple of `size` is padded with zeros at the bottom and the right.
    """

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.project = nn.Conv2d(inputs, outputs, size, stride=size)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B h w C2"]:
        """Project every patch: a map of tokens, channels last."""
        height, width = x.shape[-2:]
        # A graph is recorded for all sizes, so there it is padded always (by nothing, perhaps).
        if graph_is_recorded() or height % self.size or width % self.size:
            x = F.pad(x, (0, missing(width, self.size), 0, missing(height, self.size)))
        return self.project(x).permute(0, 2, 3, 1)
