"""Every recipe, many seeds: one size, exact truth, and nothing but seed and index counts."""

import pickle

import pytest
import torch
from slanted import slanted_pair
from torch.utils.data import default_collate

from stereo_tr.datasets import generated
from stereo_tr.datasets.augmentation import RECIPES, _Augmented, augmented
from stereo_tr.datasets.framing import crop, scale_and_crop, swap_mirrored, turn_upside_down
from stereo_tr.datasets.generated import GeneratedScenes
from stereo_tr.datasets.photometric import add_noise, recolour
from stereo_tr.datasets.right_view import hide_rectangles, misalign
from stereo_tr.geometry import consistent, warp_right_to_left

HEIGHT, WIDTH = 83, 151
SEEDS = range(8)


class Listed(torch.utils.data.Dataset):
    """A few samples over and over, counted from 0 without an end."""

    def __init__(self, samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index % len(self.samples)]


@pytest.fixture(scope="module")
def scenes():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generated, "COLOUR_TILES", 6)
        made = GeneratedScenes(131, 257, photographs=False, camera=False, seed=3)
        return Listed([made[index] for index in range(4)])


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(one[:-1], two[:-1], strict=True))


@pytest.mark.parametrize("recipe", RECIPES)
def test_samples_are_whole_and_of_one_size(recipe, scenes):
    pairs = augmented(scenes, recipe, HEIGHT, WIDTH, seed=1)
    assert len(pairs) == len(scenes)
    samples = [pairs[index] for index in SEEDS]
    for sample in samples:
        assert sample.left.shape == sample.right.shape == (3, HEIGHT, WIDTH)
        for view in (sample.left, sample.right):
            assert view.dtype == torch.float32
            assert 0 <= view.min() <= view.max() <= 1
        for values in sample[2:-1]:
            assert values.shape == (HEIGHT, WIDTH)
        assert sample.disparity.dtype == sample.right_disparity.dtype == torch.float32
        assert sample.valid.all() and sample.right_valid.all()
        assert not any(tensor.requires_grad for tensor in sample[:-1])
        columns = torch.arange(WIDTH)
        assert sample.occluded[columns - sample.disparity < 0].all()
        assert sample.right_occluded[columns + sample.right_disparity > WIDTH - 1].all()
    default_collate(samples)  # they stack
    assert len({float(sample.disparity.sum()) for sample in samples}) == len(samples)


@pytest.mark.parametrize("recipe", RECIPES)
def test_both_views_truth_agrees_where_both_cameras_see(recipe, scenes):
    pairs = augmented(scenes, recipe, HEIGHT, WIDTH, seed=2)
    seen = agree = 0
    for index in SEEDS:
        sample = pairs[index]
        visible = sample.valid & ~sample.occluded
        named = consistent(sample.disparity[None], sample.right_disparity[None], tolerance=1.0)[0]
        seen += int(visible.sum())
        agree += int((named & visible).sum())
    assert seen > 0.25 * len(SEEDS) * HEIGHT * WIDTH
    # the rest lies at edges, where the column beside the partner belongs to another surface
    assert agree > 0.985 * seen


def changes_no_geometry(step):
    return step.func not in (recolour, add_noise, misalign) and "steps" not in step.keywords


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_new_disparity_warps_the_new_right_view_onto_the_left(recipe, scenes):
    """Without the steps that change colours, or misalign the right view on purpose."""
    steps = [step for step in RECIPES[recipe](HEIGHT, WIDTH) if changes_no_geometry(step)]
    kinds = {step.func for step in steps}
    assert kinds <= {crop, scale_and_crop, swap_mirrored, turn_upside_down, hide_rectangles}
    pairs = _Augmented(scenes, steps, seed=4)
    errors, beside = [], []
    for index in SEEDS:
        sample = pairs[index]
        for collected, shift in ((errors, 0), (beside, 1)):
            view, inside = warp_right_to_left(sample.right[None], sample.disparity[None] + shift)
            visible = sample.valid & ~sample.occluded & inside[0]
            collected.append((view[0] - sample.left).abs().mean(0)[visible])
    error, shifted = torch.cat(errors), torch.cat(beside)
    # textures are as fine as a pixel, so even exact truth leaves what interpolation loses
    assert float(error.median()) < 1.5 / 255
    assert float(shifted.median()) > 3 * float(error.median())


@pytest.mark.parametrize("recipe", RECIPES)
def test_only_seed_and_index_count(recipe, scenes):
    pairs = augmented(scenes, recipe, HEIGHT, WIDTH, seed=5)
    third = pairs[3]
    pairs[9]
    assert same(third, pairs[3])
    assert same(third, pickle.loads(pickle.dumps(pairs))[3])
    assert not same(third, pairs[7])  # the same sample, another crop
    assert not same(third, augmented(scenes, recipe, HEIGHT, WIDTH, seed=6)[3])
    assert third.name == scenes[3].name


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("size", [(20, 33), (300, 90), (60, 400)])
def test_small_samples_without_any_truth_of_the_right_view(recipe, size):
    without = Listed([slanted_pair(*size, right_truth=False)])
    sample = augmented(without, recipe, 64, 96, seed=0)[0]
    assert sample.left.shape == (3, 64, 96)
    assert sample.valid.any()
    assert not sample.right_valid.any() and not sample.right_disparity.any()
    assert not sample.disparity[~sample.valid].any()


def test_what_cannot_be_done_is_said(scenes):
    with pytest.raises(ValueError, match=r"unknown augmentation 'crstereo'; did you mean cres"):
        augmented(scenes, "crstereo", 8, 9, seed=0)
    with pytest.raises(ValueError, match="at least 1x1 pixels"):
        augmented(scenes, "none", 0, 9, seed=0)
