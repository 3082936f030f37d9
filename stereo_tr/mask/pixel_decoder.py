"""The pixel decoder: from the encoder's coarsest map up, with axial attention where it is cheap.

Letters  B batch, C channels, H W size of a map
Source   kMaX-DeepLab, section 3.3, https://arxiv.org/abs/2207.04044
Tests    tests/mask/test_pixel_decoder.py: the authors' decoder (PyTorch), any size
"""

from collections.abc import Sequence
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ..convolution import ChannelNorm
from .blocks import HEADS, Block, ConvolutionNorm, corners_stay, resized

WIDTHS = (512, 256, 128, 64)
"""of the stages from stride 32 to 4, before they are widened by 4"""

DEPTHS = (1, 5, 1, 1)
KINDS = ("axial", "axial", "bottleneck", "bottleneck")


class Fuse(nn.Module):
    """Enlarge the coarse map and add it to the fine one; activate and project what doesn't fit."""

    def __init__(self, coarse: int, fine: int, outputs: int) -> None:
        super().__init__()
        self.coarse = None if coarse == outputs else ConvolutionNorm(coarse, outputs)
        self.fine = None if fine == outputs else ConvolutionNorm(fine, outputs)

    def forward(
        self, coarse: Float[Tensor, "B _ _ _"], fine: Float[Tensor, "B _ H W"]
    ) -> Float[Tensor, "B C H W"]:
        """Sum at the fine map's size."""
        corners = corners_stay(coarse)
        if self.coarse is not None:
            coarse = self.coarse(F.gelu(coarse))
        if self.fine is not None:
            fine = self.fine(F.gelu(fine))
        return resized(coarse, fine, corners=corners) + fine


class PixelDecoder(nn.Module):
    """Stages of residual blocks, one for each map of the encoder, the coarsest first."""

    def __init__(
        self,
        channels: Sequence[int],
        *,
        widths: Sequence[int] = WIDTHS,
        depths: Sequence[int] = DEPTHS,
        kinds: Sequence[str] = KINDS,
        heads: int = HEADS,
    ) -> None:
        super().__init__()
        if not len(channels) == len(widths) == len(depths) == len(kinds):
            raise ValueError(
                f"decoder_widths={tuple(widths)}, decoder_depths={tuple(depths)}, "
                f"decoder_kinds={tuple(kinds)}: one of each for every map of the encoder, "
                f"which has {len(channels)}"
            )
        self.norms = nn.ModuleList(ChannelNorm(width, eps=1e-6) for width in channels)
        self.stages, self.fuses = nn.ModuleList(), nn.ModuleList()
        for index, (width, depth, kind) in enumerate(zip(widths, depths, kinds, strict=True)):
            inputs = width if index else channels[0]
            blocks = nn.Sequential()
            for block in range(depth):
                blocks.append(
                    Block(
                        4 * width if block else inputs, width, kind, activation=nn.GELU, heads=heads
                    )
                )
            self.stages.append(blocks)
        for (below, above), fine in zip(pairwise(widths), channels[1:], strict=True):
            self.fuses.append(Fuse(4 * below, fine, above))
        self.channels = [4 * width for width in widths]

    def forward(self, maps: Sequence[Float[Tensor, "B _ _ _"]]) -> list[Tensor]:
        """One un-activated map for each of the encoder's, the coarsest first in both."""
        x, decoded = self.norms[0](maps[0]), []
        for index, stage in enumerate(self.stages):
            if index:
                x = self.fuses[index - 1](x, self.norms[index](maps[index]))
            x = stage(x)
            decoded.append(x)
        return decoded
