"""Working memory: how much of what is only needed in between exists at a time.

Attention over rows, windows or columns, and convolutions over strips of an image, give the same
result whether all of them are computed at once or one after the other. So at inference they go
piece by piece, and the size of a piece follows from a budget:

    with working_memory(64 * 2**20):
        model(left, right)

Tests  tests/attention/test_memory.py: results don't depend on the budget
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar

import torch
from torch import Tensor

from .held import held
from .tracing import graph_is_recorded

DEFAULT = 48 * 2**20
"""bytes: small beside a process that has loaded torch (300 MB), large beside a row (1 MB)"""
CACHE = 8 * 2**20
"""bytes that a processor's last cache is sure to hold: products that are made and used up at once
travel no further (measured, rows of 192 tokens: 8 ns a pair of tokens, 15 to 25 beyond)"""

_budget: ContextVar[int] = ContextVar("working memory", default=DEFAULT)


def working_memory(size: int) -> AbstractContextManager[None]:
    """Give what runs inside `size` bytes for what it needs in between (at least one piece)."""
    return held(_budget, size)


_whole_maps: ContextVar[bool] = ContextVar("whole maps", default=False)


def whole_maps() -> AbstractContextManager[None]:
    """Let attention see whole maps inside, whatever the budget: for whoever records its weights."""
    return held(_whole_maps, True)


def maps_are_whole() -> bool:
    """Say whether `whole_maps` was asked for."""
    return _whole_maps.get()


def pieces(count: int, each: int, *, cached: bool = False) -> list[slice]:
    """Cut `count` things, each of which needs `each` bytes, into pieces that fit the budget.

    `cached`: into the processor's cache as well. All is one piece where cutting saves nothing or
    can't be recorded: while gradients are recorded (the way back needs everything) and while a
    graph is traced.
    """
    if torch.is_grad_enabled() or graph_is_recorded():
        return [slice(None)]
    budget = _budget.get()
    if cached:
        budget = min(budget, CACHE)
    number = -(-count // max(1, budget // max(1, each)))
    length = -(-count // max(1, number))
    return [slice(start, min(start + length, count)) for start in range(0, count, max(1, length))]


def summed(x: Tensor, branch: Tensor) -> Tensor:
    """Return x + branch, in the memory of `branch`, which nobody else may need, where that can be.

    It can't where gradients or a graph are recorded, where the sum is of another kind or size, and
    where the branch is x.
    """
    recorded = torch.is_grad_enabled() or graph_is_recorded()
    if recorded or x.dtype != branch.dtype or x.shape != branch.shape:
        return x + branch
    return x + branch if x.data_ptr() == branch.data_ptr() else branch.add_(x)


def part_of(mask: Tensor, part: slice) -> Tensor:
    """What a piece of the sequences needs of a mask, which may be one for all of them."""
    return mask if mask.ndim < 4 or mask.shape[0] == 1 else mask[part]


def widened(part: slice, halo: int, count: int) -> tuple[slice, slice]:
    """Rows that a convolution must see to make rows `part` of `count`; where these lie within.

    `halo` is how many rows to either side one depends on; none beyond the borders.
    """
    top, bottom = max(part.start - halo, 0), min(part.stop + halo, count)
    return slice(top, bottom), slice(part.start - top, part.stop - top)


def joined(parts: Sequence[Tensor], dim: int) -> Tensor | None:
    """Put pieces together along `dim`; None where nothing was kept."""
    if len(parts) < 2:
        return parts[0] if parts else None
    return torch.cat(tuple(parts), dim=dim)
