import math

import numpy as np
import pytest
import torch

from stereo_tr.stereo.edges import (
    CANDIDATE_WEIGHT,
    FITS,
    LEAST_SHARE,
    LEAST_WEIGHT,
    LIKE,
    MIDDLE,
    MOVED,
    NEAR,
    RINGS,
    UNFIT,
    relative_light,
    sharpen_edges,
    weighted_median,
)
from stereo_tr.stereo.output import Candidates


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


@pytest.mark.parametrize("told", [False, True])
def test_equals_a_loop_in_float64(told):
    generator = torch.Generator().manual_seed(5)
    disparity = torch.rand(2, 13, 17, generator=generator) * 8
    confidence = torch.rand(2, 13, 17, generator=generator) * 0.79  # none tells the light
    left, right = torch.rand(2, 2, 3, 13, 17, generator=generator)
    visible = torch.rand(2, 13, 17, generator=generator) < 0.6
    matched = Candidates(
        torch.rand(2, 13, 17, generator=generator) * 8,
        torch.rand(2, 13, 17, generator=generator),
    )
    given = matched if told else None
    found = sharpen_edges(disparity, confidence, visible, left, right, given)
    offsets = [
        (
            round(radius * math.sin(math.tau * (k + radius) / count)),
            round(radius * math.cos(math.tau * (k + radius) / count)),
        )
        for radius, count in RINGS
        for k in range(count)
    ]
    sides = [side.double().numpy() for side in (left, right)]
    trust = confidence.double().numpy() + LEAST_WEIGHT
    own, own_trust = (map_.double().numpy() for map_ in matched)

    def unfit(view, y, x, value):
        total = 0.0
        for down, across in ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0)):
            row, column = min(max(y + down, 0), 12), min(max(x + across, 0), 16)
            partner = min(max(round(column - value), 0), 16)
            here, there = sides[0][view, :, row, column], sides[1][view, :, row, partner]
            total += min(abs(here - there).sum(), UNFIT)
        return total / 5 / FITS if visible[view, y, x] else 0.0

    def median(before, view, y, x):
        ranked = []
        for index, (down, across) in enumerate(offsets):
            place = (view, min(max(y + down, 0), 12), min(max(x + across, 0), 16))
            here = (view, slice(None), *place[1:])
            unlike = abs(sides[0][here] - sides[0][view, :, y, x]).sum()
            voices = [(before[place], trust[place])]
            if told and index < MIDDLE:
                share = own_trust[place] if own_trust[place] > LEAST_SHARE else 0.0
                voices.append((own[place], CANDIDATE_WEIGHT * share))
            for value, voice in voices:
                weight = voice * math.exp(-unlike / LIKE - unfit(view, y, x, value))
                ranked.append((value, weight))
        ranked.sort()
        weights = np.array([weight for _, weight in ranked])
        return ranked[int((weights.cumsum() < weights.sum() / 2).sum())][0]

    first = disparity.double().numpy()
    once = np.empty_like(first)
    for place in np.ndindex(first.shape):
        once[place] = median(first, *place)
    moved = abs(once - first) > MOVED
    agreed = 0
    for view, y, x in np.ndindex(first.shape):
        near = moved[view, max(y - NEAR, 0) : y + NEAR + 1, max(x - NEAR, 0) : x + NEAR + 1]
        expected = median(once, view, y, x) if near.any() else once[view, y, x]
        agreed += found[view, y, x].item() == expected
    assert agreed == first.size


def test_a_thin_thing_that_was_matched_is_not_lost():
    """Two columns wide, smoothed away; what its tokens were matched to is all that is left."""
    generator = torch.Generator().manual_seed(11)
    near, far, bar = 11, 4, slice(40, 42)
    texture = torch.rand(2, 1, 3, 23, 90, generator=generator) * 0.4
    texture[1] += 0.6  # and brighter
    left = texture[0, ..., :70].clone()
    left[..., bar] = texture[1, ..., bar]
    right = texture[0, ..., far : far + 70].clone()
    right[..., 40 - near : 42 - near] = texture[1, ..., bar]
    disparity = torch.full((1, 23, 70), float(far))
    confidence = torch.full_like(disparity, 0.6)
    disparity[..., 30:34] = 7.0  # elsewhere: an edge, so that pixels are asked
    seen = torch.ones_like(disparity, dtype=torch.bool)
    matched = Candidates(torch.full_like(disparity, 4.0), torch.full_like(disparity, 0.9))
    matched.disparity[..., 40:44] = near  # of a whole token
    unsure = matched._replace(confidence=torch.full_like(disparity, LEAST_SHARE))
    alone, hardly, found = (
        sharpen_edges(disparity, confidence, seen, left, right, given)
        for given in (None, unsure, matched)
    )
    inner = (0, slice(4, -4), slice(36, 46))
    assert (alone[inner] == far).all()
    assert torch.equal(hardly, alone)
    truth = torch.full_like(disparity, float(far))
    truth[..., bar] = near
    assert (found[inner] != truth[inner]).float().mean() < 0.05
