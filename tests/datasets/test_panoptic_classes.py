import json

import pytest

from stereo_tr.datasets.panoptic_classes import KNOWN, known_classes, read_classes


def test_known_data_have_their_published_numbers_of_classes():
    counts = {name: (len(c.names), len(c.things)) for name, c in KNOWN.items()}
    assert counts["coco"] == (133, 80) and counts["cityscapes"] == (19, 8)
    coco = KNOWN["coco"]
    assert max(coco.things) == 79  # their ids are the smaller ones
    assert coco.identifiers[80] == 92 and coco.names[80] == "banner"
    assert KNOWN["cityscapes"].names[0] == "road"
    assert all(len(set(classes.names)) == len(classes.names) for classes in KNOWN.values())


def test_a_number_of_classes_names_the_data():
    assert known_classes(133) == "coco" and known_classes(4) == "generated_things"
    with pytest.raises(ValueError, match=r"has 7 classes, .*cityscapes 19.* give --classes FILE"):
        known_classes(7)


def test_lists_of_both_kinds_are_read(tmp_path):
    path = tmp_path / "classes.json"
    for content in (KNOWN["coco"].categories(), {"categories": KNOWN["coco"].categories()}):
        path.write_text(json.dumps(content))
        assert read_classes(path) == KNOWN["coco"]
    for wrong in ("{}", "3", "[", "[[]]"):
        path.write_text(wrong)
        with pytest.raises(ValueError, match=r"classes.json: no list of classes"):
            read_classes(path)
    with pytest.raises(FileNotFoundError, match=r"other.json: no such file"):
        read_classes(tmp_path / "other.json")
