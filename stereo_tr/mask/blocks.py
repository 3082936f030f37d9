"""What the mask transformers are built from: projections, residual blocks, axial attention.

Maps run un-activated from block to block; whoever takes one activates it first. Object queries are
maps of one row, [B, C, 1, Q], so that one kind of projection and one kind of norm serve both.

Letters  B batch, C C2 channels, H W size of a map, H2 W2 after the stride, Q queries
Source   axial attention: https://arxiv.org/abs/2003.07853; blocks: MaX-DeepLab,
         https://arxiv.org/abs/2012.00759; zero-started norms: https://arxiv.org/abs/1706.02677
Tests    tests/mask/test_axial.py: the authors' blocks (TensorFlow and PyTorch)
"""

from collections.abc import Callable

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..attention import Columns, NormalisedAttention, Rows
from ..attention import drop_path as dropped
from ..attention.normalised import BatchNorm

Activation = Callable[[], nn.Module]

HEADS = 8
REACH = 255
"""offsets beyond +-254 places share a position vector"""


class ConvolutionNorm(nn.Module):
    """Convolution, batch norm and, if given, an activation; H x W becomes ceil(H / stride) x ...

    `starts_as_zero` starts the norm's scale at 0, so that a residual block starts as its shortcut.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = False,
        activation: Activation | None = None,
        starts_as_zero: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            inputs,
            outputs,
            kernel,
            stride,
            dilation * (kernel // 2),
            dilation,
            groups=groups,
            bias=bias,
        )
        self.norm = BatchNorm(outputs)
        self.activation = activation() if activation else nn.Identity()
        fan_in = self.conv.weight[0].numel()
        nn.init.trunc_normal_(self.conv.weight, std=(2 / fan_in) ** 0.5)
        if bias:
            nn.init.zeros_(self.conv.bias)
        if starts_as_zero:
            nn.init.zeros_(self.norm.weight)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H2 W2"]:
        """Convolve, normalise, activate."""
        return self.activation(self.norm(self.conv(x)))


class AxialAttention(nn.Module):
    """Every place looks along its column or its row; positions are learned by offset."""

    def __init__(
        self,
        inputs: int,
        key_channels: int,
        value_channels: int,
        *,
        heads: int = HEADS,
        rows: bool,
    ) -> None:
        super().__init__()
        self.split = (key_channels, key_channels, value_channels)
        self.layout = Rows() if rows else Columns()
        self.project = ConvolutionNorm(inputs, sum(self.split))
        nn.init.trunc_normal_(self.project.conv.weight, std=inputs**-0.5)
        self.attention = NormalisedAttention(heads, key_channels, value_channels, reach=REACH)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H W"]:
        """Attend along one axis."""
        height, width = x.shape[2:]
        tokens = self.layout.split(self.project(x).permute(0, 2, 3, 1)).transpose(1, 2)
        attended = self.attention(*tokens.split(self.split, dim=1)).tokens
        return self.layout.merge(attended, height, width).permute(0, 3, 1, 2)


class Axial2d(nn.Module):
    """Along the columns, then along the rows: two steps in which every place meets every other.

    A stride drops rows after the first and columns after the second.
    """

    def __init__(
        self,
        inputs: int,
        key_channels: int,
        value_channels: int,
        *,
        stride: int = 1,
        heads: int = HEADS,
    ) -> None:
        super().__init__()
        self.height = AxialAttention(inputs, key_channels, value_channels, heads=heads, rows=False)
        self.width = AxialAttention(
            value_channels, key_channels, value_channels, heads=heads, rows=True
        )
        self.stride = stride

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H2 W2"]:
        """Attend along both axes."""
        x = self.height(x)[:, :, :: self.stride]
        return self.width(x)[..., :: self.stride]


class Block(nn.Module):
    """A residual block whose middle is axial attention or convolution; 4 * `filters` channels out.

    "axial": 1x1, axial attention, 1x1; "bottleneck": 1x1, 3x3, 1x1; "basic": 3x3, 3x3. The
    shortcut carries the activated input. `expansion` is the width before axial attention in
    `filters`; keys have `expansion / 2` times `filters` channels, and values twice as many.
    """

    def __init__(
        self,
        inputs: int,
        filters: int,
        kind: str,
        *,
        stride: int = 1,
        activation: Activation = nn.ReLU,
        expansion: int = 2,
        heads: int = HEADS,
        drop_path: int | float = 0.0,
    ) -> None:
        super().__init__()
        outputs = 4 * filters
        if kind == "axial":
            keys, values = expansion // 2 * filters, expansion * filters
            self.narrow = ConvolutionNorm(inputs, expansion * filters, activation=activation)
            self.mix = nn.Sequential(
                Axial2d(expansion * filters, keys, values, stride=stride, heads=heads),
                activation(),
            )
            self.widen = ConvolutionNorm(values, outputs, starts_as_zero=True)
        elif kind == "bottleneck":
            self.narrow = ConvolutionNorm(inputs, filters, activation=activation)
            self.mix = ConvolutionNorm(filters, filters, 3, stride=stride, activation=activation)
            self.widen = ConvolutionNorm(filters, outputs, starts_as_zero=True)
        elif kind == "basic":
            self.narrow = nn.Identity()
            self.mix = ConvolutionNorm(inputs, outputs, 3, stride=stride, activation=activation)
            self.widen = ConvolutionNorm(outputs, outputs, 3, starts_as_zero=True)
        else:
            raise ValueError(f"kind={kind!r}; known are 'axial', 'bottleneck' and 'basic'")
        self.shortcut = (
            None if inputs == outputs else ConvolutionNorm(inputs, outputs, stride=stride)
        )
        self.stride, self.activation = stride, activation()
        self.drop_path = drop_path

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H2 W2"]:
        """Branch plus shortcut, neither in nor out activated."""
        x = self.activation(x)
        branch = self.widen(self.mix(self.narrow(x)))
        if self.drop_path and self.training:
            branch = dropped(branch, self.drop_path)
        return branch + (
            x[..., :: self.stride, :: self.stride] if self.shortcut is None else self.shortcut(x)
        )


class DepthwiseSeparable(nn.Sequential):
    """5x5 for each channel alone, then 1x1 between the channels, each normalised and activated."""

    def __init__(self, inputs: int, outputs: int, activation: Activation) -> None:
        super().__init__(
            ConvolutionNorm(inputs, inputs, 5, groups=inputs, activation=activation),
            ConvolutionNorm(inputs, outputs, activation=activation),
        )
        nn.init.xavier_uniform_(self[0].conv.weight)


def resized(
    x: Float[Tensor, "B C H W"], like: Float[Tensor, "B _ H2 W2"], *, corners: bool
) -> Float[Tensor, "B C H2 W2"]:
    """Resize (bilinear) to the size of `like`; with `corners`, the corner places stay put."""
    if x.shape[2:] == like.shape[2:]:
        return x
    return F.interpolate(x, like.shape[2:], mode="bilinear", align_corners=corners)


def corners_stay(x: Float[Tensor, "B C H W"]) -> bool:
    """Odd maps (of images of 32 k + 1) are resized with their corners in place, even ones not."""
    return x.shape[-1] % 2 == 1
