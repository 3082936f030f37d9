"""Misalignment moves the right view alone; rectangles hide what the bookkeeping says."""

import numpy as np
import pytest
import torch
from slanted import slanted_pair, waves

from stereo_tr.datasets.right_view import hide_rectangles, misalign
from stereo_tr.geometry import warp_right_to_left

HEIGHT, WIDTH = 61, 117


def test_whole_pixels_shift_rows():
    sample = slanted_pair(HEIGHT, WIDTH)
    seen = set()
    for seed in range(30):
        rng = np.random.default_rng(seed)
        moved = misalign(sample, rng, pixels=2.0, whole=True)
        shift = next(
            s
            for s in range(-2, 3)
            if torch.allclose(moved.right[:, 5:-5].roll(-s, 1)[:, 3:-3], sample.right[:, 8:-8])
        )
        seen.add(shift)
        assert torch.equal(moved.left, sample.left)
        assert torch.equal(moved.disparity, sample.disparity)
    assert seen == {-2, -1, 0, 1, 2}


def test_a_turn_is_about_the_middle():
    sample = slanted_pair(HEIGHT, WIDTH)
    rng, again = np.random.default_rng(4), np.random.default_rng(4)
    turned = misalign(sample, rng, pixels=1.5, degrees=2.0)
    assert again.random() < 1
    shift, angle = again.uniform(-1.5, 1.5), np.deg2rad(again.uniform(-2, 2))
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)
    x, y = x - (WIDTH - 1) / 2, y - (HEIGHT - 1) / 2 - shift
    source_x = np.cos(angle) * x - np.sin(angle) * y + (WIDTH - 1) / 2
    source_y = np.sin(angle) * x + np.cos(angle) * y + (HEIGHT - 1) / 2
    expected = waves(source_x, source_y)
    inner = np.s_[:, 8:-8, 8:-8]
    np.testing.assert_allclose(turned.right.numpy()[inner], expected[inner], atol=0.01)


def test_probability_zero_leaves_the_sample():
    sample = slanted_pair(9, 31)
    rng = np.random.default_rng(0)
    assert misalign(sample, rng, pixels=2.0, probability=0.0) is sample
    assert hide_rectangles(sample, rng, count=(1, 2), sides=(2, 5), probability=0.0) is sample


@pytest.mark.parametrize("seed", range(6))
def test_what_a_rectangle_hides_is_occluded_and_nothing_else(seed):
    sample = slanted_pair(HEIGHT, WIDTH)
    rng = np.random.default_rng(seed)
    hidden = hide_rectangles(sample, rng, count=(1, 2), sides=(10, 40), probability=1.0)
    painted = (hidden.right != sample.right).any(0)
    mean = sample.right.mean((1, 2))
    assert torch.equal(hidden.right[:, painted].T, mean.expand(int(painted.sum()), 3))
    assert torch.equal(hidden.right_occluded, sample.right_occluded | painted)
    assert torch.equal(hidden.disparity, sample.disparity)
    # a float64 look at the two columns around each partner
    for y in range(HEIGHT):
        for x in range(WIDTH):
            partner = x - float(sample.disparity[y, x])
            if partner < 0:
                assert hidden.occluded[y, x]
            else:
                around = painted[y, [int(np.floor(partner)), int(np.ceil(partner))]]
                assert bool(hidden.occluded[y, x]) == bool(around.any())
    view, inside = warp_right_to_left(hidden.right[None], hidden.disparity[None])
    seen = inside[0] & ~hidden.occluded
    assert float((view[0] - hidden.left).abs()[:, seen].max()) < 0.01
    assert torch.equal(sample.right, slanted_pair(HEIGHT, WIDTH).right)  # not changed in place
