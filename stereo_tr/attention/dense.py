"""Dense layers, by whichever of torch's two libraries is the faster on this processor.

torch multiplies float32 matrices with MKL, which keeps to half of what AVX-512 can do on AMD's
processors, and convolves with oneDNN, which doesn't. A dense layer is a 1x1 convolution of a
picture one pixel wide: the same numbers, up to rounding, at 2.3 times the rate (1.8 with the way
back; measured on Zen 5, one thread and two).

Letters  C D channels in and out
Tests    tests/attention/test_dense.py: float64 products, and their gradients
"""

import math
from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .tracing import graph_is_recorded

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
    x: Float[Tensor, "B E T D"], weight: Float[Tensor, "E R D"], room: Tensor | None = None
) -> Float[Tensor, "B E T R"]:
    """Return each head's x weight^T.

    How the result lies in memory depends on who made it: heads beside each other, or one after the
    other. `room`, without gradients only: memory that it may take, of B * E * T * R numbers.
    """
    batch, heads, tokens, _ = x.shape
    if _convolves_by_head(x, weight):
        found = _convolved(_side_by_side(x), weight.flatten(0, 1), groups=heads)
        return found.view(batch, tokens, heads, -1).transpose(1, 2)
    shape = heads, batch * tokens, weight.shape[1]
    out = None if room is None else room[: math.prod(shape)].view(shape)
    found = torch.bmm(x.transpose(0, 1).flatten(1, 2), weight.transpose(1, 2), out=out)
    return found.unflatten(1, (batch, tokens)).transpose(0, 1)


def dense_by_head_backward(
    way_back: Float[Tensor, "B E T R"],
    x: Float[Tensor, "B E T D"],
    weight: Float[Tensor, "E R D"],
) -> tuple[Float[Tensor, "B E T D"], Float[Tensor, "E R D"]]:
    """Gradients of x and weight in `dense_by_head`."""
    apart, of_each = (each.transpose(0, 1).flatten(1, 2) for each in (x, way_back))
    # oneDNN's own way back to the weight is slower than a product (measured).
    return dense_by_head(way_back, weight.mT), torch.bmm(of_each.mT, apart)


def _convolves_by_head(x: Float[Tensor, "B E T D"], weight: Float[Tensor, "E R D"]) -> bool:
    # In that order: sizes mustn't be looked at while a graph is recorded.
    return (
        not torch.is_grad_enabled()  # on the way back to many heads it is slower (measured)
        and _convolves(x, weight)
        and x.shape[0] * x.shape[2] * weight.numel() >= WORTH_BY_HEAD
    )


def _side_by_side(x: Float[Tensor, "B E T D"]) -> Float[Tensor, "B T C"]:
    """Heads beside each other, as they lie in memory."""
    return x.transpose(1, 2).flatten(2)


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
        and not graph_is_recorded()
        and not torch.is_autocast_enabled("cpu")
        and _onednn_has_avx512()
    )


@cache
def _onednn_has_avx512() -> bool:
    available = torch.backends.mkldnn.is_available()
    return available and torch.backends.cpu.get_cpu_capability() == "AVX512"
