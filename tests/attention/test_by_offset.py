"""Attention with offset tables beside a loop over pairs in float64, there and back."""

import pytest
import torch

from stereo_tr.attention import Attention, RelativeSine
from stereo_tr.attention.added import forbidden
from stereo_tr.attention.by_offset import BLOCK, attend_by_offset, blocks
from stereo_tr.attention.memory import working_memory

HEADS, CHANNELS, OF_VALUE = 3, 5, 4


def inputs(batch, queries, keys, shared_tables=False):
    offsets = queries + keys - 1
    heads = 1 if shared_tables else HEADS
    return (
        torch.randn(batch, queries, HEADS, CHANNELS).transpose(1, 2),
        torch.randn(batch, HEADS, keys, CHANNELS),
        torch.randn(batch, HEADS, keys, OF_VALUE),
        torch.randn(heads, offsets, CHANNELS),
        torch.randn(heads, offsets, CHANNELS),
    )


def pair_by_pair(query, key, value, at_query, at_key, mask):
    queries, keys = query.shape[2], key.shape[2]
    rows = []
    for i in range(queries):
        row = (query[:, :, i, None] * key).sum(-1)
        places = torch.arange(keys)
        if at_query is not None:
            row = row + (query[:, :, i, None] * at_query[:, places - i + queries - 1]).sum(-1)
        if at_key is not None:
            row = row + (key * at_key[:, i - places + keys - 1]).sum(-1)
        rows.append(row)
    scores = torch.stack(rows, 2)
    if mask is not None:
        scores = scores.masked_fill(~mask, -1e9)
    return scores.softmax(-1) @ value


def compare(tensors, mask=None, atol=1e-5):
    """The result, and the gradients of all that is given."""
    mine = [None if x is None else x.clone().requires_grad_() for x in tensors]
    theirs = [None if x is None else x.double().requires_grad_() for x in tensors]
    added = None if mask is None else forbidden(mask, torch.float32)
    found = attend_by_offset(*mine, added)
    expected = pair_by_pair(*theirs, mask)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=atol)
    with torch.no_grad():
        torch.testing.assert_close(attend_by_offset(*mine, added), found, rtol=0, atol=atol)
    way_back = torch.randn_like(found)
    found.backward(way_back)
    expected.backward(way_back.double())
    for one, other in zip(mine, theirs, strict=True):
        if one is not None:
            torch.testing.assert_close(one.grad.double(), other.grad, rtol=0, atol=10 * atol)


@pytest.mark.parametrize("budget", [1, 3000, 2**20])
@pytest.mark.parametrize("shared_tables", [False, True])
@pytest.mark.parametrize(("queries", "keys"), [(9, 7), (6, 11), (1, 8), (10, 1)])
def test_result_and_gradients(queries, keys, shared_tables, budget):
    with working_memory(budget):
        compare(inputs(7, queries, keys, shared_tables))


@pytest.mark.parametrize("absent", [3, 4])
def test_either_table_may_lack(absent):
    tensors = [None if i == absent else x for i, x in enumerate(inputs(2, 9, 6))]
    compare(tensors)


@pytest.mark.parametrize("shape", [(8, 6), (4, 8, 6), (1, 1, 8, 6), (4, 1, 8, 6), (4, 3, 8, 6)])
def test_masks(shape):
    mask = torch.rand(shape) > 0.3
    mask[..., 2] = True
    if len(shape) == 3:
        mask = mask[:3]  # one a head
    with working_memory(1500):
        compare(inputs(4, 8, 6), mask)


@pytest.mark.parametrize(("queries", "keys"), [(2 * BLOCK + 3, BLOCK - 1), (BLOCK + 1, 2 * BLOCK)])
def test_sequences_longer_than_a_block_and_by_onednn(queries, keys):
    """Of so many tokens that convolutions serve, where the processor has what they need."""
    with working_memory(4 * 2**20):
        compare(inputs(11, queries, keys), atol=1e-4)


@pytest.mark.parametrize(("count", "others"), [(1, 5), (64, 3), (65, 70), (81, 90), (200, 7)])
def test_blocks_cover_all_tokens_and_the_offsets_that_these_need(count, others):
    found = blocks(count, others)
    assert [i for b in found for i in range(b.tokens.start, b.tokens.stop)] == list(range(count))
    for block in found:
        needed = {j - i + count - 1 for i in range(count)[block.tokens] for j in range(others)}
        assert sorted(needed) == list(range(block.offsets.start, block.offsets.stop))
        assert block.size == (len(range(count)[block.tokens]), len(needed))
        assert block.size[0] <= BLOCK


def test_only_one_way_back():
    tensors = [x.requires_grad_() for x in inputs(2, 3, 4)]
    (gradient,) = torch.autograd.grad(
        attend_by_offset(*tensors).square().sum(), tensors[:1], create_graph=True
    )
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # within torch.func.jvp
def test_torch_func_is_served_by_plain_operations():
    attention, x = Attention(8, 2, position=RelativeSine()), torch.randn(3, 5, 8)

    def loss(x):
        return attention(x).tokens.square().sum()

    expected = torch.autograd.functional.jacobian(loss, x)
    gradient = torch.func.grad(loss)
    torch.testing.assert_close(gradient(x), expected)
    each = torch.func.vmap(gradient)(x[:, None])[:, 0]
    torch.testing.assert_close(each, expected)
    _, along = torch.func.jvp(loss, (x,), (x,))
    torch.testing.assert_close(along, (expected * x).sum())
    with torch.no_grad():
        each = torch.func.vmap(loss)(torch.stack((x, 2 * x)))
    torch.testing.assert_close(each, torch.stack((loss(x), loss(2 * x))))


def test_half_precision_with_tables_in_float32():
    tensors = inputs(3, 9, 7)
    halves = [x.bfloat16() for x in tensors[:3]]
    expected = attend_by_offset(*(x.float() for x in halves), *tensors[3:])
    with torch.no_grad():
        found = attend_by_offset(*halves, *tensors[3:])
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=0.05)


def test_no_sequences_at_all():
    attention = Attention(8, 2, position=RelativeSine())
    found = attention(torch.randn(0, 5, 8, requires_grad=True)).tokens
    assert found.shape == (0, 5, 8)
    found.sum().backward()
