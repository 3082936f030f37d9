import pytest
import torch

from stereo_tr.attention import (
    Attention,
    Columns,
    EarlierInRow,
    EpipolarLine,
    Everything,
    LayoutAttention,
    Rows,
    Windows,
)

LAYOUTS = [
    Rows(),
    Columns(),
    Everything(),
    EpipolarLine(),
    EpipolarLine(forward_only=False),
    Windows(2, 3),
    Windows(2, 3, shift=(1, 2)),
    Windows(7, 9, shift=(3, 4)),
]
SIZES = [(4, 4, 6), (2, 5, 7), (6, 1, 1), (2, 7, 3)]


def name(layout):
    return repr(layout) if "(" in repr(layout)[:30] else type(layout).__name__


@pytest.mark.parametrize("layout", LAYOUTS, ids=name)
@pytest.mark.parametrize(("maps", "height", "width"), SIZES)
def test_merge_undoes_split(layout, maps, height, width):
    x = torch.randn(maps, height, width, 2)
    tokens = layout.split(x)
    assert torch.equal(layout.merge(tokens, height, width), x)
    # Sequences of other tokens come back where they belong, too, and contexts fit queries.
    assert torch.equal(layout.merge(-tokens, height, width), -x)
    assert layout.context(x).shape[0] == tokens.shape[0]
    mask = layout.mask(height, width)
    if mask is not None:
        assert mask.shape[0] in (1, tokens.shape[0] // maps)
        assert mask.shape[1:] == (tokens.shape[1], layout.context(x).shape[1])


def same_row(a, b):
    return a[:2] == b[:2]


def same_column(a, b):
    return (a[0], a[2]) == (b[0], b[2])


def same_map(a, b):
    return a[0] == b[0]


def same_epipolar_line(a, b):
    """Maps 0 and 1 are left views, 2 and 3 right ones; a left partner lies further right."""
    (view, y, x), (other, other_y, other_x) = a, b
    pairs = {0: 2, 1: 3, 2: 0, 3: 1}
    left, right = (x, other_x) if view < 2 else (other_x, x)
    return pairs[view] == other and y == other_y and right <= left


def same_window(a, b):
    """Windows of 2 x 3 on a grid that starts at (1, 2) - (2, 3); what sticks out doesn't wrap."""
    return a[0] == b[0] and all(
        (i + size - shift) // size == (j + size - shift) // size
        for i, j, size, shift in zip(a[1:], b[1:], (2, 3), (1, 2), strict=True)
    )


@pytest.mark.parametrize(
    ("layout", "meet"),
    [
        (Rows(), same_row),
        (Columns(), same_column),
        (Everything(), same_map),
        (EpipolarLine(), same_epipolar_line),
        (Windows(2, 3, shift=(1, 2)), same_window),
    ],
    ids=["rows", "columns", "everything", "epipolar line", "windows"],
)
@pytest.mark.parametrize("size", [(3, 5), (4, 6)])
def test_who_meets_whom(layout, meet, size):
    """A token's result depends on exactly the tokens it may meet: the sparsity of the Jacobian."""
    attention = LayoutAttention(layout, Attention(4, 2)).double()
    x = torch.randn(4, *size, 4, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(
        lambda x: attention(x).square().sum(-1).flatten(), x, vectorize=True
    )
    depends = (jacobian.abs().sum(-1) > 0).flatten(1)
    places = [(b, y, x) for b in range(4) for y in range(size[0]) for x in range(size[1])]
    for i, a in enumerate(places):
        for j, b in enumerate(places):
            if i != j:  # a query that sees one key only doesn't depend on itself
                assert depends[i, j] == meet(a, b), (a, b)


def test_shifted_windows_are_swins():
    """Swin numbers the nine regions of the rolled map and compares the numbers within a window."""
    height, width, window, shift = 6, 9, 3, 1
    number = torch.zeros(height, width)
    edges = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
    for n, (rows, columns) in enumerate((r, c) for r in edges for c in edges):
        number[rows, columns] = n
    mask = Windows(window, window, (shift, shift)).mask(height, width)
    for n in range(mask.shape[0]):
        y, x = n // 3 * window, n % 3 * window
        inside = number[y : y + window, x : x + window].flatten()
        assert torch.equal(mask[n], inside[:, None] == inside)


def test_windows_without_shift_or_padding_need_no_mask():
    assert Windows(2, 3).mask(4, 6) is None
    assert Windows(2, 3).mask(4, 7) is not None
    assert Windows(2, 3, (0, 1)).mask(4, 6) is not None


def test_epipolar_lines_read_the_right_view_backwards():
    """Row r of one view meets row r of the other; a step along the line means the same in both."""
    left = torch.arange(12.0).reshape(1, 3, 4, 1)
    right = left + 100
    layout = EpipolarLine()
    tokens, context = (f(torch.cat((left, right)))[..., 0] for f in (layout.split, layout.context))
    assert torch.equal(tokens[:3], left[0, ..., 0])
    assert torch.equal(context[:3], right[0, ..., 0])
    assert torch.equal(tokens[3:], right[0, ..., 0].flip(-1))
    assert torch.equal(context[3:], left[0, ..., 0].flip(-1))
    # A pair at disparity d has key - query = -d, whichever view asks.
    disparity, x = 2, 3
    assert (tokens[1, x], context[1, x - disparity]) == (left[0, 1, 3, 0], right[0, 1, 1, 0])
    assert (tokens[4, 3 - 1], context[4, 3 - x]) == (right[0, 1, 1, 0], left[0, 1, 3, 0])


def test_epipolar_lines_need_both_views():
    with pytest.raises(ValueError, match="3 maps do not hold left and right views in pairs"):
        EpipolarLine().split(torch.randn(3, 2, 4, 1))


def test_an_axis_that_one_window_covers_is_not_rolled():
    """Swin's last stage: a shift would cut the only window in two, and nothing would be gained."""
    shifted, whole = Windows(7, 4, shift=(3, 2)), Windows(7, 4)
    x = torch.randn(2, 7, 4, 3)
    assert torch.equal(shifted.split(x), whole.split(x))
    assert shifted.mask(7, 4) is None
    wide = torch.randn(2, 5, 9, 3)
    columns = Windows(7, 4, shift=(0, 2))
    assert torch.equal(shifted.split(wide), columns.split(wide))
    assert torch.equal(shifted.mask(5, 9), columns.mask(5, 9))


def test_text_looks_back():
    mask = EarlierInRow().mask(1, 5)
    assert mask.shape == (1, 5, 5)
    for query in range(5):
        assert mask[0, query].tolist() == [key <= query for key in range(5)]


@pytest.mark.parametrize(
    "layout", [Rows(), EarlierInRow(), Columns(), Everything(), EpipolarLine(), Windows(2, 3)]
)
def test_a_window_is_what_a_sequence_covers(layout):
    height, width = 4, 6
    covered = layout.window(height, width)
    assert covered[0] * covered[1] == layout.split(torch.zeros(2, height, width, 1)).shape[1]
