"""Attention with offset terms in one kernel of a GPU: nothing of size T x S leaves the chip.

A block of 32 queries and 32 keys has 63 different offsets. So the block's queries are multiplied
with that window of the table, its keys with theirs, both products are skewed into place while they
are on the chip (a gather), and a running softmax goes on from block to block. The plain path
(added.py, then torch's fused attention) writes and reads four tensors of size T x S or larger.

Letters  B batch, E heads, D channels a head; T queries, S keys; R = T + S - 1 offsets
Source   running softmax: Dao et al. 2022 (FlashAttention), https://arxiv.org/abs/2205.14135
Tests    tests/attention/test_attend_kernel.py: the plain path, in Triton's interpreter
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

BLOCK, WARPS = 32, 2
"""queries and keys of a block, and who works on it: the fastest of six pairs on an H200"""
LEAST, MOST = 16, 64
"""channels that a matrix unit multiplies at once, and that leave room on the chip"""


@triton.jit
@no_type_check
def _attend(
    query,
    key,
    value,
    query_table,
    key_table,
    out,
    heads,
    queries,
    keys,
    channels,
    query_batch,
    query_head,
    query_row,
    key_batch,
    key_head,
    key_row,
    value_batch,
    value_head,
    value_row,
    query_table_head,
    query_table_row,
    key_table_head,
    key_table_row,
    out_batch,
    out_head,
    out_row,
    HAS_QUERY: tl.constexpr,
    HAS_KEY: tl.constexpr,
    BLOCK: tl.constexpr,
    CHANNELS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """One block of queries of one head against all keys."""
    place = tl.program_id(1)
    batch, head = (place // heads).to(tl.int64), place % heads
    within = tl.arange(0, BLOCK)
    i = tl.program_id(0) * BLOCK + within
    c = tl.arange(0, CHANNELS)
    w = tl.arange(0, 2 * BLOCK)
    # offset j - i of a pair, as a place in the block's window
    skewed = within[None, :] - within[:, None] + (BLOCK - 1)
    inside = (i < queries)[:, None] & (c < channels)[None, :]
    query += batch * query_batch + head * query_head
    q = tl.load(query + i[:, None] * query_row + c[None, :], mask=inside, other=0.0)
    key += batch * key_batch + head * key_head
    value += batch * value_batch + head * value_head
    query_table += head * query_table_head
    key_table += head * key_table_head

    highest = tl.full([BLOCK], -float("inf"), tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    found = tl.zeros([BLOCK, CHANNELS], tl.float32)
    for start in range(0, keys, BLOCK):
        j = start + within
        known = (j < keys)[:, None] & (c < channels)[None, :]
        k = tl.load(key + j[:, None] * key_row + c[None, :], mask=known, other=0.0)
        scores = tl.dot(q, tl.trans(k), input_precision=PRECISION)
        row = start - tl.program_id(0) * BLOCK - (BLOCK - 1) + (queries - 1) + w
        there = ((row >= 0) & (row < queries + keys - 1))[:, None] & (c < channels)[None, :]
        if HAS_QUERY:
            table = query_table + row[:, None] * query_table_row + c[None, :]
            window = tl.load(table, mask=there, other=0.0)
            products = tl.dot(q, tl.trans(window), input_precision=PRECISION)
            scores += tl.gather(products, skewed, axis=1)
        if HAS_KEY:
            table = key_table + row[:, None] * key_table_row + c[None, :]
            window = tl.load(table, mask=there, other=0.0)
            products = tl.dot(window, tl.trans(k), input_precision=PRECISION)
            scores += tl.gather(products, skewed, axis=0)
        scores = tl.where((j < keys)[None, :], scores, -float("inf"))
        now = tl.maximum(highest, tl.max(scores, 1))
        weights = tl.exp(scores - now[:, None])
        fade = tl.exp(highest - now)
        total = total * fade + tl.sum(weights, 1)
        v = tl.load(value + j[:, None] * value_row + c[None, :], mask=known, other=0.0)
        update = tl.dot(weights.to(v.dtype), v, input_precision=PRECISION)
        found = found * fade[:, None] + update
        highest = now
    found = found / total[:, None]
    out += batch * out_batch + head * out_head
    target = out + i[:, None] * out_row + c[None, :]
    tl.store(target, found.to(out.dtype.element_ty), mask=inside)


def attend_with_offsets(
    query: Float[Tensor, "B E T D"],
    key: Float[Tensor, "B E S D"],
    value: Float[Tensor, "B E S D"],
    query_table: Float[Tensor, "#E R D"] | None,
    key_table: Float[Tensor, "#E R D"] | None,
) -> Float[Tensor, "B E T D"]:
    """Return softmax(query key^T + what the tables add) value; no gradient passes.

    `query` and `key_table` are scaled already. Row j - i + T - 1 of the tables is dotted with query
    i and with key j. At most `MOST` channels a head.
    """
    batch, heads, queries, channels = query.shape
    keys = key.shape[2]
    out = query.new_empty(batch, queries, heads, channels).transpose(1, 2)
    query, key, value = (x if x.stride(-1) == 1 else x.contiguous() for x in (query, key, value))
    tables = [
        out[0] if table is None else table.to(query.dtype).contiguous().expand(heads, -1, -1)
        for table in (query_table, key_table)
    ]
    strides = [s for x in (query, key, value) for s in x.stride()[:3]]
    strides += [s for table in tables for s in table.stride()[:2]]
    _attend[triton.cdiv(queries, BLOCK), batch * heads](
        query,
        key,
        value,
        *tables,
        out,
        heads,
        queries,
        keys,
        channels,
        *strides,
        *out.stride()[:3],
        HAS_QUERY=query_table is not None,
        HAS_KEY=key_table is not None,
        BLOCK=BLOCK,
        CHANNELS=max(LEAST, triton.next_power_of_2(channels)),
        PRECISION="ieee" if query.dtype == torch.float32 else "tf32",
        num_warps=WARPS,
    )
    return out
