"""What position and mask add to the scores, for all pairs at once and without copies.

A term that depends on the offset j - i alone is a product with R = T + S - 1 rows, not with T x S:
it is made once for each token and offset, and skewed into place.

Letters  B batch, E heads, D channels a head, V of a value; T queries, S keys; i a query, j a key;
         R = T + S - 1 offsets j - i
Source   skewing: Dai et al. 2019 (Transformer-XL), https://arxiv.org/abs/1901.02860; terms: Li et
         al. 2021 (STTR), Wang et al. 2020 (Axial-DeepLab)
Tests    tests/attention/test_attend.py: float64 loops; tests/attention/test_memory.py
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .dense import dense_by_head

_FORBIDDEN = -1e9
"""added to the score of a pair that must not meet (in float16 half of what that reaches): far below
any score, so that softmax gives it exactly 0"""


class PositionTables(NamedTuple):
    """What a position term adds to one call of `attend`; every part may be absent.

    Offset tables have one row for each offset j - i, ascending from -(T-1) to S-1, so that
    R = T + S - 1 products serve all T x S pairs (the skewing of Transformer-XL).
    """

    query: Float[Tensor, "#E R D"] | None = None
    """offset table dotted with the queries"""
    key: Float[Tensor, "#E R D"] | None = None
    """offset table dotted with the keys; scaled as a query is"""
    value: Float[Tensor, "#E R V"] | None = None
    """offset table retrieved with the weights, beside the values"""
    bias: Float[Tensor, "*E T S"] | None = None
    """added to the scaled scores as it is"""
    angles: Float[Tensor, "N half"] | None = None
    """rotation of token n, in radians, for each pair of channels; at least max(T, S) rows"""


def skew(products: Float[Tensor, "*B T R"], keys: int) -> Float[Tensor, "*B T S"]:
    """Pick out[i, j] = products[i, j - i + T - 1], without copying.

    `products` holds a column for each offset, R = T + S - 1 of them; S is `keys`.
    """
    queries, offsets = products.shape[-2:]
    assert offsets == queries + keys - 1, (queries, offsets, keys)
    if queries == 1:
        return products
    plain = torch.is_grad_enabled() or torch.jit.is_tracing() or torch.compiler.is_compiling()
    if not plain and not products.is_contiguous():  # heads beside each other, in place
        *others, row, column = products.stride()
        start = products.storage_offset() + (queries - 1) * column
        shape = (*products.shape[:-1], keys)
        return products.as_strided(shape, (*others, row - column, column), start)
    flat = products.reshape(*products.shape[:-2], queries * offsets)
    flat = flat.narrow(-1, queries - 1, queries * (offsets - 1))
    return flat.unflatten(-1, (queries, offsets - 1))[..., :keys]


def unskew(weights: Float[Tensor, "*B T S"]) -> Float[Tensor, "*B T R"]:
    """Inverse of `skew`: out[i, j - i + T - 1] = weights[i, j], zero elsewhere."""
    queries, keys = weights.shape[-2:]
    offsets = queries + keys - 1
    if queries == 1:
        return weights
    flat = F.pad(weights, (0, offsets - 1 - keys)).flatten(-2)
    return F.pad(flat, (queries - 1, 1)).unflatten(-1, (queries, offsets))


def by_pair(
    tokens: Float[Tensor, "B E T D"], table: Float[Tensor, "#E R D"], keys: int
) -> Float[Tensor, "B E T S"]:
    """Each token times the rows of its own offsets: skew(_offset_products(tokens, table), keys).

    Half the arithmetic, because offsets that no pair has are left out, and a way back without
    zeros around; for a copy of the table's rows for each pair of places, made anew on that way.
    """

    def product(tokens: Tensor, table: Tensor) -> Tensor:
        pairs = table.to(tokens.dtype).unfold(-2, keys, 1).flip(1)
        return (tokens.permute(1, 2, 0, 3) @ pairs).permute(2, 0, 1, 3)

    return checkpoint(product, tokens, table, use_reentrant=False, preserve_rng_state=False)


BLOCK = 64
"""tokens whose offset products are made together: each then has its own offsets and at most 63 that
it doesn't need, not as many as there are tokens (measured, 192 tokens: a fifth faster)"""


