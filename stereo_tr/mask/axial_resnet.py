"""The MaX-S backbone: ResNet-50 with a stem of three convolutions and axial attention at the end.

Letters  B batch, C channels, H W size of a map
Source   MaX-DeepLab, appendix, https://arxiv.org/abs/2012.00759
Tests    tests/mask/test_max_deeplab.py: the authors' stages; tests/mask/test_mask_costs.py
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from .blocks import HEADS, Activation, Block, ConvolutionNorm

STEM = (64, 64, 128)
FILTERS = (64, 128, 256, 512)
"""of the stages at stride 4, 8, 16, 32, before they are widened by 4"""
DEPTHS = (3, 4, 6, 3)
AXIAL_FROM = 16
"""stride of a block's input from which on its middle is axial attention"""


def stem(widths: Sequence[int], activation: Activation) -> nn.Sequential:
    """Three 3x3 convolutions, the first with stride 2; not activated at the end."""
    first, second, third = widths
    return nn.Sequential(
        ConvolutionNorm(3, first, 3, stride=2, activation=activation),
        ConvolutionNorm(first, second, 3, activation=activation),
        ConvolutionNorm(second, third, 3),
    )


def stage(
    inputs: int,
    filters: int,
    depth: int,
    input_stride: int,
    *,
    stride: int = 2,
    halve: bool = True,
    convolution: str = "bottleneck",
    drop_path: int | float = 0.0,
    drop_from: int = AXIAL_FROM,
    **block: object,
) -> list[Block]:
    """Blocks of one stage: axial attention where their input's stride reaches AXIAL_FROM.

    `stride` is the first block's; with `halve` off, it counts but the map keeps its size.
    `convolution` is the kind of the other blocks; drop path begins at stride `drop_from`.
    """
    blocks, current = [], input_stride
    for _ in range(depth):
        first = not blocks
        blocks.append(
            Block(
                inputs,
                filters,
                "axial" if current >= AXIAL_FROM else convolution,
                stride=stride if first and halve else 1,
                drop_path=drop_path if current >= drop_from else 0.0,
                **block,
            )
        )
        inputs, current = 4 * filters, stride * input_stride
    return blocks


class AxialResNet(nn.Module):
    """Encoder of four maps, at stride 4, 8, 16 and 32, un-activated."""

    def __init__(
        self,
        *,
        stem_widths: Sequence[int] = STEM,
        filters: Sequence[int] = FILTERS,
        depths: Sequence[int] = DEPTHS,
        heads: int = HEADS,
        drop_path: int | float = 0.0,
        activation: Activation = nn.GELU,
    ) -> None:
        super().__init__()
        self.stem = stem(stem_widths, activation)
        self.stages = nn.ModuleList()
        inputs = stem_widths[-1]
        strides = [2**index for index in range(1, len(filters) + 1)]
        for stride, width, depth in zip(strides, filters, depths, strict=True):
            blocks = stage(
                inputs,
                width,
                depth,
                stride,
                activation=activation,
                heads=heads,
                drop_path=drop_path,
            )
            self.stages.append(nn.Sequential(*blocks))
            inputs = 4 * width
        self.feature_channels = {
            2 * stride: 4 * width for stride, width in zip(strides, filters, strict=True)
        }

    def features(self, x: Float[Tensor, "B 3 H W"]) -> dict[int, Float[Tensor, "B _ _ _"]]:
        """Maps of images in [0, 1] by stride."""
        x, maps = self.stem(2 * x - 1), {}
        for stride, blocks in zip(self.feature_channels, self.stages, strict=True):
            x = maps[stride] = blocks(x)
        return maps
