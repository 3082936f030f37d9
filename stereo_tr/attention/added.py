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

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from .dense import dense_by_head
from .tracing import graph_is_recorded, transformed_by_torch_func

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
    plain = torch.is_grad_enabled() or graph_is_recorded() or transformed_by_torch_func()
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


def added_scores(
    query: Tensor,
    key: Tensor,
    position: PositionTables,
    mask: Tensor | None,
    scale: int | float | None,
) -> Tensor | None:
    """Sum of what position and mask add to the scores; `query` is scaled already."""
    added = position.bias
    if position.query is not None:
        table = position.query.to(query.dtype).expand(query.shape[1], -1, -1)
        added = _sum(added, skew(dense_by_head(query, table), key.shape[-2]))
    if position.key is not None:
        table = as_a_key_sees(scaled_key_table(position, scale))
        table = table.to(key.dtype).expand(key.shape[1], -1, -1)
        found = skew(dense_by_head(key, table), query.shape[-2])
        added = _sum(added, found.transpose(-1, -2))
    return added if mask is None else _sum(added, forbidden(mask, query.dtype))


def forbidden(mask: Bool[Tensor, "*B T S"], dtype: torch.dtype) -> Float[Tensor, "*B T S"]:
    """What to add to scores for a mask: finite, so that a query that sees nothing has no NaN."""
    least = max(_FORBIDDEN, torch.finfo(dtype).min / 2)
    return torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, least)


def as_a_key_sees(table: Float[Tensor, "#E R D"]) -> Float[Tensor, "#E R D"]:
    """An offset table in the order of a key's place: from there offsets run the other way round."""
    return table.flip(-2)


def scaled_key_table(position: PositionTables, scale: int | float | None) -> Tensor | None:
    """The keys' table, scaled as a query is."""
    if position.key is None:
        return None
    return position.key * (position.key.shape[-1] ** -0.5 if scale is None else scale)


def _sum(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    return other if one is None else one if other is None else one + other
