"""KITTI's layouts: which frames, which truth, what is occluded; and a real frame."""

from pathlib import Path

import numpy as np
import pytest
import torch
import trees

from stereo_tr.datasets.kitti import Kitti2012, Kitti2015
from stereo_tr.scripts.check import warp_errors

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "kitti2015" / "000046"
FOLDERS = {
    Kitti2012: ("colored_0", "colored_1", "disp_occ", "disp_noc"),
    Kitti2015: ("image_2", "image_3", "disp_occ_0", "disp_noc_0"),
}
NEVER_MEASURED, HIDDEN = (0, 1), (1, 4)
"""row and column"""


def write_frame(base, folders, frame, truth=True):
    left, right, every, seen = folders
    trees.write_views(base / left / f"{frame}.png", base / right / f"{frame}.png")
    if truth:
        stored = np.round(256 * trees.ramp()).astype(np.uint16)
        stored[NEVER_MEASURED] = 0
        trees.write_picture(base / every / f"{frame}.png", stored)
        stored[HIDDEN] = 0
        trees.write_picture(base / seen / f"{frame}.png", stored)


@pytest.mark.parametrize("kitti", FOLDERS)
def test_truth_with_and_without_occluded_pixels(tmp_path, kitti):
    write_frame(tmp_path / "training", FOLDERS[kitti], "000007_10")
    write_frame(tmp_path / "training", FOLDERS[kitti], "000007_11", truth=False)
    pairs = kitti(tmp_path)
    (sample,) = pairs
    assert sample.name == "training/000007_10"
    assert (~sample.valid).nonzero().tolist() == [list(NEVER_MEASURED)]
    assert sample.occluded.nonzero().tolist() == [list(HIDDEN)]
    expected = torch.from_numpy(trees.ramp()) * sample.valid
    torch.testing.assert_close(sample.disparity, expected)
    assert not sample.right_valid.any()
    assert pairs.occlusion_known(0)
    seen = kitti(tmp_path, occluded=False)
    (sample,) = seen
    assert sorted((~sample.valid).nonzero().tolist()) == [list(NEVER_MEASURED), list(HIDDEN)]
    assert not seen.occlusion_known(0)


@pytest.mark.parametrize("kitti", FOLDERS)
def test_splits_are_by_frame_number(tmp_path, kitti):
    for number in (0, 159, 160):
        write_frame(tmp_path / "training", FOLDERS[kitti], f"{number:06d}_10")
    write_frame(tmp_path / "testing", FOLDERS[kitti], "000003_10", truth=False)

    def numbers(split):
        return [int(entry.name[-9:-3]) for entry in kitti(tmp_path, split).entries]

    assert numbers("training") == [0, 159, 160]
    assert numbers("train") == [0, 159]
    assert numbers("validation") == [160]
    assert numbers("testing") == [3]
    assert not kitti(tmp_path, "testing")[0].valid.any()
    counts = {split: kitti(tmp_path, split).published for split in ("training", "testing")}
    expected = {Kitti2012: (194, 195), Kitti2015: (200, 200)}[kitti]
    assert counts == {"training": expected[:1], "testing": expected[1:]}


def test_vehicles_of_2015_are_the_foreground(tmp_path):
    for frame in ("000000_10", "000001_10"):
        write_frame(tmp_path / "training", FOLDERS[Kitti2015], frame)
    vehicles = np.array([[0, 0, 1, 1, 0], [0, 0, 7, 0, 0], [0, 0, 0, 0, 0]], np.uint8)
    trees.write_picture(tmp_path / "training" / "obj_map" / "000001_10.png", vehicles)
    pairs = Kitti2015(tmp_path)
    assert pairs.foreground(0) is None
    assert np.array_equal(pairs.foreground(1), vehicles > 0)
    trees.write_picture(tmp_path / "training" / "obj_map" / "000000_10.png", vehicles[:2])
    with pytest.raises(ValueError, match=r"obj_map/000000_10.png is 5x2 but .*_10.png is 5x3; all"):
        pairs.foreground(0)


def test_grey_pairs_of_2012(tmp_path):
    folders = ("image_0", "image_1", "disp_occ", "disp_noc")
    write_frame(tmp_path / "training", folders, "000000_10")
    assert len(Kitti2012(tmp_path)) == 1


def test_missing_truth_is_named(tmp_path):
    write_frame(tmp_path / "training", FOLDERS[Kitti2015], "000000_10", truth=False)
    with pytest.raises(FileNotFoundError, match=r"000000_10: no disparity for .*image_2/000000"):
        Kitti2015(tmp_path)


@pytest.mark.skipif(not SHARED.is_dir(), reason="real pairs are not at ../shared/data")
def test_the_truth_of_a_real_frame_explains_its_left_view(tmp_path):
    for folder, name in (("image_2", "left"), ("image_3", "right"), ("disp_occ_0", "disp")):
        trees.link(tmp_path / "training" / folder / "000046_10.png", SHARED / f"{name}.png")
    pairs = Kitti2015(tmp_path)
    errors = warp_errors(pairs[0])
    assert errors[0] < min(errors[-1], errors[1])
    assert not pairs.occlusion_known(0)
    assert 65 < pairs[0].disparity.max() < 66
