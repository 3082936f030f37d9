"""Optimal transport with a dustbin in one kernel of a GPU: a program for each row of the image.

A row's scores stay in the GPU's cache: each iteration reads them once, updating the rows' factors
and adding up the columns' next ones on the way; the last one writes the result. All in logarithms.

Letters  T left tokens, S right tokens of a row
Source   as matching.py
Tests    tests/stereo/test_transport_kernel.py: the plain path, in Triton's interpreter
"""

import math
from typing import no_type_check

import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

TILE, MOST_ROWS = 8192, 16
"""scores at a time: what the registers of 256 threads hold, and room for as much beside it"""


@triton.jit
@no_type_check
def _tile(scores, dustbin, i, j, tokens, keys, row_stride):
    """Scores of left tokens i and right tokens j, with the dustbin's column; -inf beyond."""
    real = (i < tokens)[:, None] & (j < keys)[None, :]
    found = tl.load(
        scores + i.to(tl.int64)[:, None] * row_stride + j[None, :], mask=real, other=-float("inf")
    )
    bin_here = (i < tokens)[:, None] & (j == keys)[None, :]
    return tl.where(bin_here, dustbin, found)


@triton.jit
@no_type_check
def _transport(
    scores,
    dustbin,
    out,
    tokens,
    keys,
    scores_stride,
    row_stride,
    out_stride,
    token_mass,
    left_bin_mass,
    right_bin_mass,
    log_total,
    ITERATIONS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """One image row: ITERATIONS updates of the columns' factors, then of the rows'."""
    place = tl.program_id(0).to(tl.int64)
    scores += place * scores_stride
    out += place * out_stride
    empty = tl.load(dustbin)
    j = tl.arange(0, COLUMNS)
    used = j <= keys
    column_mass = tl.where(j == keys, right_bin_mass, token_mass)
    column_mass = tl.where(used, column_mass, -float("inf"))

    bin_row = 0.0  # logarithm of the factor of the row that right tokens without a partner take
    columns = tl.zeros([COLUMNS], tl.float32)
    for step in tl.static_range(ITERATIONS + 1):
        # The dustbin's own row goes first: with it no column is without a finite score.
        if step > 0:
            line = tl.where(used, empty + columns, -float("inf"))
            top = tl.max(line, 0)
            bin_row = left_bin_mass - (top + tl.log(tl.sum(tl.exp(line - top), 0)))
        if step == ITERATIONS:
            last = empty + bin_row + columns + log_total
            tl.store(out + tl.cast(tokens, tl.int64) * (keys + 1) + j, last, mask=used)
        highest = tl.zeros([COLUMNS], tl.float32) + (empty + bin_row)
        total = tl.full([COLUMNS], 1.0, tl.float32)
        for start in range(0, tokens, ROWS):
            i = start + tl.arange(0, ROWS)
            tile = _tile(scores, empty, i, j, tokens, keys, row_stride)
            rows = tl.zeros([ROWS], tl.float32)
            if step > 0:
                known = tl.where((i < tokens)[:, None], tile + columns[None, :], 0.0)
                best = tl.max(known, 1)
                rows = token_mass - (best + tl.log(tl.sum(tl.exp(known - best[:, None]), 1)))
            added = tile + rows[:, None]
            if step == ITERATIONS:
                result = added + columns[None, :] + log_total
                there = out + i.to(tl.int64)[:, None] * (keys + 1) + j[None, :]
                tl.store(there, result, mask=(i < tokens)[:, None] & used[None, :])
            else:
                now = tl.maximum(highest, tl.max(added, 0))
                part = tl.sum(tl.exp(added - now[None, :]), 0)
                total = total * tl.exp(highest - now) + part
                highest = now
        if step < ITERATIONS:
            columns = column_mass - (highest + tl.log(total))
            columns = tl.where(used, columns, 0.0)


def transport_on_gpu(
    scores: Float[Tensor, "*B T S"], dustbin: Float[Tensor, ""], iterations: int
) -> Float[Tensor, "*B T+1 S+1"]:
    """Return what `matching.optimal_transport` does, for one iteration or more; no gradient."""
    *others, tokens, keys = scores.shape
    flat = scores.float().reshape(-1, tokens, keys).contiguous()
    out = flat.new_empty(flat.shape[0], tokens + 1, keys + 1)
    total = tokens + keys
    columns = triton.next_power_of_2(keys + 1)
    rows = max(1, min(MOST_ROWS, TILE // columns))
    _transport[(flat.shape[0],)](
        flat,
        dustbin.float(),
        out,
        tokens,
        keys,
        flat.stride(0),
        flat.stride(1),
        out.stride(0),
        -math.log(total),
        math.log(keys / total),
        math.log(tokens / total),
        math.log(total),
        ITERATIONS=iterations,
        ROWS=rows,
        COLUMNS=columns,
        num_warps=8,
    )
    return out.view(*others, tokens + 1, keys + 1)
