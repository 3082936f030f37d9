"""Folders of images by class."""

import numpy as np
import pytest
import torch

from stereo_tr.datasets.files import write_png
from stereo_tr.datasets.image_folder import (
    LabelledImages,
    fitted,
    labelled_images,
    list_images,
    read_list,
    write_list,
)


@pytest.fixture
def folder(tmp_path):
    """Two classes, of 10 and 5 images; the brightness says which image it is."""
    for label, (name, count) in enumerate((("cat", 10), ("dog", 5))):
        (tmp_path / "images" / name).mkdir(parents=True)
        for index in range(count):
            image = np.full((6, 9, 3), 100 * label + index, np.uint8)
            write_png(tmp_path / "images" / name / f"{index}.png", image)
    return tmp_path / "images"


def test_a_fifth_of_each_class_is_set_aside_and_stays_the_same(folder, tmp_path):
    listed, skipped = list_images(folder)
    assert listed.classes == ("cat", "dog") and not skipped
    labels = [[label for _, label in part] for part in (listed.learned, listed.scored)]
    assert labels == [[0] * 8 + [1] * 4, [0] * 2 + [1]]
    both = {path for path, _ in (*listed.learned, *listed.scored)}
    assert len(both) == 15
    assert list_images(folder)[0] == listed
    write_list(listed, tmp_path / "images.json")
    assert read_list(tmp_path / "images.json") == listed


def test_a_folder_of_its_own_can_be_scored(folder, tmp_path):
    other = tmp_path / "other"
    (other / "dog").mkdir(parents=True)
    write_png(other / "dog" / "x.png", np.zeros((3, 4, 3), np.uint8))
    listed, _ = list_images(folder, other)
    assert len(listed.learned) == 15
    assert [label for _, label in listed.scored] == [1]
    (other / "dog").rename(other / "wolf")
    with pytest.raises(ValueError, match=r"wolf: no class is called so; the classes are cat, dog"):
        labelled_images(other, listed.classes)


def test_unreadable_images_stop_or_are_left_out(folder):
    (folder / "cat" / "broken.jpg").write_bytes(b"no picture")
    (folder / "cat" / "notes.txt").write_text("not looked at")
    with pytest.raises(ValueError, match=r"broken\.jpg: not a picture.*--unreadable skip"):
        list_images(folder)
    listed, skipped = list_images(folder, unreadable="skip")
    assert len(listed.learned) + len(listed.scored) == 15
    assert len(skipped) == 1 and "broken.jpg" in skipped[0]


def test_folders_that_hold_no_classes(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        list_images(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no folders; each class is one"):
        list_images(folder / "cat")
    (folder / "fish").mkdir()
    with pytest.raises(ValueError, match=r"fish holds no image that can be read \(\.bmp"):
        list_images(folder)
    (tmp_path / "list.json").write_text('{"classes": 3}')
    with pytest.raises(ValueError, match="is no list of images"):
        read_list(tmp_path / "list.json")


def test_images_are_scaled_until_they_cover_and_cut_without_distortion():
    ramp = np.tile(np.arange(40, dtype=np.uint16)[None, :, None] * 1000, (10, 1, 3))
    middle = fitted(ramp, 5, 8)  # half the size: 5 x 20, and 8 of the 20 columns
    assert middle.shape == (3, 5, 8)
    columns = torch.arange(6, 14) * 2 + 0.5
    torch.testing.assert_close(middle[0, 0] * 65535 / 1000, columns, atol=0.01, rtol=0)
    right = fitted(ramp, 5, 8, place=(0.0, 1.0))
    torch.testing.assert_close(
        right - middle, torch.full((3, 5, 8), 12e3 / 65535), atol=1e-4, rtol=0
    )
    assert fitted(ramp, 10, 40).shape == (3, 10, 40)
    assert fitted(ramp[:, :1], 7, 3, scale=1.1).shape == (3, 7, 3)


def test_every_image_is_learned_once_a_turn_in_an_order_that_the_seed_decides(folder):
    listed, _ = list_images(folder, flip=True)

    def names(seed, first):
        images = LabelledImages(listed, learn=True, height=4, width=5, seed=seed)
        return [images[index].name for index in range(first, first + 12)]

    everything = sorted(path for path, _ in listed.learned)
    assert sorted(names(0, 0)) == sorted(names(0, 12)) == sorted(names(1, 0)) == everything
    assert len({tuple(names(*key)) for key in ((0, 0), (0, 12), (1, 0))}) == 3
    assert names(0, 0) == names(0, 0)
    images = LabelledImages(listed, learn=True, height=4, width=5)
    assert all(torch.equal(images[i].image, images[i].image) for i in range(3))
    scored = LabelledImages(listed, learn=False, height=4, width=5)
    assert len(scored) == 3 and [scored[i].label.item() for i in range(3)] == [0, 0, 1]


def test_half_of_the_images_are_mirrored_if_asked(folder):
    ramp = np.tile(np.arange(9, dtype=np.uint8)[None, :, None] * 20, (6, 1, 3))
    for path in folder.glob("*/*.png"):
        write_png(path, ramp)
    for flip, expected in ((False, {True}), (True, {True, False})):
        images = LabelledImages(list_images(folder, flip=flip)[0], learn=True, height=6, width=6)
        rises = {
            bool(image[0, 0, 0] < image[0, 0, -1])
            for image, *_ in map(images.__getitem__, range(12))
        }
        assert rises == expected
