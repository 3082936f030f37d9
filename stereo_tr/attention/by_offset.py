"""Attention with offset tables on a CPU, there and back, a few sequences at a time.

What offsets add to the scores is larger than the tokens by far. So scores and weights of a few
sequences are made and used up in one piece of memory that a processor's cache holds. For training
only the weights are kept; the way back goes piece by piece, too.

Letters  B batch, E heads, D channels a head, V of a value; T queries, S keys; i a query, j a key;
         R offsets j - i; n sequences of a piece, b tokens of a block
Source   skewing: Dai et al. 2019 (Transformer-XL), https://arxiv.org/abs/1901.02860
Tests    tests/attention/test_by_offset.py: torch's own gradients of a loop over pairs, in float64
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from .added import skew
from .dense import dense_by_head, dense_by_head_backward
from .memory import part_of, pieces

BLOCK = 64
"""most tokens whose offset products are made together: each then has its own offsets and at most 63
that it doesn't need, not as many as there are tokens (measured, 192 tokens: a fifth faster)"""


class Block(NamedTuple):
    """Neighbouring tokens, and the rows of the offset table that any of them needs."""

    tokens: slice
    offsets: slice

    @property
    def size(self) -> tuple[int, int]:
        """Tokens and offsets."""
        return self.tokens.stop - self.tokens.start, self.offsets.stop - self.offsets.start


def blocks(count: int, others: int) -> list[Block]:
    """Cut `count` tokens that look at `others` into blocks of about one size, at most BLOCK."""
    length = -(-count // -(-count // BLOCK))
    found = []
    for start in range(0, count, length):
        stop = min(start + length, count)
        found.append(Block(slice(start, stop), slice(count - stop, count - start + others - 1)))
    return found


def room_needed(queries: int, keys: int) -> tuple[int, int]:
    """Numbers that a sequence makes for a head: offset products of a block, and scores."""
    sizes = (block.size for block in blocks(queries, keys) + blocks(keys, queries))
    return max(tokens * offsets for tokens, offsets in sizes), queries * keys


def attend_by_offset(
    query: Float[Tensor, "B E T D"],
    key: Float[Tensor, "B E S D"],
    value: Float[Tensor, "B E S V"],
    at_query: Float[Tensor, "#E R D"] | None,
    at_key: Float[Tensor, "#E R D"] | None,
    not_there: Float[Tensor, "*#B T S"] | None = None,
) -> Float[Tensor, "B E T V"]:
    """Average `value` over the keys; `query` and `at_key` are scaled already.

    score_ij = query_i . key_j + query_i . at_query[j - i + T - 1] + key_j . at_key[i - j + S - 1]
    + not_there_ij; one table may lack. First derivatives only, in float32 or float64, and none to
    `not_there`.
    """
    assert at_query is not None or at_key is not None
    heads = query.shape[1]
    tables = (
        None if t is None else t.to(query.dtype).expand(heads, -1, -1) for t in (at_query, at_key)
    )
    inputs = (query, key, value, *tables, not_there)
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs):
        return _AttendByOffset.apply(*inputs)
    with torch.no_grad():
        return _attend(*inputs)[0]


