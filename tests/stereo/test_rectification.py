import math

import pytest
import torch

from stereo_tr.stereo.output import StereoOutput
from stereo_tr.stereo.rectification import LEAST_OFFSET, moved_up, vertical_offset
from stereo_tr.stereo.scales import Scales, match_at_scales

HEIGHT, WIDTH, DISPARITY = 150, 230, 7.5


def brightness(row, column):
    """A texture that is known between the pixels, too: waves of 9 to 60 px in all directions."""
    generator = torch.Generator().manual_seed(2)
    draws = torch.rand(24, 3, generator=generator, dtype=torch.float64)
    total = torch.zeros(torch.broadcast_shapes(row.shape, column.shape), dtype=torch.float64)
    for length, direction, phase in draws.tolist():
        wave, turn = 2 * math.pi / (9 * 7**length), 2 * math.pi * direction
        along = row * math.sin(turn) + column * math.cos(turn)
        total += (along * wave + 2 * math.pi * phase).sin()
    return total.clamp(-10, 10) / 25 + 0.5


def two_views(offset, height=HEIGHT, width=WIDTH):
    """A pair of one disparity; what is at a row of the left view lies lower in the right one."""
    centre, at_right, at_bottom = offset
    row = torch.arange(height, dtype=torch.float64)[:, None]
    column = torch.arange(width, dtype=torch.float64)[None]
    left = brightness(row, column)
    across = 2 * column / (width - 1) - 1
    # there = row + centre + at_right * across + at_bottom * (2 * row / (height - 1) - 1), inverted
    seen = (row - centre - at_right * across + at_bottom) / (1 + 2 * at_bottom / (height - 1))
    right = brightness(seen, column + DISPARITY)
    return (view.float().expand(1, 3, -1, -1).contiguous() for view in (left, right))


def known(height=HEIGHT, width=WIDTH):
    disparity = torch.full((1, height, width), DISPARITY)
    return disparity, torch.ones_like(disparity, dtype=torch.bool)


@pytest.mark.parametrize(
    "offset", [(0.5, 0, 0), (-2.0, 1.5, 1.0), (0.25, -3.0, 0.5), (6.0, 1.0, -2.0), (0, 0, 0.25)]
)
def test_offset_is_found_and_undone(offset):
    left, right = two_views(offset)
    found = vertical_offset(left, right, *known())
    torch.testing.assert_close(found, torch.tensor([offset]), atol=0.02, rtol=0)
    (_, aligned), inner = two_views((0, 0, 0)), (..., slice(12, -12), slice(3, -3))
    moved = moved_up(right, torch.tensor([offset]))
    torch.testing.assert_close(moved[inner], aligned[inner], atol=0.01, rtol=0)


def test_each_pair_of_a_batch_has_its_own():
    offsets = torch.tensor([[1.5, 0.5, 0.0], [-1.0, 0.0, 0.75]])
    views = [torch.cat(view) for view in zip(*map(two_views, offsets.tolist()), strict=True)]
    disparity, sure = (map_.expand(2, -1, -1) for map_ in known())
    found = vertical_offset(*views, disparity, sure)
    torch.testing.assert_close(found, offsets, atol=0.02, rtol=0)


def test_only_what_is_sure_tells():
    left, right = two_views((1.0, -0.5, 0.5))
    disparity, sure = known()
    generator = torch.Generator().manual_seed(4)
    sure = torch.rand(sure.shape, generator=generator) < 0.3
    disparity[~sure] = 40 * torch.rand(int((~sure).sum()), generator=generator)
    found = vertical_offset(left, right, disparity, sure)
    torch.testing.assert_close(found, torch.tensor([[1.0, -0.5, 0.5]]), atol=0.03, rtol=0)


def test_wrong_matches_and_another_exposure_hardly_count():
    left, right = two_views((1.0, -0.5, 0.5))
    disparity, sure = known()
    disparity[..., 60:90] += 9.0
    found = vertical_offset(left, right**0.8 * 0.7, disparity, sure)
    torch.testing.assert_close(found, torch.tensor([[1.0, -0.5, 0.5]]), atol=0.1, rtol=0)


def test_nothing_is_claimed_without_evidence():
    none = torch.zeros(1, 3)
    for offset in ((0, 0, 0), (LEAST_OFFSET / 4, LEAST_OFFSET / 4, -LEAST_OFFSET / 4)):
        assert torch.equal(vertical_offset(*two_views(offset), *known()), none)
    left, right = two_views((2.0, 0, 0))
    disparity, sure = known()
    assert torch.equal(vertical_offset(left, right, disparity, ~sure), none)
    grey = torch.full_like(left, 0.5)
    assert torch.equal(vertical_offset(grey, grey, disparity, sure), none)
    small = [map_[..., :20, :70] for map_ in (left, right, disparity, sure)]
    assert torch.equal(vertical_offset(*small), none)
    rows = torch.rand(2, 1, 3, 1, WIDTH, generator=torch.Generator().manual_seed(1))
    assert torch.equal(vertical_offset(*rows, *(map_[:, :1] for map_ in known())), none)


def test_whole_rows_move_as_they_are():
    view = torch.rand(1, 3, 20, 31, generator=torch.Generator().manual_seed(6))
    moved = moved_up(view, torch.tensor([[3.0, 0, 0]]))
    torch.testing.assert_close(moved[:, :, :16], view[:, :, 3:19], atol=1e-4, rtol=0)
    torch.testing.assert_close(moved[:, :, 17:], view[:, :, -1:].expand_as(moved[:, :, 17:]))


class SureModel(torch.nn.Module):
    """Knows the disparity, is sure of it, and keeps what it was shown."""

    def __init__(self):
        super().__init__()
        self.shown = []

    def forward(self, left, right):
        self.shown.append(right)
        disparity = torch.full_like(left[:, 0], DISPARITY * left.shape[-1] / WIDTH)
        return StereoOutput(
            disparity, *torch.tensor([0.0, 1.0]).expand(*disparity.shape, 2).unbind(-1), None
        )


def test_a_pair_is_looked_at_anew_once_its_rows_are_aligned():
    left, right = two_views((-2.0, 1.5, 1.0))
    model = SureModel()
    found = match_at_scales(model, left, right, Scales(coarse=0.4))
    torch.testing.assert_close(
        found.row_offset, torch.tensor([[-2.0, 1.5, 1.0]]), atol=0.02, rtol=0
    )
    coarse_first, coarse, fine = model.shown
    assert coarse_first.shape == coarse.shape == (1, 3, 60, 92)
    (_, aligned), inner = two_views((0, 0, 0)), (..., slice(12, -12), slice(3, -3))
    torch.testing.assert_close(fine[inner], aligned[inner], atol=0.01, rtol=0)


def test_an_aligned_pair_is_shown_as_it_is():
    left, right = two_views((0, 0, 0))
    model = SureModel()
    found = match_at_scales(model, left, right, Scales(coarse=0.4))
    assert len(model.shown) == 2
    assert model.shown[-1] is right
    assert torch.equal(found.row_offset, torch.zeros(1, 3))
