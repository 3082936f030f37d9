"""Attention, written once: scores, what position adds to them, how they become weights.

`attend` is the arithmetic, `Attention` puts the projections around it. *Which* tokens meet (a row,
a window, an epipolar line of the other view) is a layout's business (layouts.py), never decided
here.

Letters  B batch, E heads, D channels a head, V of a value, C = E * D; T queries, S keys; i a query,
         j a key; R = T + S - 1 offsets j - i
Masks    bool, True means "may look at"
Source   Vaswani et al. 2017, eq. 1, https://arxiv.org/abs/1706.03762; assignment over queries:
         CMT-DeepLab, https://arxiv.org/abs/2206.08948, and kMaX-DeepLab,
         https://arxiv.org/abs/2207.04044; offset terms: Dai et al. 2019 (Transformer-XL), Li et al.
         2021 (STTR), Wang et al. 2020 (Axial-DeepLab)
Tests    tests/attention/test_attend.py: torch.nn.MultiheadAttention and float64 loops
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable

    from .positions import Position


def over_keys(scores: Float[Tensor, "*B T S"]) -> Float[Tensor, "*B T S"]:
    """Softmax over the keys: every query shares out one unit of attention (the usual one)."""
    return scores.softmax(-1)


def over_queries(scores: Float[Tensor, "*B T S"]) -> Float[Tensor, "*B T S"]:
    """Softmax over the queries: every key is shared out between the queries (soft clustering)."""
    return scores.softmax(-2)


def nearest_query(scores: Float[Tensor, "*B T S"]) -> Float[Tensor, "*B T S"]:
    """Each key goes whole to the query that scores it highest (k-means): one-hot over queries.

    No gradient passes through an arg-max; the queries learn from the values they are given.
    """
    best = scores.argmax(-2, keepdim=True)
    return torch.zeros_like(scores).scatter(-2, best, 1.0)


ASSIGNMENTS: dict[str, Callable[[Tensor], Tensor]] = {
    "over keys": over_keys,
    "over queries": over_queries,
    "nearest query": nearest_query,
}
"""How scores become weights. A new assignment is one function and one line here."""


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


class Attended(NamedTuple):
    """Result of attention, with scores and weights where somebody asked for the scores."""

    tokens: Float[Tensor, "*B T V"]
    scores: Float[Tensor, "*B T S"] | None
    """scaled, masked (-inf), position included, before the assignment"""
    weights: Float[Tensor, "*B T S"] | None = None
    """after the assignment: what the values were averaged with"""


def skew(products: Float[Tensor, "*B T R"], keys: int) -> Float[Tensor, "*B T S"]:
    """Pick out[i, j] = products[i, j - i + T - 1], without copying.

    `products` holds a column for each offset, R = T + S - 1 of them; S is `keys`.
    """
    queries, offsets = products.shape[-2:]
    assert offsets == queries + keys - 1, (queries, offsets, keys)
    if queries == 1:
        return products
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


def rotate(x: Float[Tensor, "*B N D"], angles: Float[Tensor, "M half"]) -> Float[Tensor, "*B N D"]:
    """Turn the channel pair (c, c + D/2) of token n by angles[n, c] radians; D is even, M >= N."""
    turn = angles[: x.shape[-2]]
    cosine, sine = turn.cos().repeat(1, 2), torch.cat((-turn.sin(), turn.sin()), dim=-1)
    partner = x.roll(x.shape[-1] // 2, dims=-1)
    return torch.addcmul(x * cosine.to(x), partner, sine.to(x))


def attend(
    query: Float[Tensor, "B E T D"],
    key: Float[Tensor, "B E S D"],
    value: Float[Tensor, "B E S V"],
    *,
    position: PositionTables | None = None,
    mask: Bool[Tensor, "*#B T S"] | None = None,
    assignment: str = "over keys",
    scale: int | float | None = None,
    with_scores: bool = False,
) -> Attended:
    """Average `value` with weights assign(scale * query key^T + what position adds).

    `scale` defaults to 1 / sqrt(D), `assignment` is a key of ASSIGNMENTS. A query that may look at
    nothing gets zeros, and a key that no query may look at goes to none.

    The fused kernel serves whoever needs neither the scores nor another assignment than the one
    over keys; for training on a CPU its backward pass is slower than the plain products, so there
    it isn't used.
    """
    position = position or PositionTables()
    query = query * (query.shape[-1] ** -0.5 if scale is None else scale)
    if position.angles is not None:
        query, key, value = (rotate(x, position.angles) for x in (query, key, value))

    bias = _added_scores(query, key, position, scale)
    if mask is not None:  # finite, so that a query that may look at nothing has no NaN
        forbidden = torch.zeros_like(mask, dtype=query.dtype)
        forbidden = forbidden.masked_fill(~mask, max(_FORBIDDEN, torch.finfo(query.dtype).min / 2))
        bias = forbidden if bias is None else bias + forbidden

    fused = assignment == "over keys" and not with_scores and position.value is None
    scores = None
    if fused and (query.is_cuda or not torch.is_grad_enabled()):
        tokens = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=1.0)
    else:
        scores = query @ key.transpose(-1, -2)
        if bias is not None:
            scores = scores + bias
        weights = ASSIGNMENTS[assignment](scores)
        if mask is not None and assignment != "over keys":  # a key that no query may look at
            weights = weights.masked_fill(~mask, 0.0)
        tokens = weights @ value
        if position.value is not None:
            tokens = tokens + unskew(weights) @ position.value
    if mask is not None:
        tokens = tokens * mask.any(-1, keepdim=True)
    if position.angles is not None:  # values were turned by their own place: back by the query's
        tokens = rotate(tokens, -position.angles)
    if not with_scores:
        return Attended(tokens, None)
    if mask is not None:
        scores, weights = scores.masked_fill(~mask, -torch.inf), weights.masked_fill(~mask, 0.0)
    return Attended(tokens, scores, weights)


def _added_scores(
    query: Tensor, key: Tensor, position: PositionTables, scale: int | float | None
) -> Tensor | None:
    """Sum of what position adds to the scores; `query` is scaled already."""
    queries, keys = query.shape[-2], key.shape[-2]
    added = position.bias
    if position.query is not None:
        term = skew(query @ position.query.transpose(-1, -2), keys)
        added = term if added is None else added + term
    if position.key is not None:
        scaled = position.key * (key.shape[-1] ** -0.5 if scale is None else scale)
        # From a key's place the offsets to the queries run the other way round.
        term = skew(key @ scaled.flip(-2).transpose(-1, -2), queries).transpose(-1, -2)
        added = term if added is None else added + term
    return added


class Attention(nn.Module):
    """Projections around `attend`: self-attention, or cross-attention when `context` is given.

    The caller says which one it wants; it is not guessed from whether two tensors look equal.
    Raises ValueError where `heads` doesn't divide `channels` or the assignment is unknown.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        *,
        position: Position | None = None,
        assignment: str = "over keys",
        bias: bool = True,
    ) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"channels={channels} must be a multiple of heads={heads}")
        if assignment not in ASSIGNMENTS:
            raise ValueError(f"assignment={assignment!r}; known are {', '.join(ASSIGNMENTS)}")
        self.heads = heads
        self.assignment = assignment
        self.position = position
        self.to_query = nn.Linear(channels, channels, bias=bias)
        self.to_key = nn.Linear(channels, channels, bias=bias)
        self.to_value = nn.Linear(channels, channels, bias=bias)
        self.to_out = nn.Linear(channels, channels, bias=bias)

    def split_heads(self, x: Float[Tensor, "*B N C"]) -> Float[Tensor, "*B E N D"]:
        """Give each head its channels."""
        return x.unflatten(-1, (self.heads, -1)).transpose(-2, -3)

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        context: Float[Tensor, "B S C"] | None = None,
        *,
        mask: Bool[Tensor, "*#B T S"] | None = None,
        position: Position | None = None,
        with_scores: bool = False,
    ) -> Attended:
        """Let `x` look at `context`, or at itself.

        `position` overrides the one given at construction. With `with_scores` the result carries
        the scores and the weights [B, E, T, S], heads apart.
        """
        context = x if context is None else context
        position = position or self.position
        tables = position.tables(self, x.shape[-2], context.shape[-2]) if position else None
        attended = attend(
            self.split_heads(self.to_query(x)),
            self.split_heads(self.to_key(context)),
            self.split_heads(self.to_value(context)),
            position=tables,
            mask=mask,
            assignment=self.assignment,
            with_scores=with_scores,
        )
        tokens = self.to_out(attended.tokens.transpose(1, 2).flatten(-2))
        return attended._replace(tokens=tokens)