class Work(NamedTuple):
    """Memory for what offsets add to the scores of one piece after the other."""

    products: Tensor
    total: Tensor

    @staticmethod
    def numbers(queries: int, keys: int) -> tuple[int, int]:
        """How many numbers of each a sequence needs for a head."""
        rows, columns = (min(BLOCK, count) for count in (queries, keys))
        return max(rows * (rows + keys - 1), columns * (columns + queries - 1)), queries * keys

    @classmethod
    def make(cls, query: Tensor, keys: int, length: int) -> Work:
        """Room for `length` sequences."""
        heads, queries = query.shape[1:3]
        counts = cls.numbers(queries, keys)
        return cls(*(query.new_empty(length * heads * count) for count in counts))

    def added(
        self, query: Tensor, key: Tensor, at_query: Tensor | None, at_key: Tensor | None
    ) -> Float[Tensor, "B E T S"]:
        """Sum of query table and key table, the latter as a key sees the queries; one may lack."""
        shape = *query.shape[:3], key.shape[2]
        total = self.total[: math.prod(shape)].view(shape)
        if at_query is not None:
            self._fill(total, query, at_query, torch.Tensor.copy_)
        if at_key is not None:
            put = torch.Tensor.copy_ if at_query is None else torch.Tensor.add_
            self._fill(total.transpose(-1, -2), key, at_key, put)
        return total

    def _fill(self, total: Tensor, tokens: Tensor, table: Tensor, put: Callable) -> None:
        """Put tokens[i] . table[j - i + T - 1] into total[i, j], a block of tokens at a time."""
        count, others = total.shape[-2:]
        for start in range(0, count, BLOCK):
            stop = min(start + BLOCK, count)
            offsets = table[:, count - stop : count - start + others - 1]
            products = _offset_products(tokens[..., start:stop, :], offsets, self.products)
            put(total[..., start:stop, :], skew(products, others))


def added_scores(
    query: Tensor,
    key: Tensor,
    position: PositionTables,
    mask: Tensor | None,
    scale: int | float | None,
    work: Work | None = None,
) -> Tensor | None:
    """Sum of what position and mask add to the scores; `query` is scaled already."""
    queries, keys = query.shape[-2], key.shape[-2]
    at_key = scaled_key_table(position, scale)
    if at_key is not None:
        at_key = at_key.flip(-2)  # from a key's place the offsets run the other way round
    if position.query is None and at_key is None:
        added = None
    elif work is not None:
        added = work.added(query, key, position.query, at_key)
    else:
        added = _sum(
            _by_offset(query, position.query, keys),
            _by_offset(key, at_key, queries, transposed=True),
        )
    if position.bias is not None:
        added = position.bias if added is None else added + position.bias
    if mask is not None:  # finite, so that a query that may look at nothing has no NaN
        forbidden = torch.zeros_like(mask, dtype=query.dtype)
        forbidden = forbidden.masked_fill(~mask, max(_FORBIDDEN, torch.finfo(query.dtype).min / 2))
        added = forbidden if added is None else added + forbidden
    return added


def scaled_key_table(position: PositionTables, scale: int | float | None) -> Tensor | None:
    """The keys' table, scaled as a query is."""
    if position.key is None:
        return None
    return position.key * (position.key.shape[-1] ** -0.5 if scale is None else scale)


def _by_offset(
    tokens: Float[Tensor, "B E T D"],
    table: Float[Tensor, "#E R D"] | None,
    others: int,
    transposed: bool = False,
) -> Tensor | None:
    """Each token times the rows of its own offsets to the `others`; None without a table."""
    if table is None:
        return None
    # Worth it in training, and where the copy is smaller than the scores (measured on a CPU).
    training = torch.is_grad_enabled() and not torch.compiler.is_compiling()
    if training and not tokens.is_cuda and tokens.shape[0] > tokens.shape[-1]:
        found = by_pair(tokens, table, others)
    else:
        found = skew(_offset_products(tokens, table), others)
    return found.transpose(-1, -2) if transposed else found


def _sum(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    return other if one is None else one if other is None else one + other


def _offset_products(
    tokens: Float[Tensor, "B E T D"], table: Float[Tensor, "#E R D"], work: Tensor | None = None
) -> Float[Tensor, "B E T R"]:
    """Every token times every row of its head's table: one large product a head."""
    batch, heads, count, _ = tokens.shape
    table = table.to(tokens.dtype).expand(heads, -1, -1)
    if not torch.is_grad_enabled():
        products = dense_by_head(tokens, table)
        if products is not None:
            return products
    table = table.transpose(1, 2)
    out = None
    if work is not None:
        shape = heads, batch * count, table.shape[-1]
        out = work[: shape[0] * shape[1] * shape[2]].view(shape)
    products = torch.bmm(tokens.transpose(0, 1).flatten(1, 2), table, out=out)
    return products.unflatten(1, (batch, count)).transpose(0, 1)
