import json

import numpy as np
import pytest
import trees

from stereo_tr.datasets.panoptic_files import coloured_numbers, read_coloured_numbers, read_numbers
from stereo_tr.datasets.panoptic_folder import PanopticFolder

KINDS = np.array([[7, 7, 26, 26, 26], [7, 26, 26, 26, 99], [0, 0, 0, 7, 7]])
INSTANCES = np.array([[4, 1, 1, 1, 2], [4, 1, 1, 2, 2], [5, 6, 7, 8, 9]])
CATEGORIES = [
    {"id": 7, "name": "road", "isthing": 0},
    {"id": 26, "name": "car", "isthing": 1},
]


def write(root, kinds=KINDS, instances=INSTANCES, name="a"):
    (root / "classes.json").write_text(json.dumps(CATEGORIES))
    trees.write_picture(root / f"train/images/{name}.bmp", np.full((3, 5, 3), 9, np.uint8))
    trees.write_picture(root / f"train/classes/{name}.png", kinds.astype(np.uint8))
    if instances is not None:
        trees.write_picture(root / f"train/instances/{name}.png", instances.astype(np.uint16))


def test_classes_and_instances_make_segments(tmp_path):
    """Instances of stuff don't matter; classes that aren't listed (0, 99) are void."""
    write(tmp_path)
    write(tmp_path, np.where(KINDS == 26, 0, KINDS), None, name="b")
    images = PanopticFolder(tmp_path)
    assert [sample.name for sample in images] == ["a", "b"]
    assert images[0].segment_map.tolist() == [[1, 1, 2, 2, 3], [1, 2, 2, 3, 0], [0, 0, 0, 1, 1]]
    assert images[0].classes.tolist() == [0, 1, 1]
    assert images[1].segment_map.tolist() == [[1, 1, 0, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 1, 1]]
    assert images.classes.names == ("road", "car") and images.classes.things == {1}


def test_a_colour_picture_is_no_map_of_ids(tmp_path):
    write(tmp_path)
    trees.write_picture(tmp_path / "train/classes/a.png", np.zeros((3, 5, 3), np.uint8))
    says = r"classes/a.png: a colour picture \(RGB\) where ids are expected: one channel"
    with pytest.raises(ValueError, match=says):
        PanopticFolder(tmp_path)[0]


def test_what_is_missing_or_does_not_fit_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"classes.json: no such file; a folder of one's"):
        PanopticFolder(tmp_path)
    write(tmp_path, instances=None)
    with pytest.raises(FileNotFoundError, match=r"instances/a.png is missing: .* things to tell"):
        PanopticFolder(tmp_path)[0]
    with pytest.raises(FileNotFoundError, match=r"no picture in .*validation/images"):
        PanopticFolder(tmp_path, "validation")
    write(tmp_path, kinds=KINDS[:2])
    with pytest.raises(ValueError, match=r"classes/a.png is 5x2 px but .*a.bmp is 5x3"):
        PanopticFolder(tmp_path)[0]
    (tmp_path / "train/classes/a.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"classes/a.png is missing for .*a.bmp"):
        PanopticFolder(tmp_path)
    (tmp_path / "classes.json").write_text('[{"id": 1}]')
    with pytest.raises(ValueError, match=r"classes.json: a category has"):
        PanopticFolder(tmp_path)


def test_numbers_survive_being_written_as_colours(tmp_path):
    numbers = np.array([[0, 255, 256], [65_535, 65_536, 2**24 - 1]])
    trees.write_picture(tmp_path / "ids.png", coloured_numbers(numbers))
    assert read_coloured_numbers(tmp_path / "ids.png").tolist() == numbers.tolist()


def test_a_broken_picture_is_named(tmp_path):
    (tmp_path / "ids.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"ids.png: not a whole picture"):
        read_numbers(tmp_path / "ids.png")
    with pytest.raises(FileNotFoundError, match=r"absent.png: no such file"):
        read_numbers(tmp_path / "absent.png")
