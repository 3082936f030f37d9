import math

import pytest
import torch

from stereo_tr.attention import (
    Attention,
    AxialOffsetTable,
    LearnedMap,
    RelativeSine,
    Rotary,
    WindowOffsetTable,
    attend,
    sine,
    sine_map,
)
from stereo_tr.attention.positions import offsets

B, T, S, C, E = 2, 5, 7, 12, 3
D = C // E


def sine_by_formula(place, channels):
    """sin and cos of place / 10000^(2m / channels), interleaved."""
    out = []
    for channel in range(channels):
        angle = place / 10000 ** (2 * (channel // 2) / channels)
        out.append(math.cos(angle) if channel % 2 else math.sin(angle))
    return torch.tensor(out, dtype=torch.float64)


def heads(linear, x):
    """A projection in float64, with each head's channels apart: [E, D]."""
    return (linear.weight.double() @ x + linear.bias.double()).unflatten(0, (E, D))


def test_offsets_ascend_from_the_last_query_to_the_last_key():
    assert offsets(3, 2).tolist() == [-2, -1, 0, 1]
    assert offsets(1, 1).tolist() == [0]


@pytest.mark.parametrize("channels", [6, 7])
def test_sine_is_the_formula(channels):
    places = torch.tensor([0.0, 1.0, -3.5, 40.25])
    expected = torch.stack([sine_by_formula(place.item(), channels) for place in places])
    torch.testing.assert_close(sine(places, channels).double(), expected, rtol=0, atol=1e-5)


def test_sine_map_holds_the_row_and_then_the_column():
    positions = sine_map(3, 4, 10)
    assert positions.shape == (3, 4, 10)
    for y in range(3):
        for x in range(4):
            expected = torch.cat((sine_by_formula(y, 5), sine_by_formula(x, 5)))
            torch.testing.assert_close(positions[y, x].double(), expected, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="channels=9 must be even"):
        sine_map(3, 4, 9)


def test_learned_map_keeps_its_size_and_resizes_height_and_width_apart():
    positions = LearnedMap(3, 4, 2)
    assert positions(3, 4) is positions.table
    along = torch.tensor([1.0, 3.0, -2.0, 0.5])
    with torch.no_grad():
        positions.table.copy_(along[:, None])  # depends on the column only
        taller, wider = positions(7, 4), positions(3, 9)
    torch.testing.assert_close(taller, along[:, None].expand(7, 4, 2))
    torch.testing.assert_close(wider, wider[:1].expand(3, 9, 2))
    assert wider[0, :, 0].unique().numel() == 9


@pytest.mark.parametrize("reversed_", [False, True], ids=["", "reversed"])
@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (2.5, 1.0)])
def test_relative_sine_is_sttrs_sum_over_pairs(scale, shift, reversed_):
    """q.k + q.key(p) + k.query(p), projections with their biases, all over sqrt(D)."""
    attention = Attention(C, E, position=RelativeSine(scale, shift, reversed_))
    x, context = torch.randn(B, T, C), torch.randn(B, S, C)
    scores = attention(x, context, with_scores=True).scores
    for b in range(B):
        for i in range(T):
            for j in range(S):
                distance = i - j + shift
                place = sine_by_formula(scale * (-distance if reversed_ else distance), C)
                query = heads(attention.to_query, x[b, i].double())
                key = heads(attention.to_key, context[b, j].double())
                query_of_place = heads(attention.to_query, place)
                key_of_place = heads(attention.to_key, place)
                total = query * key + query * key_of_place + key * query_of_place
                expected = total.sum(-1) / D**0.5
                torch.testing.assert_close(
                    scores[b, :, i, j].double(), expected, rtol=1e-4, atol=1e-5
                )


