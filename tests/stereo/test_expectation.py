import itertools

import pytest
import torch

from stereo_tr.stereo.expectation import (
    REACH,
    STRENGTH,
    TOLERANCE,
    Expectation,
    TokenExpectation,
    disagreement,
    of_tokens,
)
from stereo_tr.stereo.model import ContextStereoTransformer

STRIDE = 4
HEIGHT, WIDTH = 37, 50  # pixels, padded to 12 x 16 tokens


def test_tokens_expect_what_lies_around_them():
    """One token at a time; those beyond the image repeat its last ones."""
    expected = Expectation(20 * torch.rand(2, HEIGHT, WIDTH), torch.rand(2, HEIGHT, WIDTH))
    found = of_tokens(expected, 12, 16, STRIDE)
    disparity, confidence = (map_[:, ::STRIDE, ::STRIDE] for map_ in expected)
    rows, columns = disparity.shape[1:]
    assert (rows, columns) == (10, 13)
    for b, y, x in itertools.product(range(2), range(12), range(16)):
        around = [
            (b, min(v, rows - 1), min(u, columns - 1))
            for v in range(max(y - REACH, 0), min(y + REACH, 11) + 1)
            for u in range(max(x - REACH, 0), min(x + REACH, 15) + 1)
        ]
        values = [disparity[place].item() / STRIDE for place in around]
        low, high = found.middle - found.reach, found.middle + found.reach
        assert low[b, y, x].item() == pytest.approx(min(values) - TOLERANCE, abs=1e-5)
        assert high[b, y, x].item() == pytest.approx(max(values) + TOLERANCE, abs=1e-5)
        sure = min(confidence[place].item() for place in around)
        assert found.cost[b, y, x].item() == pytest.approx(STRENGTH * sure, abs=1e-5)


def test_disagreement_by_hand():
    """One left token, the last of six, expected 2 to 3 tokens away: disparities 5, 4, ..., 0."""
    expected = TokenExpectation(*(torch.zeros(1, 1, 6) for _ in range(3)))
    for map_, value in zip(expected, (2.5, 0.5 + TOLERANCE, 6.0), strict=True):
        map_[..., -1] = value
    found = disagreement(expected, 6)[0, 0]
    # free from 0.5 to 4.5, in full from -0.5 and 5.5 on
    torch.testing.assert_close(found[-1], torch.tensor([3.0, 0, 0, 0, 0, 3.0]))
    assert not found[:-1].any()


def test_where_nothing_is_known_nothing_changes():
    torch.manual_seed(0)
    model = ContextStereoTransformer(
        widths=(8, 16, 24, 32), blocks=(1, 1, 1), layers=1, adjustment_width=16, refinement_width=8
    ).eval()
    views = torch.rand(2, 2, 3, HEIGHT, WIDTH)
    nothing = Expectation(30 * torch.rand(2, HEIGHT, WIDTH), torch.zeros(2, HEIGHT, WIDTH))
    with torch.no_grad():
        for one, other in zip(model(*views)[:3], model(*views, nothing)[:3], strict=True):
            assert torch.equal(one, other)


def test_of_alike_places_the_expected_one_is_matched():
    """Random dots that repeat every 24 px: without help a match may be a period off."""
    torch.manual_seed(0)
    model = ContextStereoTransformer(
        widths=(8, 16, 24, 32), blocks=(1, 1, 1), layers=1, adjustment_width=16, refinement_width=8
    ).eval()
    tile = torch.rand(1, 3, 32, 24)
    view = tile.repeat(1, 1, 1, 6)
    size = view.shape[-2:]
    for disparity in (24.0, 48.0, 72.0):
        expected = Expectation(torch.full((1, *size), disparity), torch.ones(1, *size))
        with torch.no_grad():
            match = model(view, view, expected).details.match.disparity
        seen = match[..., int(disparity) // STRIDE :]
        assert (seen * STRIDE - disparity).abs().max() <= STRIDE * (TOLERANCE + 1) + 1e-3
