"""Crops, scales and flips: a plane's formula still holds, and no disparity is invented."""

from functools import partial

import numpy as np
import pytest
import torch
from slanted import ALONG, DOWN, FAR, slanted_pair

from stereo_tr.datasets.framing import (
    crop,
    mark_outside,
    scale_and_crop,
    swap_mirrored,
    turn_upside_down,
)
from stereo_tr.datasets.sample import StereoSample
from stereo_tr.geometry import warp_right_to_left

HEIGHT, WIDTH = 71, 143


def generator(seed=3):
    return np.random.default_rng(seed)


def worst_error(sample):
    """The largest |left - warped right| where both cameras see, and how many pixels those are."""
    view, inside = warp_right_to_left(sample.right[None], sample.disparity[None])
    seen = sample.valid & ~sample.occluded & inside[0]
    return float((view[0] - sample.left).abs()[:, seen].max()), int(seen.sum())


def scaled_by(along, down):
    return lambda rng: (along, down)


STEPS = {
    "crop": partial(crop, height=37, width=61),
    "larger": partial(scale_and_crop, height=43, width=83, scales=scaled_by(1.7, 1.3)),
    "smaller": partial(scale_and_crop, height=41, width=67, scales=scaled_by(0.7, 0.8)),
    "swap": partial(swap_mirrored, probability=1.0),
    "flip": partial(turn_upside_down, probability=1.0),
}


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("seed", range(4))
def test_the_new_disparity_warps_the_new_right_view_onto_the_left(name, seed):
    sample = STEPS[name](slanted_pair(HEIGHT, WIDTH), generator(seed))
    error, pixels = worst_error(sample)
    # linear interpolation of waves of 2 pi 5 px loses up to 1 / 8 of the second derivative; shrunk
    # waves are shorter, and the outermost column of a window has no neighbour to be blended with
    assert error < 0.03
    assert pixels > 0.5 * sample.disparity.numel()
    columns = torch.arange(sample.disparity.shape[-1])
    assert torch.equal(sample.occluded, columns - sample.disparity < 0)
    off, _ = worst_error(sample._replace(disparity=sample.disparity + 1))
    assert off > 2 * error


def test_a_crop_keeps_the_values_and_says_what_left_it():
    numbered = torch.arange(HEIGHT * WIDTH, dtype=torch.float32).reshape(HEIGHT, WIDTH)
    sample = slanted_pair(HEIGHT, WIDTH)._replace(disparity=numbered)
    part = crop(sample, generator(), height=37, width=61)
    y, x = divmod(int(part.disparity[0, 0]), WIDTH)
    window = (slice(y, y + 37), slice(x, x + 61))
    assert torch.equal(part.left, sample.left[:, *window])
    assert torch.equal(part.right, sample.right[:, *window])
    assert torch.equal(part.disparity, sample.disparity[window])
    columns = torch.arange(61)
    assert torch.equal(part.right_occluded, columns + part.right_disparity > 60)


def test_places_are_spread_evenly():
    numbered = slanted_pair(4, 6)
    starts = {
        float(crop(numbered, generator(seed), height=2, width=3).disparity[0, 0])
        for seed in range(200)
    }
    assert len(starts) == 3 * 4  # every window that fits


def test_disparity_grows_with_the_width_alone():
    sample = scale_and_crop(
        slanted_pair(HEIGHT, WIDTH),
        generator(),
        height=HEIGHT,
        width=2 * 60,
        scales=scaled_by(2.0, 1.0),
    )
    step = sample.disparity[:, 1:] - sample.disparity[:, :-1]
    middle = step[:, 1:-1].double()  # the first and last column repeat half a pixel
    torch.testing.assert_close(middle, torch.full_like(middle, ALONG), atol=1e-4, rtol=0)
    down = (sample.disparity[1:] - sample.disparity[:-1]).double()
    torch.testing.assert_close(down, torch.full_like(down, 2 * DOWN), atol=1e-4, rtol=0)


def test_no_disparity_lies_between_two_surfaces():
    rng = np.random.default_rng(8)
    steps = torch.from_numpy(rng.choice([2.0, 9.0, 31.0], (50, 90)).astype(np.float32))
    known = torch.from_numpy(rng.random((50, 90)) < 0.8)
    blank = torch.zeros(3, 50, 90)
    sample = StereoSample(
        blank, blank, steps * known, known, ~known, steps * 0, known & ~known, known & ~known, "s"
    )
    for along, down in ((1.5, 1.2), (0.75, 0.8), (1.0, 1.5)):
        scales = scaled_by(along, down)
        after = scale_and_crop(sample, generator(), height=36, width=45, scales=scales)
        exact = 45 / round(45 / along)
        values = {round(float(v), 3) for v in (after.disparity[after.valid] / exact).unique()}
        assert values == {2.0, 9.0, 31.0}
        assert not after.disparity[~after.valid].any()
        outside = torch.arange(45) - after.disparity < 0
        assert torch.equal(after.occluded, ~after.valid | outside)  # unknown was hidden here
        assert 0.7 < after.valid.float().mean() < 0.9


def test_a_small_sample_is_padded_with_unknown_truth():
    sample = slanted_pair(20, 33)
    padded = crop(sample, generator(), height=26, width=40)
    assert torch.equal(padded.left[:, :20, :33], sample.left)
    assert torch.equal(padded.right[:, 20:, :33], sample.right[:, 19:].expand(3, 6, 33))
    assert torch.equal(padded.disparity[:20, :33], sample.disparity)
    assert padded.valid[:20, :33].all()
    for known in (padded.valid, padded.right_valid):
        assert not known[20:].any() and not known[:, 33:].any()
    # what lay outside the view still does, though there are columns now
    assert torch.equal(padded.right_occluded[:20, :33], sample.right_occluded)


def test_a_small_sample_is_enlarged_where_it_is_scaled_anyway():
    small = slanted_pair(20, 50)
    sample = scale_and_crop(small, generator(), height=40, width=55, scales=scaled_by(0.5, 0.5))
    assert sample.left.shape == (3, 40, 55)
    assert sample.valid.all()
    ratio = 55 / round(55 / 2)  # twice as large, so that 20 rows become 40
    assert ratio * FAR < float(sample.disparity.min()) < float(sample.disparity.max())
    assert float(sample.disparity.max()) < ratio * (FAR + 50 * ALONG + 20 * DOWN)


def test_swapping_twice_changes_nothing_and_needs_the_right_truth():
    sample = slanted_pair(9, 31)
    swap = partial(swap_mirrored, probability=1.0)
    once = swap(sample, generator())
    assert torch.equal(once.left, sample.right.flip(-1))
    assert torch.equal(once.disparity, sample.right_disparity.flip(-1))
    for first, again in zip(sample[:-1], swap(once, generator())[:-1], strict=True):
        assert torch.equal(first, again)
    without = slanted_pair(9, 31, right_truth=False)
    assert swap(without, generator()) is without
    assert swap_mirrored(sample, generator(), probability=0.0) is sample
    assert turn_upside_down(sample, generator(), probability=0.0) is sample


def test_only_known_disparity_says_what_is_outside():
    sample = slanted_pair(9, 31)
    nothing = torch.zeros(9, 31, dtype=torch.bool)
    unknown = sample._replace(
        disparity=sample.disparity * 0,
        valid=nothing,
        occluded=nothing,
        right_valid=nothing,
        right_occluded=nothing,
    )
    marked = mark_outside(unknown)
    assert not marked.occluded.any() and not marked.right_occluded.any()
