import itertools

import pytest
import torch

from stereo_tr.attention.memory import working_memory
from stereo_tr.stereo.upsampling import upsample


@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("padding", ["replicate", "constant"])
def test_upsampling_is_the_definition(factor, padding):
    """One fine pixel at a time, in float64; "constant" means zeros around the map."""
    maps, height, width = 2, 2, 3
    x = torch.randn(2, maps, height, width)
    logits = torch.randn(2, 9 * factor**2, height, width)
    fine = upsample(x, logits, factor, padding).double()
    assert fine.shape == (2, maps, factor * height, factor * width)
    expected = torch.zeros_like(fine)
    for b, v, u in itertools.product(range(2), *map(range, fine.shape[2:])):
        (y, a), (x_, c) = divmod(v, factor), divmod(u, factor)
        channels = [(k * factor + a) * factor + c for k in range(9)]
        weights = logits[b, channels, y, x_].double().exp()
        for k in range(9):
            row, column = y + k // 3 - 1, x_ + k % 3 - 1
            if padding == "constant" and not (0 <= row < height and 0 <= column < width):
                continue
            row, column = min(max(row, 0), height - 1), min(max(column, 0), width - 1)
            expected[b, :, v, u] += weights[k] / weights.sum() * x[b, :, row, column]
    torch.testing.assert_close(fine, expected, rtol=1e-5, atol=1e-5)


def test_constants_stay_constant_and_nothing_leaves_the_range():
    logits = 5 * torch.randn(2, 9 * 9, 4, 5)
    constant = torch.full((2, 1, 4, 5), 37.5)
    torch.testing.assert_close(upsample(constant, logits, 3), torch.full((2, 1, 12, 15), 37.5))
    x = torch.rand(2, 1, 4, 5)
    fine = upsample(x, logits, 3)
    assert x.min() <= fine.min() and fine.max() <= x.max() + 1e-6


def test_a_single_neighbour_can_be_copied():
    """All weight on the middle one (k = 4) is nearest enlargement."""
    logits = torch.full((1, 9, 2, 2, 3, 4), -50.0)
    logits[:, 4] = 50
    x = torch.randn(1, 2, 3, 4)
    nearest = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(upsample(x, logits.flatten(1, 3), 2), nearest)


@pytest.mark.parametrize("padding", ["replicate", "constant"])
def test_strips_change_nothing(padding):
    x, logits = torch.randn(2, 3, 7, 5), torch.randn(2, 36, 7, 5)
    with torch.no_grad():
        whole = upsample(x, logits, 2, padding)
        for budget in (1, 40_000, 60_000):
            with working_memory(budget):
                in_strips = upsample(x, logits, 2, padding)
            torch.testing.assert_close(in_strips, whole, rtol=0, atol=1e-6)
