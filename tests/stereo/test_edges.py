import math

import pytest
import torch

from stereo_tr.stereo.edges import (
    FITS,
    LEAST_WEIGHT,
    LIKE,
    RINGS,
    UNFIT,
    relative_light,
    sharpen_edges,
    weighted_median,
)


def test_weighted_median_holds_half_of_the_weight():
    values = torch.tensor([[5.0, 1.0], [2.0, 4.0], [9.0, 3.0], [7.0, 2.0]])
    weights = torch.tensor([[1.0, 1.0], [1.0, 1.5], [1.0, 5.0], [4.0, 1.0]])
    # 2 5 7 9 with 1 1 4 1 of 7: half is reached at 7; 1 2 3 4 with 1 1 5 1.5 of 8.5: at 3
    torch.testing.assert_close(weighted_median(values, weights), torch.tensor([7.0, 3.0]))


def scene(edge_of_photograph, edge_of_disparity, height=31, width=47):
    """A near half and a far one: dark with disparity 20 left of the edges, bright with 5 right."""
    columns = torch.arange(width).expand(1, height, width)
    left = (columns >= edge_of_photograph).float()[:, None].expand(-1, 3, -1, -1)
    disparity = torch.where(columns < edge_of_disparity, 20.0, 5.0)
    return disparity, left, columns


def unseen(disparity):
    """The right view isn't asked."""
    return torch.zeros_like(disparity, dtype=torch.bool)


def test_edge_moves_to_that_of_the_photograph():
    for shift in (-1, 1):
        disparity, left, columns = scene(23, 23 + shift)
        half = torch.full_like(disparity, 0.5)
        found = sharpen_edges(disparity, half, unseen(disparity), left, left)
        torch.testing.assert_close(found, torch.where(columns < 23, 20.0, 5.0))


def test_sure_pixels_and_smooth_surfaces_stay():
    disparity, left, columns = scene(23, 25)
    sure = torch.ones_like(disparity)
    found = sharpen_edges(disparity, sure, unseen(disparity), left, left)
    torch.testing.assert_close(found, disparity)
    slanted = columns * 0.1 + 3  # 1.6 px within 16 columns
    unsure = torch.zeros_like(slanted)
    found = sharpen_edges(slanted, unsure, unseen(slanted), left, left)
    torch.testing.assert_close(found, slanted)


def two_views(edge, near, far, height=25, width=80):
    """Textured halves of one kind: a near one right of `edge`, a far one left of it."""
    generator = torch.Generator().manual_seed(3)
    texture = torch.rand(2, 1, 3, height, 2 * width, generator=generator)
    left = torch.cat((texture[0, ..., :edge], texture[1, ..., edge:width]), -1)
    right = texture[0, ..., far : far + width].clone()
    right[..., edge - near :] = texture[1, ..., edge : width + near]
    columns = torch.arange(width).expand(1, height, width)
    return left, right, torch.where(columns >= edge, float(near), float(far))


@pytest.mark.parametrize("gain", [1.0, 0.5])
def test_edge_moves_to_where_the_views_match(gain):
    """Colours are the same on both sides; the right view may be exposed otherwise."""
    left, right, truth = two_views(50, near=9, far=4)
    moved = truth.roll(3, dims=-1)
    moved[..., :3] = 4.0
    confidence = torch.full_like(truth, 0.92)
    confidence[..., 40:60] = 0.5
    seen = torch.ones_like(truth, dtype=torch.bool)
    found = sharpen_edges(moved, confidence, seen, left, right * gain)
    inner = (..., slice(1, -1), slice(45, 58))
    assert (found[inner] != truth[inner]).float().mean() < 0.06
    assert (moved[inner] != truth[inner]).float().mean() > 0.2


def test_what_is_hidden_doesnt_ask_the_right_view():
    left, right, truth = two_views(50, near=9, far=4)
    moved = truth.roll(2, dims=-1)
    half = torch.full_like(truth, 0.5)
    found = [sharpen_edges(moved, half, unseen(truth), left, view) for view in (right, left)]
    assert torch.equal(*found)


def test_light_is_told_by_what_is_matched():
    """Twice as bright on the left half, a third as bright on the right one, and red redder."""
    generator = torch.Generator().manual_seed(7)
    left = torch.rand(1, 3, 240, 400, generator=generator) * 0.5 + 0.5
    light = torch.where(torch.arange(400) < 200, 2.0, 1 / 3) * torch.tensor([1.2, 1, 1])[:, None]
    right = (left / light[:, None]).roll(-4, dims=-1)
    disparity = torch.full((1, 240, 400), 4.0)
    sure = torch.rand(1, 240, 400, generator=generator) < 0.7
    disparity[~sure] = 31.0
    found = relative_light(left, right, disparity, sure)
    for inside in (slice(40, 160), slice(240, 360)):
        told = found[0, :, 24:216, inside]
        # the rest of the view counts for a twentieth
        torch.testing.assert_close(told, light[:, None, inside].expand_as(told), rtol=0.2, atol=0)


def test_light_is_the_same_where_nothing_is_known():
    left, right = torch.rand(2, 1, 3, 40, 56)
    nowhere = torch.zeros(1, 40, 56, dtype=torch.bool)
    found = relative_light(left, right, torch.ones(1, 40, 56), nowhere)
    torch.testing.assert_close(found, torch.ones_like(left))


def test_equals_a_loop_in_float64():
    generator = torch.Generator().manual_seed(5)
    disparity = torch.rand(2, 13, 17, generator=generator) * 8
    confidence = torch.rand(2, 13, 17, generator=generator) * 0.79  # none tells the light
    left, right = torch.rand(2, 2, 3, 13, 17, generator=generator)
    visible = torch.rand(2, 13, 17, generator=generator) < 0.6
    found = sharpen_edges(disparity, confidence, visible, left, right)
    offsets = [
        (radius * torch.tensor(6.283185307179586 * (k + radius) / count).sin()).round().int()
        + 1j * (radius * torch.tensor(6.283185307179586 * (k + radius) / count).cos()).round().int()
        for radius, count in RINGS
        for k in range(count)
    ]

    def unfit(view, y, x, value):
        total = 0.0
        for down, across in ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0)):
            row, column = min(max(y + down, 0), 12), min(max(x + across, 0), 16)
            partner = min(max(round(column - value), 0), 16)
            here, there = left[view, :, row, column], right[view, :, row, partner]
            total += min((here - there).double().abs().sum().item(), UNFIT)
        return total / 5 / FITS if visible[view, y, x] else 0.0

    for view, y, x in ((0, 0, 0), (0, 6, 8), (1, 12, 16), (1, 3, 11), (1, 0, 9), (0, 11, 2)):
        ranked = []
        for offset in offsets:
            row = min(max(y + int(offset.real), 0), 12)
            column = min(max(x + int(offset.imag), 0), 16)
            unlike = (left[view, :, row, column] - left[view, :, y, x]).double().abs().sum().item()
            trust = confidence[view, row, column].item() + LEAST_WEIGHT
            value = disparity[view, row, column].item()
            weight = trust * math.exp(-unlike / LIKE - unfit(view, y, x, value))
            ranked.append((value, weight))
        ranked.sort()
        weights = torch.tensor([weight for _, weight in ranked])
        middle = int((weights.cumsum(0) < weights.sum() / 2).sum())
        assert found[view, y, x].item() == ranked[middle][0]
