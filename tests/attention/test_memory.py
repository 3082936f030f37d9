import pytest
import torch

from stereo_tr.attention import (
    Attention,
    Columns,
    EarlierInRow,
    EpipolarLine,
    Everything,
    FeedForward,
    LayoutAttention,
    PositionTables,
    RelativeSine,
    Rotary,
    Rows,
    Windows,
    attend,
    recorded_weights,
)
from stereo_tr.attention.memory import pieces, summed, widened, working_memory


def test_pieces_cover_everything_once_and_fit():
    with torch.no_grad(), working_memory(1000):
        for count in (1, 2, 7, 10, 31):
            for each in (1, 90, 333, 1000, 5000):
                parts = pieces(count, each)
                covered = [i for part in parts for i in range(part.start, part.stop)]
                assert covered == list(range(count))
                longest = max(part.stop - part.start for part in parts)
                assert longest == 1 or longest * each <= 1000
        assert len(pieces(10, 90)) == 1
        assert len(pieces(10, 101)) == 2  # of five, not of nine and one
    assert pieces(10, 10**12) == [slice(None)]  # gradients are recorded


@pytest.mark.parametrize("budget", [1, 5000, 40_000])
@pytest.mark.parametrize("position", [None, RelativeSine(scale=2.9), Rotary()], ids=str)
@pytest.mark.parametrize("masks", [0, 1, 7])
def test_attention_does_not_depend_on_the_budget(budget, position, masks):
    attention = Attention(12, 3, position=position)
    x, context = torch.randn(7, 5, 12), torch.randn(7, 6, 12)
    mask = torch.rand(masks, 1, 5, 6) > 0.4 if masks else None
    with torch.no_grad():
        whole = attention(x, context, mask=mask).tokens
        with working_memory(budget):
            in_pieces = attention(x, context, mask=mask).tokens
    torch.testing.assert_close(in_pieces, whole)
    recorded = attention(x, context, mask=mask).tokens  # the plain products
    torch.testing.assert_close(in_pieces, recorded, rtol=1e-5, atol=1e-5)


def test_a_strip_sees_its_halo_but_nothing_beyond_the_borders():
    assert widened(slice(0, 3), 2, 11) == (slice(0, 5), slice(0, 3))
    assert widened(slice(3, 7), 2, 11) == (slice(1, 9), slice(2, 6))
    assert widened(slice(7, 11), 2, 11) == (slice(5, 11), slice(2, 6))


@pytest.mark.parametrize("budget", [1, 9000, 25_000])
@pytest.mark.parametrize("mixing", [3, 5])
def test_mixing_does_not_depend_on_the_budget(budget, mixing):
    layer = FeedForward(6, 14, mixing=mixing)
    x = torch.randn(2, 11, 7, 6)
    recorded = layer(x)  # while gradients are, all rows at once
    with torch.no_grad(), working_memory(budget):
        torch.testing.assert_close(layer(x), recorded, rtol=1e-5, atol=1e-6)


def test_one_table_alone_in_pieces():
    query, key, value = torch.randn(4, 2, 5, 6), torch.randn(4, 2, 3, 6), torch.randn(4, 2, 3, 8)
    table = torch.randn(2, 7, 6)
    for position in (PositionTables(query=table), PositionTables(key=table[:1])):
        expected = attend(query, key, value, position=position, with_scores=True).tokens
        with torch.no_grad(), working_memory(1):
            found = attend(query, key, value, position=position).tokens
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("queries", "keys"), [(131, 70), (65, 64), (20, 150)])
def test_sequences_longer_than_a_block(queries, keys):
    query, key, value = (torch.randn(3, 2, n, 6) for n in (queries, keys, keys))
    table = torch.randn(2, queries + keys - 1, 6)
    offset = torch.arange(keys) - torch.arange(queries)[:, None] + queries - 1
    scores = torch.einsum("beid,bejd->beij", query, key).double()
    scores += torch.einsum("beid,eijd->beij", query, table[:, offset])
    scores += torch.einsum("bejd,eijd->beij", key, table.flip(-1)[:, offset])
    expected = (scores * 0.25).softmax(-1) @ value.double()
    tables = PositionTables(query=table, key=table.flip(-1))
    with torch.no_grad(), working_memory(1):
        found = attend(query, key, value, position=tables, scale=0.25).tokens
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


LAYOUTS = (
    *(Rows(), EarlierInRow(), Columns(), Everything(), Windows(2, 3, (1, 2))),
    *(EpipolarLine(), EpipolarLine(forward_only=False)),
)


@pytest.mark.parametrize("budget", [1, 4000, 9000])
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: type(layout).__name__)
def test_layouts_do_not_depend_on_the_budget(layout, budget):
    attention = LayoutAttention(layout, Attention(8, 2, position=Rotary()))
    maps = torch.randn(4, 5, 7, 8)
    recorded = attention(maps)  # while gradients are, all rows and columns at once
    with torch.no_grad(), working_memory(budget):
        torch.testing.assert_close(attention(maps), recorded, rtol=1e-5, atol=1e-6)
    with torch.no_grad(), recorded_weights(attention) as weights, working_memory(budget):
        attention(maps)
    tokens = layout.split(maps)
    assert weights["attention"].shape == (tokens.shape[0], 2, tokens.shape[1], tokens.shape[1])


@pytest.mark.parametrize("budget", [1, 2000])
def test_offsets_beside_a_bias_do_not_depend_on_the_budget(budget):
    """What `attend_by_offset` leaves to torch's kernel."""
    query, key, value = (torch.randn(4, 3, n, 6) for n in (5, 7, 7))
    tables = [torch.randn(3, 11, 6) for _ in range(2)]
    mask = torch.rand(4, 1, 5, 7) > 0.3
    mask[..., 1] = True
    position = PositionTables(*tables, bias=torch.randn(3, 5, 7))
    expected = attend(query, key, value, position=position, mask=mask, with_scores=True).tokens
    with torch.no_grad(), working_memory(budget):
        found = attend(query, key, value, position=position, mask=mask).tokens
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_sums_take_the_branchs_memory_where_nobody_sees_it():
    x, branch = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    expected = x + branch
    assert torch.equal(summed(x, branch), expected)
    assert not torch.equal(branch, expected)  # gradients are recorded
    with torch.no_grad():
        assert summed(x, branch).data_ptr() == branch.data_ptr()
        assert torch.equal(branch, expected)
        before = x.clone()
        assert torch.equal(summed(x, x), 2 * before)
        assert torch.equal(x, before)
        mean = x.mean(1, keepdim=True)
        assert torch.equal(summed(x, mean), x + mean)
        assert summed(x, branch.bfloat16()).dtype == torch.float32
