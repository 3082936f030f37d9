"""Dense layers, by whichever of torch's two libraries is the faster on this processor.

torch multiplies float32 matrices with MKL, which keeps to half of what AVX-512 can do on AMD's
processors, and convolves with oneDNN, which doesn't. A dense layer is a 1x1 convolution of a
picture one pixel wide: the same numbers, up to rounding, at 2.3 times the rate (1.8 with the way
back; measured on Zen 5, one thread and two).

Letters  C D channels in and out
Tests    tests/attention/test_dense.py: float64 products, and their gradients
"""

from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

WORTH = 8_000_000
"""multiply-accumulates from which the convolution's preparations pay (measured)"""
WORTH_BY_HEAD = 2_000_000
"""the same where matrix products would be made head by head, of copies"""


class Dense(nn.Linear):
    """`nn.Linear`, computed by `dense`."""

    def forward(self, x: Float[Tensor, "*B C"]) -> Float[Tensor, "*B D"]:
        """Map the channels of every token."""
        return dense(x, self.weight, self.bias)


def dense(
    x: Float[Tensor, "*B C"], weight: Float[Tensor, "D C"], bias: Float[Tensor, " D"] | None = None
) -> Float[Tensor, "*B D"]:
    """Return x weight^T + bias: `F.linear`, up to rounding."""
    if not _convolves(x, weight) or x.shape[:-1].numel() * weight.numel() < WORTH:
        return F.linear(x, weight, bias)
    return _convolved(x, weight, bias).view(*x.shape[:-1], -1)


def dense_by_head(
    x: Float[Tensor, "B E T D"], weight: Float[Tensor, "E R D"]
) -> Float[Tensor, "B E T R"] | None:
    """Return each head's x weight^T, heads beside each other; None where that isn't faster."""
    batch, heads, tokens, _ = x.shape
    if not _convolves(x, weight) or batch * tokens * weight.numel() < WORTH_BY_HEAD:
        return None
    together = x.transpose(1, 2).flatten(2)  # as heads lie in memory
    found = _convolved(together, weight.flatten(0, 1), groups=heads)
    return found.view(batch, tokens, heads, -1).transpose(1, 2)


def _convolved(
    x: Float[Tensor, "*B C"],
    weight: Float[Tensor, "D _"],
    bias: Float[Tensor, " D"] | None = None,
    groups: int = 1,
) -> Float[Tensor, "tokens D"]:
    column = x.reshape(1, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)  # channels last, no copy
    # One pixel can't be dilated; asked for it, torch takes oneDNN with a single thread as well.
    found = F.conv2d(column, weight[:, :, None, None], bias, dilation=2, groups=groups)
    return found.permute(0, 2, 3, 1).flatten(0, 2)


def _convolves(x: Tensor, weight: Tensor) -> bool:
    """Whether MKL would be asked for what oneDNN is better at; compilers and files choose alone."""
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not torch.is_autocast_enabled("cpu")
        and _onednn_has_avx512()
    )


@cache
def _onednn_has_avx512() -> bool:
    available = torch.backends.mkldnn.is_available()
    return available and torch.backends.cpu.get_cpu_capability() == "AVX512"