class _AttendByOffset(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Tensor | None) -> Tensor:
        assert inputs[0].element_size() >= 4, "in half precision no weights are made"
        tokens, weights = _attend(*inputs, keep=True)
        ctx.save_for_backward(*inputs[:5], weights)
        return tokens

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, way_back: Tensor) -> tuple[Tensor | None, ...]:
        return *_back(way_back, *ctx.saved_tensors), None


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    at_query: Tensor | None,
    at_key: Tensor | None,
    not_there: Tensor | None,
    keep: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return tokens and, if they are kept, the weights of all sequences [E, B, T, S]."""
    batch, heads, queries, _ = query.shape
    keys = key.shape[2]
    parts = _parts(query, keys)
    of_products, _ = room_needed(queries, keys)
    products = query.new_empty(parts[0].stop * heads * of_products)
    kept = query.new_empty(heads, batch if keep else parts[0].stop, queries, keys)
    tokens = query.new_empty(batch, queries, heads, value.shape[-1]).transpose(1, 2)
    for part in parts:
        mine = query[part], key[part], value[part]
        by_head = kept[:, part] if keep else kept[:, : len(mine[0])]
        scores = by_head.transpose(0, 1)
        _put_offset_scores(scores, mine[0], at_query, products, torch.Tensor.copy_)
        put = torch.Tensor.copy_ if at_query is None else torch.Tensor.add_
        _put_offset_scores(scores.mT, mine[1], at_key, products, put)
        if not_there is not None:
            scores += part_of(not_there, part)
        if query.element_size() < 4:  # sums in float32, unlike products one after the other
            tokens[part] = F.scaled_dot_product_attention(*mine, attn_mask=scores, scale=1.0)
            continue
        # Two threads attend to short sequences up to twice as fast as with torch's kernel
        # (measured); a head at a time, nothing has to be copied.
        for own, q, k, v, to in zip(by_head, *_heads(*mine, tokens[part]), strict=True):
            torch.baddbmm(own, q, k.mT, out=own)
            torch.softmax(own, -1, out=own)
            to.copy_(torch.bmm(own, v))
    return tokens, kept


def _heads(*tokens: Float[Tensor, "n E _ _"]) -> list[tuple[Tensor, ...]]:
    """Views of each head."""
    return [x.unbind(1) for x in tokens]


def _parts(query: Tensor, keys: int) -> list[slice]:
    """Sequences that are attended to at a time."""
    batch, heads, queries, _ = query.shape
    each = heads * sum(room_needed(queries, keys)) * query.element_size()
    return pieces(batch, each, cached=True)


def _put_offset_scores(
    scores: Float[Tensor, "n E T S"],
    tokens: Float[Tensor, "n E T D"],
    table: Float[Tensor, "E R D"] | None,
    room: Tensor,
    put: Callable[[Tensor, Tensor], Tensor],
) -> None:
    """Put tokens_i . table[j - i + T - 1] into scores_ij."""
    if table is None:
        return
    others = scores.shape[3]
    for block in blocks(tokens.shape[2], others):
        products = dense_by_head(tokens[:, :, block.tokens], table[:, block.offsets], room)
        put(scores[:, :, block.tokens], skew(products, others))


def _back(
    way_back: Float[Tensor, "B E T V"],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    at_query: Tensor | None,
    at_key: Tensor | None,
    weights: Float[Tensor, "E B T S"],
) -> tuple[Tensor | None, ...]:
    """Gradients of query, key, value and both tables."""
    parts = _parts(query, key.shape[2])
    room = torch.empty_like(weights[:, parts[0]])
    gradients = to_query, to_key, _ = tuple(
        torch.empty_like(x.transpose(1, 2)).transpose(1, 2) for x in (query, key, value)
    )
    to_tables = [None if t is None else torch.zeros_like(t) for t in (at_query, at_key)]
    bands = _Bands(parts[0].stop, query)
    for part in parts:
        mine = [x[part] for x in (query, key, value, way_back, *gradients)]
        by_head = room[:, : len(mine[0])]
        for scores, w, q, k, v, g, to_q, to_k, to_v in zip(
            by_head, weights[:, part], *_heads(*mine), strict=True
        ):
            torch.bmm(g, v.mT, out=scores)
            torch.ops.aten._softmax_backward_data.out(scores, w, -1, w.dtype, grad_input=scores)
            to_q.copy_(torch.bmm(scores, k))
            to_k.copy_(torch.bmm(scores.mT, q))
            to_v.copy_(torch.bmm(w.mT, g))
        scores = by_head.transpose(0, 1)
        for turned, tokens, table, to_tokens, to_table in (
            (scores, query, at_query, to_query, to_tables[0]),
            (scores.mT, key, at_key, to_key, to_tables[1]),
        ):
            if table is not None:
                bands.give_back(turned, tokens[part], table, to_tokens[part], to_table)
    return *gradients, *to_tables


class _Bands:
    """Gradients of offset products; offsets that no pair has stay zero from piece to piece."""

    def __init__(self, length: int, like: Tensor) -> None:
        self.length, self.like = length, like
        self.rooms: dict[tuple[int, int], Tensor] = {}

    def give_back(
        self,
        scores: Float[Tensor, "n E T S"],
        tokens: Float[Tensor, "n E T D"],
        table: Float[Tensor, "E R D"],
        to_tokens: Float[Tensor, "n E T D"],
        to_table: Float[Tensor, "E R D"],
    ) -> None:
        """Add to the gradients of tokens and table what those of the scores ask for."""
        number, heads, count, others = scores.shape
        for block in blocks(count, others):
            if block.size not in self.rooms:
                height, width = block.size
                self.rooms[block.size] = self.like.new_zeros(self.length, height, heads, width)
            products = self.rooms[block.size][:number].transpose(1, 2)
            skew(products, others).copy_(scores[:, :, block.tokens])
            of_tokens, of_table = dense_by_head_backward(
                products, tokens[:, :, block.tokens], table[:, block.offsets]
            )
            to_tokens[:, :, block.tokens] += of_tokens
            to_table[:, block.offsets] += of_table
