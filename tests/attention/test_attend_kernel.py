"""The kernel that a GPU runs, here in Triton's interpreter, which needs none."""

import os

import pytest
import torch

pytest.importorskip("triton", reason="the kernels are Triton's, which isn't installed")
if "TRITON_INTERPRET" not in os.environ:
    reason = "with a GPU kernels are compiled, and these tests hold tensors of the CPU"
    pytest.skip(reason, allow_module_level=True)

from stereo_tr.attention import attend_kernel
from stereo_tr.attention.attend_kernel import attend_with_offsets
from stereo_tr.attention.kernels import kernels_serve

SIZES = [(70, 91, 16), (32, 32, 24), (5, 130, 20), (1, 7, 64)]
"""queries, keys, channels: several blocks and a part of one, whole blocks, less than one"""


def rounded(*tensors, to=torch.float64):
    return [t if t is None else t.to(to) for t in tensors]


def by_loop(query, key, value, query_table, key_table):
    """softmax_j(q_i . k_j + q_i . p[j - i] + k_j . r[j - i]) v_j, pair by pair, in float64."""
    query, key, value, query_table, key_table = rounded(query, key, value, query_table, key_table)
    queries, keys = query.shape[2], key.shape[2]
    scores = query @ key.transpose(-1, -2)
    for i in range(queries):
        for j in range(keys):
            row = j - i + queries - 1
            if query_table is not None:
                scores[..., i, j] += (query[:, :, i] * query_table[:, row]).sum(-1)
            if key_table is not None:
                scores[..., i, j] += (key[:, :, j] * key_table[:, row]).sum(-1)
    return scores.softmax(-1) @ value


@pytest.mark.parametrize(("queries", "keys", "channels"), SIZES)
@pytest.mark.parametrize("terms", ["both", "query", "key", "neither"])
def test_it_adds_what_offsets_add(queries, keys, channels, terms):
    torch.manual_seed(queries)
    tokens = [torch.randn(2, 3, n, channels) for n in (queries, keys, keys)]
    tables = [torch.randn(3, queries + keys - 1, channels) for _ in range(2)]
    tables = [
        table if terms in ("both", name) else None
        for table, name in zip(tables, ("query", "key"), strict=True)
    ]
    found = attend_with_offsets(*tokens, *tables)
    torch.testing.assert_close(found.double(), by_loop(*tokens, *tables), atol=1e-5, rtol=1e-5)


def test_heads_side_by_side_and_one_table_for_all():
    """Tokens as projections leave them, [B, N, E D]: the channels of a head are a part of a row."""
    torch.manual_seed(1)
    whole = [torch.randn(2, n, 3 * 18) for n in (37, 41, 41)]
    tokens = [x.unflatten(-1, (3, 18)).transpose(1, 2) for x in whole]
    table = torch.randn(1, 37 + 41 - 1, 18)
    found = attend_with_offsets(*tokens, table, None)
    expected = by_loop(*tokens, table, None)
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)


def test_large_scores_stay_finite():
    """Only differences of scores matter: a running softmax must not overflow on the way."""
    torch.manual_seed(2)
    tokens = [torch.randn(1, 1, n, 16) for n in (33, 100, 100)]
    tokens[0] *= 300
    table = torch.randn(1, 33 + 100 - 1, 16)
    found = attend_with_offsets(*tokens, table, None)
    expected = by_loop(*tokens, table, None)
    torch.testing.assert_close(found.double(), expected, atol=1e-3, rtol=1e-3)


def test_blocks_of_another_size_give_the_same(monkeypatch):
    torch.manual_seed(3)
    tokens = [torch.randn(1, 2, n, 17) for n in (45, 80, 80)]
    tables = [torch.randn(2, 45 + 80 - 1, 17) for _ in range(2)]
    expected = attend_with_offsets(*tokens, *tables)
    monkeypatch.setattr(attend_kernel, "BLOCK", 16)
    found = attend_with_offsets(*tokens, *tables)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_a_cpu_keeps_to_torch():
    with torch.inference_mode():
        assert not kernels_serve(torch.zeros(1))
