"""Convolutional blocks that several models are built from.

The stereo models' blocks take statistics within a sample (GroupNorm), so nothing leaks between
samples or between the views of a pair, and training and inference are the same function. The
inverted bottleneck is told which norm to use.

Letters  B batch, C C2 channels in and out, H W size of a map, H2 W2 after the stride
Source   residual blocks: He et al. 2016, https://arxiv.org/abs/1512.03385; GroupNorm:
         https://arxiv.org/abs/1803.08494; inverted bottleneck: MobileNetV2,
         https://arxiv.org/abs/1801.04381; squeeze and excitation:
         https://arxiv.org/abs/1709.01507; "SAME" padding: TensorFlow's tf.nn.convolution
Tests    tests/test_convolution.py: torch's norm and convolution taken apart;
         tests/vision/test_moat.py and test_vitamin.py: the inverted bottleneck as published
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .attention import drop_path

GROUP = 8
"""channels that share their statistics"""


@contextmanager
def statistics_kept(block: nn.Module) -> Iterator[None]:
    """Leave running statistics as they are: for a batch that has been counted already."""
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    counting = [norm for norm in norms if norm.track_running_stats]
    before = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in counting]
    try:
        for norm in counting:
            norm.momentum = 0.0  # switched off, another number of tensors would be kept
        yield
    finally:
        for norm, (momentum, count) in zip(counting, before, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)


def convolution(
    inputs: int, outputs: int, kernel: int = 3, *, stride: int = 1, activation: bool = True
) -> nn.Sequential:
    """Convolution, GroupNorm and (unless told otherwise) ReLU, for an odd `kernel`.

    Padded so that H x W becomes ceil(H / stride) x ceil(W / stride). Raises ValueError where
    `outputs` is not a multiple of GROUP.
    """
    if outputs % GROUP:
        raise ValueError(f"{outputs} output channels are not a multiple of {GROUP}")
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.GroupNorm(outputs // GROUP, outputs),
    ]
    # The norm's way back doesn't read its result, so that may be changed in place.
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if activation else nn.Sequential(*layers)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut; the first may reduce the resolution."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            convolution(inputs, outputs, stride=stride),
            convolution(outputs, outputs, activation=False),
        )
        self.shortcut = (
            nn.Identity()
            if stride == 1 and inputs == outputs
            else convolution(inputs, outputs, 1, stride=stride, activation=False)
        )
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H2 W2"]:
        """Branch plus shortcut; H2, W2 are H, W over the stride, rounded up."""
        return self.activation(self.branch(x).add_(self.shortcut(x)))


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of a map, for every place alone."""

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Normalise the channels."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Cells that TensorFlow's "SAME" puts before and after: just enough for ceil(size / stride).

    An odd one goes after, so that a stride of 2 over an even size pads nothing before.
    """
    steps = (size + stride - 1) // stride  # -(-size // stride) is rounded otherwise in ONNX
    total = max((steps - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _pad(
    x: Float[Tensor, "B C H W"], kernel: int, stride: int, *, same: bool
) -> Float[Tensor, "B C H2 W2"]:
    """Zeros for windows of `kernel`: as TensorFlow does, or kernel // 2 on every side."""
    if same:
        rows, columns = (same_padding(size, kernel, stride) for size in x.shape[-2:])
    else:
        rows = columns = (kernel // 2, kernel // 2)
    return F.pad(x, (*columns, *rows))


class PaddedConvolution(nn.Conv2d):
    """Convolution with ceil(size / stride) outputs a side, padded on every side alike or "SAME"."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 3,
        *,
        stride: int = 1,
        same: bool = False,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        same = same and stride > 1  # else the two are one
        padding = 0 if same else kernel // 2
        super().__init__(inputs, outputs, kernel, stride, padding, groups=groups, bias=bias)
        self.same = same

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H2 W2"]:
        """Pad and convolve."""
        if self.same:
            x = _pad(x, self.kernel_size[0], self.stride[0], same=True)
        return super().forward(x)


def average_pool(
    x: Float[Tensor, "B C H W"], window: int, stride: int, *, same: bool
) -> Float[Tensor, "B C H2 W2"]:
    """Mean of every window, of the cells that are in the map: padding isn't counted."""
    share = _pad(torch.ones_like(x[:1, :1]), window, stride, same=same)
    x = _pad(x, window, stride, same=same)
    return F.avg_pool2d(x, window, stride) / F.avg_pool2d(share, window, stride)


class SqueezeExcite(nn.Module):
    """Weigh the channels, each by a number in [0, 1] that the mean of the map decides."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.excite = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Multiply by the weights."""
        mean = x.mean((2, 3), keepdim=True)
        return x * self.excite(F.silu(self.squeeze(mean))).sigmoid()


EXPANSION = 4
"""width inside an inverted bottleneck over its output width"""


class InvertedBottleneck(nn.Module):
    """MBConv: norm, widen, mix neighbours channel by channel, narrow; plus a shortcut.

    `norm` makes the norm in front, `inner_norm` those after the first two convolutions (which then
    need no bias); `squeezed` is the width of a squeeze-and-excite step before narrowing, if any.
    With a stride, the shortcut averages windows of `pool`; where the width changes, a 1x1
    convolution follows. `same` pads as TensorFlow does.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        stride: int = 1,
        norm: Callable[[int], nn.Module],
        inner_norm: Callable[[int], nn.Module] | None = None,
        squeezed: int | None = None,
        pool: int = 3,
        same: bool = False,
        drop_path: int | float = 0.0,
    ) -> None:
        super().__init__()
        hidden, bias = EXPANSION * outputs, inner_norm is None
        self.norm = norm(inputs)
        self.widen = nn.Conv2d(inputs, hidden, 1, bias=bias)
        self.widen_norm = inner_norm(hidden) if inner_norm else nn.Identity()
        self.mix = PaddedConvolution(
            hidden, hidden, stride=stride, same=same, groups=hidden, bias=bias
        )
        self.mix_norm = inner_norm(hidden) if inner_norm else nn.Identity()
        self.channels = SqueezeExcite(hidden, squeezed) if squeezed else nn.Identity()
        self.narrow = nn.Conv2d(hidden, outputs, 1)
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)
        self.activation = nn.GELU()
        self.stride, self.pool, self.same = stride, pool, same
        self.drop_path = drop_path

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H2 W2"]:
        """Branch plus shortcut; H2, W2 are H, W over the stride, rounded up."""
        branch = self.activation(self.widen_norm(self.widen(self.norm(x))))
        branch = self.activation(self.mix_norm(self.mix(branch)))
        branch = self.narrow(self.channels(branch))
        if self.drop_path and self.training:
            branch = drop_path(branch, self.drop_path)
        if self.stride > 1:
            x = average_pool(x, self.pool, self.stride, same=self.same)
        return self.shortcut(x) + branch