def test_rotary_is_complex_multiplication():
    """Score and value of key j, seen from query i, are turned by exp(1j * frequency * (j - i))."""
    shortest, longest, channels = 3.0, 50.0, 6
    half = channels // 2
    position = Rotary(shortest, longest).tables(Attention(E * channels, E), T, S)
    query, key, value = (torch.randn(B, E, n, channels) for n in (T, S, S))
    attended = attend(query, key, value, position=position, with_scores=True)
    wavelength = torch.tensor([shortest, (shortest * longest) ** 0.5, longest]).double()

    q, k, v = (
        torch.complex(x[..., :half].double(), x[..., half:].double()) for x in (query, key, value)
    )
    scores = torch.empty(B, E, T, S, dtype=torch.float64)
    turns = torch.empty(T, S, half, dtype=torch.complex128)
    for i in range(T):
        for j in range(S):
            turns[i, j] = torch.exp(2j * torch.pi * (j - i) / wavelength)
            pairs = q[:, :, i].conj() * k[:, :, j] * turns[i, j]
            scores[:, :, i, j] = pairs.real.sum(-1) / channels**0.5
    torch.testing.assert_close(attended.scores.double(), scores, rtol=1e-4, atol=1e-5)
    found = torch.einsum("beij,ijc,bejc->beic", scores.softmax(-1).to(v), turns, v)
    expected = torch.cat((found.real, found.imag), -1)
    torch.testing.assert_close(attended.tokens.double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "position", [Rotary(4, 30), RelativeSine(1.5), AxialOffsetTable(4, D, D)], ids=repr
)
def test_terms_depend_on_the_offset_alone(position):
    """The same tokens further along the line, among others that are masked: the same result."""
    attention = Attention(C, E, position=position)
    x, shift, length = torch.randn(B, T, C), 3, 11
    far = torch.randn(B, length, C)
    far[:, shift : shift + T] = x
    mask = torch.zeros(length, length, dtype=torch.bool)
    mask[:, shift : shift + T] = True
    shifted = attention(far, mask=mask).tokens[:, shift : shift + T]
    torch.testing.assert_close(shifted, attention(x).tokens, rtol=1e-4, atol=1e-5)


def test_rotary_turns_pairs():
    attention = Attention(9, 3, position=Rotary())
    with pytest.raises(ValueError, match="3 channels a head"):
        attention(torch.randn(B, T, 9))


def test_window_table_is_swins():
    """Swin numbers the offsets from key to query in reading order."""
    height, width = 3, 4
    table = WindowOffsetTable(height, width, E)
    places = [(y, x) for y in range(height) for x in range(width)]
    numbered = sorted({(a[0] - b[0], a[1] - b[1]) for a in places for b in places})
    assert table.table.shape == (len(numbered), E)
    bias = table.tables(Attention(C, E), 12, 12).bias
    assert bias.shape == (E, 12, 12)
    for i, (query_y, query_x) in enumerate(places):
        for j, (key_y, key_x) in enumerate(places):
            row = numbered.index((query_y - key_y, query_x - key_x))
            assert torch.equal(bias[:, i, j], table.table[row])
    with pytest.raises(ValueError, match="11 queries and 12 keys do not fill a window of 3 x 4"):
        table.tables(Attention(C, E), 11, 12)


def test_axial_tables_clip_far_offsets():
    reach, value_channels = 3, 5
    table = AxialOffsetTable(reach, D, value_channels)
    query, key = torch.randn(B, E, T, D), torch.randn(B, E, S, D)
    value = torch.randn(B, E, S, value_channels)
    position = table.tables(Attention(C, E), T, S)
    attended = attend(query, key, value, position=position, with_scores=True)
    for i in range(T):
        row = [min(max(j - i, -2), 2) + 2 for j in range(S)]
        places = enumerate(row)
        scores = (
            torch.stack(
                [
                    (query[:, :, i] * key[:, :, j]).sum(-1)
                    + query[:, :, i] @ table.query[r]
                    + key[:, :, j] @ table.key[r]
                    for j, r in places
                ],
                dim=-1,
            )
            / D**0.5
        )
        torch.testing.assert_close(attended.scores[:, :, i], scores, rtol=1e-4, atol=1e-5)
        found = value + table.value[row]
        expected = (scores.softmax(-1)[..., None] * found).sum(2)
        torch.testing.assert_close(attended.tokens[:, :, i], expected, rtol=1e-4, atol=1e-5)


def test_window_table_is_resized_for_another_window():
    """Row by row and column by column, with half-pixel centres, by hand."""
    table = WindowOffsetTable(2, 3, E)
    assert table.resized(2, 3).table is table.table
    height, width = 3, 2
    resized = table.resized(height, width)

    def line(old, new):
        """Weights of the old offsets for each new one."""
        weights = torch.zeros(new, old)
        for i in range(new):
            place = min(max((i + 0.5) * old / new - 0.5, 0), old - 1)
            low = int(place)
            weights[i, low] += 1 - (place - low)
            weights[i, min(low + 1, old - 1)] += place - low
        return weights

    grid = table.table.unflatten(0, (3, 5))
    expected = torch.einsum("yv,xu,vue->yxe", line(3, 5), line(5, 3), grid)
    torch.testing.assert_close(resized.table, expected.flatten(0, 1))
    assert resized.tables(Attention(C, E), 6, 6).bias.shape == (E, 6, 6)
