"""Convolutional blocks that several models are built from.

Statistics are taken within a sample (GroupNorm), so nothing leaks between samples or between the
views of a pair, and training and inference are the same function.

Letters  B batch, C C2 channels in and out, H W size of a map, H2 W2 after the stride
Source   residual blocks: He et al. 2016, https://arxiv.org/abs/1512.03385; GroupNorm:
         https://arxiv.org/abs/1803.08494
Tests    tests/test_convolution.py: torch's norm and convolution taken apart
"""

from jaxtyping import Float
from torch import Tensor, nn

GROUP = 8
"""channels that share their statistics"""


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
    return nn.Sequential(*layers, nn.ReLU()) if activation else nn.Sequential(*layers)


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
        self.activation = nn.ReLU()

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H2 W2"]:
        """Branch plus shortcut; H2, W2 are H, W over the stride, rounded up."""
        return self.activation(self.branch(x) + self.shortcut(x))
