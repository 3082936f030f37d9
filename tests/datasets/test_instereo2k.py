import numpy as np
import pytest
import trees

from stereo_tr.datasets.instereo2k import InStereo2K


def test_disparity_is_in_hundredths(tmp_path):
    for folder in ("train/part1/000000", "train/part2/000001", "test/000040"):
        scene = tmp_path / folder
        trees.write_views(scene / "left.png", scene / "right.png")
        stored = np.full((3, 5), 150, np.uint16)
        stored[2, 0] = 0
        for view in ("left", "right"):
            trees.write_picture(scene / f"{view}_disp.png", stored)
    pairs = InStereo2K(tmp_path)
    assert [entry.name for entry in pairs.entries] == ["train/part1/000000", "train/part2/000001"]
    sample = pairs[1]
    assert sample.disparity[sample.valid].unique().tolist() == [1.5]
    assert (~sample.right_valid).nonzero().tolist() == [[2, 0]]
    assert len(InStereo2K(tmp_path, "test")) == 1


def test_eight_bits_are_refused(tmp_path):
    scene = tmp_path / "test" / "000040"
    trees.write_views(scene / "left.png", scene / "right.png")
    trees.write_picture(scene / "left_disp.png", np.ones((3, 5), np.uint8))
    with pytest.raises(ValueError, match=r"left_disp.png: 8 bit, but 16 are published"):
        InStereo2K(tmp_path, "test")[0]
