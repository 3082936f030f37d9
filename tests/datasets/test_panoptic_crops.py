import numpy as np
import pytest
import torch

from stereo_tr.datasets.panoptic_crops import PanopticCrops
from stereo_tr.datasets.panoptic_sample import PanopticSample


class Images(torch.utils.data.Dataset):
    """Three images of 6 x 9 px; the colour tells the segment: 1, 2 or void."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        numbers = torch.zeros(6, 9, dtype=torch.int32)
        numbers[:, 1:4], numbers[2:, 5:] = 1, 2
        image = numbers.float().expand(3, -1, -1) / 2
        return PanopticSample(image, numbers, torch.tensor([4, index]), f"image {index}")


def test_crops_keep_image_and_segments_together():
    crops = PanopticCrops(Images(), 16, 12, seed=3)
    void, errors = 0, []
    for index in range(30):
        sample = crops[index]
        assert sample.image.shape == (3, 16, 12) and sample.segment_map.shape == (16, 12)
        assert sample.segment_map.unique().tolist()[-1] <= len(sample.classes)
        for number, category in enumerate(sample.classes.tolist(), 1):
            colour = sample.image[0][sample.segment_map == number]
            errors.append((colour - (0.5 if category == 4 else 1.0)).abs())
        void += int((sample.segment_map == 0).any())
    assert void
    assert (torch.cat(errors) < 0.02).float().mean() > 0.7  # the others are mixed, at borders


def test_a_crop_depends_on_seed_and_index_alone_and_epochs_differ():
    crops, again = (PanopticCrops(Images(), 16, 12, seed=3) for _ in range(2))
    for index in (7, 2):
        assert torch.equal(crops[index].image, again[index].image)
    for epoch in range(4):
        names = [crops[3 * epoch + place].name for place in range(3)]
        assert sorted(names) == [f"image {n}/{epoch}" for n in range(3)]
    assert len({tuple(crops[3 * e + p].name[6] for p in range(3)) for e in range(8)}) > 1


def test_at_scale_one_an_image_of_the_crop_s_size_is_only_mirrored():
    crops = PanopticCrops(Images(), 6, 9, scales=(1.0, 1.0))
    numbers = Images()[0].segment_map
    seen = set()
    for index in range(12):
        sample = crops[index]
        mirrored = torch.equal(sample.segment_map, numbers.flip(1))
        assert mirrored or torch.equal(sample.segment_map, numbers)
        expected = numbers.flip(1) if mirrored else numbers
        np.testing.assert_array_equal(sample.image[1], expected / 2)
        seen.add(mirrored)
    assert len(seen) == 2


def test_scales_that_cannot_be_are_said():
    with pytest.raises(ValueError, match=r"0 < low <= high, got \(2.0, 1.0\)"):
        PanopticCrops(Images(), 6, 9, scales=(2.0, 1.0))
