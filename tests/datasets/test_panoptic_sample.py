import numpy as np
import pytest
import torch

from stereo_tr.datasets.panoptic_sample import ClassList, PanopticSample, collate, number_segments


def sample(classes, size=(2, 3), name="a"):
    segment_map = torch.arange(6, dtype=torch.int32).view(2, 3)[: size[0], : size[1]]
    return PanopticSample(torch.rand(3, *size), segment_map, torch.tensor(classes), name)


def test_a_batch_fills_up_the_lists_of_classes():
    first, second = sample([3, 0, 1, 1, 2]), sample([4, 4], name="b")
    batch = collate([first, second])
    assert torch.equal(batch.image, torch.stack([first.image, second.image]))
    assert batch.segment_map.shape == (2, 2, 3) and batch.segment_map.dtype == torch.int32
    assert batch.classes.tolist() == [[3, 0, 1, 1, 2], [4, 4, -1, -1, -1]]
    assert batch.name == ["a", "b"]


def test_a_batch_of_images_without_segments_is_one():
    nothing = sample([])._replace(classes=torch.zeros(0, dtype=torch.int64))
    assert collate([nothing, nothing]).classes.shape == (2, 0)


def test_images_of_different_sizes_are_no_batch():
    with pytest.raises(ValueError, match=r"one size, got 2x2, 3x2 px; crop or resize"):
        collate([sample([1]), sample([1], size=(2, 2))])


def test_labels_become_numbers_and_what_has_no_class_void():
    labels = np.array([[7, 7, -2], [300, 9, 7]])
    segment_map, classes = number_segments(labels, {300: 5, 7: 1, -2: 0, 12: 9})
    assert segment_map.tolist() == [[2, 2, 1], [3, 0, 2]]
    assert classes.tolist() == [0, 1, 5]


CATEGORIES = [
    {"id": 7, "name": "sky", "isthing": 0, "supercategory": "far"},
    {"id": 2, "name": "car", "isthing": 1},
]


def test_categories_are_read_and_written_in_the_order_of_their_ids():
    classes = ClassList.from_categories(CATEGORIES)
    assert classes == ClassList(("car", "sky"), frozenset({0}), (2, 7))
    assert ClassList.from_categories(classes.categories()) == classes
    assert ClassList.numbered(["sky", "car"], ["car"]).things == {1}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ([{"id": 1, "name": "car"}], "isthing"),
        ([*CATEGORIES, CATEGORIES[0]], "no id twice"),
        ([], "at least one"),
        ([3], "a category has"),
    ],
)
def test_wrong_categories_are_said(wrong, says):
    with pytest.raises(ValueError, match=says):
        ClassList.from_categories(wrong)
