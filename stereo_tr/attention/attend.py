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

from .added import (
    PositionTables,
    added_scores,
    as_a_key_sees,
    forbidden,
    scaled_key_table,
    unskew,
)
from .by_offset import attend_by_offset
from .dense import Dense
from .kernels import kernels_serve
from .memory import part_of, pieces
from .tracing import graph_is_recorded, transformed_by_torch_func

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


class Attended(NamedTuple):
    """Result of attention, with scores and weights where somebody asked for the scores."""

    tokens: Float[Tensor, "*B T V"]
    scores: Float[Tensor, "*B T S"] | None
    """scaled, masked (-inf), position included, before the assignment"""
    weights: Float[Tensor, "*B T S"] | None = None
    """after the assignment: what the values were averaged with"""


class Turn(NamedTuple):
    """Rotation of every token, written out for the channels of all heads as they lie in memory."""

    cosine: Float[Tensor, "N E D"]
    sine: Float[Tensor, "N E D"]
    """negative for the first half of the channels"""

    @classmethod
    def by(cls, angles: Float[Tensor, "N half"], like: Float[Tensor, "B E _ D"]) -> Turn:
        """Turn the channel pair (c, c + D/2) of token n by angles[n, c] radians."""
        heads, cosine, sine = like.shape[1], angles.cos(), angles.sin()
        pairs = ((cosine, cosine), (-sine, sine))
        tables = (torch.cat(pair, dim=-1).repeat(1, heads).to(like) for pair in pairs)
        return cls(*(table.unflatten(-1, (heads, -1)) for table in tables))

    def back(self) -> Turn:
        """The way back."""
        return self._replace(sine=-self.sine)

    def __call__(self, x: Float[Tensor, "B E N D"]) -> Float[Tensor, "B E N D"]:
        """Turn the tokens, of which there may be fewer."""
        places = x.shape[-2]
        # Not cut where nothing is over: ONNX's exporter would cut at the example's length for ever.
        cosine, sine = self if self.cosine.shape[0] == places else (t[:places] for t in self)
        x = x.transpose(1, 2)  # as memory has it: one long loop (measured: a fifth faster)
        partner = x.roll(x.shape[-1] // 2, dims=-1)
        return torch.addcmul(x * cosine, partner, sine).transpose(1, 2)


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

    Fused ways serve whoever needs neither the scores nor another assignment than the one over keys;
    in training on a CPU torch's own kernel is slower on the way back than the plain products, so
    there it isn't used. On a CPU attention with offset tables has first derivatives only, except
    under torch.func (grad, vmap, jvp), where the plain products serve everything.
    """
    position = position or PositionTables()
    query = query * (query.shape[-1] ** -0.5 if scale is None else scale)
    if position.angles is not None:
        turn = Turn.by(position.angles, query)
        query, key, value = map(turn, (query, key, value))

    plain = assignment != "over keys" or with_scores or position.value is not None
    fused = not plain and not transformed_by_torch_func()
    if fused and _by_offset_serves(query, position):
        at_key = scaled_key_table(position, scale)
        at_key = None if at_key is None else as_a_key_sees(at_key)
        not_there = None if mask is None else forbidden(mask, query.dtype)
        tokens = attend_by_offset(query, key, value, position.query, at_key, not_there)
    elif fused and (query.is_cuda or not torch.is_grad_enabled()):
        tokens = _fused(query, key, value, position, mask, scale)
    else:
        scores = query @ key.transpose(-1, -2)
        bias = added_scores(query, key, position, mask, scale)
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
        tokens = turn.back()(tokens)
    if not with_scores:
        return Attended(tokens, None)
    if mask is not None:
        scores, weights = scores.masked_fill(~mask, -torch.inf), weights.masked_fill(~mask, 0.0)
    return Attended(tokens, scores, weights)


def _fused(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    position: PositionTables,
    mask: Tensor | None,
    scale: int | float | None,
) -> Tensor:
    """Attend over keys without keeping scores or weights; `query` is scaled already."""
    parts = [slice(None)]
    if _has_offsets(position):
        plain = mask is None and position.bias is None and query.shape[-1] == value.shape[-1]
        if plain and kernels_serve(query):
            from .attend_kernel import MOST, attend_with_offsets  # Triton isn't everywhere

            if query.shape[-1] <= MOST:
                at_key = scaled_key_table(position, scale)
                return attend_with_offsets(query, key, value, position.query, at_key)
        batch, heads, queries, keys = *query.shape[:3], key.shape[2]
        # products with all offsets and what is picked of them, of queries and of keys
        numbers = (queries + keys) * (queries + keys - 1) + 2 * queries * keys
        parts = pieces(batch, heads * numbers * query.element_size())
    found = []
    for part in parts:
        q, k, v = query[part], key[part], value[part]
        bias = added_scores(q, k, position, None if mask is None else part_of(mask, part), scale)
        if bias is not None and bias.ndim == 3:  # with three axes the kernel takes twice as long
            bias = bias[None]
        found.append(F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0))
    return found[0] if len(found) == 1 else torch.cat(found)


def _has_offsets(position: PositionTables) -> bool:
    return position.query is not None or position.key is not None


def _by_offset_serves(query: Tensor, position: PositionTables) -> bool:
    """Whether `attend_by_offset` does it; compilers and files take torch's operations."""
    return (
        not graph_is_recorded()
        and _has_offsets(position)
        and position.bias is None
        and query.device.type == "cpu"
        and query.numel() > 0
        # In half precision no weights are made that a way back could read.
        and (query.element_size() >= 4 or not torch.is_grad_enabled())
    )


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
        self.to_query = Dense(channels, channels, bias=bias)
        self.to_key = Dense(channels, channels, bias=bias)
        self.to_value = Dense(channels, channels, bias=bias)
        self.to_out = Dense(channels, channels, bias=bias)

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

        `mask` is [T, S] for all, [B, 1, T, S] for each sample or [B, E, T, S] for each head, too;
        [B, T, S] is a ValueError, because it would be taken for one mask a head. `position`
        overrides the one given at construction. With `with_scores` the result carries the scores
        and the weights [B, E, T, S], heads apart.
        """
        # While a graph is recorded a size may be a symbol, which no decision may follow from.
        if mask is not None and mask.ndim == 3 and not graph_is_recorded() and mask.shape[0] != 1:
            raise ValueError(
                f"mask {list(mask.shape)} has three axes, and the first would be heads; give "
                "[B, 1, T, S], mask[:, None], for one mask a sample, or [T, S] for one for all"
            )
        context = x if context is None else context
        position = position or self.position
        queries, keys = x.shape[-2], context.shape[-2]
        tables = position.tables(self, queries, keys) if position else None
        # query, key and value, their rotated copies, and what is found
        each = 4 * x.shape[-1] * (queries + keys) * x.element_size()
        # Turned in the cache, where the next step finds them.
        cached = tables is not None and tables.angles is not None and not x.is_cuda
        parts = [slice(None)] if with_scores else pieces(x.shape[0], each, cached=cached)
        if len(parts) == 1:
            return self._attend(x, context, mask, tables, with_scores)
        tokens = torch.empty_like(x, memory_format=torch.contiguous_format)
        for part in parts:
            masked = None if mask is None else part_of(mask, part)
            found = self._attend(x[part], context[part], masked, tables, False)
            tokens[part] = found.tokens
        return Attended(tokens, None)

    def _attend(
        self,
        x: Tensor,
        context: Tensor,
        mask: Tensor | None,
        tables: PositionTables | None,
        with_scores: bool,
    ) -> Attended:
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

    def total_scores(
        self,
        x: Float[Tensor, "B T C"],
        context: Float[Tensor, "B S C"],
        position: Position | None = None,
    ) -> Float[Tensor, "B T S"]:
        """Scores summed over the heads, position included: what matching reads off the last layer.

        The sum over heads of products over a head's channels is one product over all channels.
        """
        tables = PositionTables()
        if position is not None:
            tables = position.tables(self, x.shape[-2], context.shape[-2])
            merged = (t if t is None else t.transpose(0, 1).flatten(1)[None] for t in tables[:2])
            tables = PositionTables(*merged)
        scale = (x.shape[-1] // self.heads) ** -0.5
        query, key = (self.to_query(x) * scale)[:, None], self.to_key(context)[:, None]
        scores = query @ key.transpose(-1, -2)
        added = added_scores(query, key, tables, None, scale)
        return (scores if added is None else scores.add_(added))[:, 0]
