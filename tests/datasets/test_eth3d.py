import numpy as np
import pytest
import torch
import trees

from stereo_tr.datasets.eth3d import Eth3d


@pytest.mark.parametrize("truth", ["two_view_training_gt", "two_view_training"])
def test_truth_lies_apart_or_beside(tmp_path, truth):
    scene = tmp_path / "two_view_training" / "forest_1s"
    trees.write_views(scene / "im0.png", scene / "im1.png")
    disparity, seen = trees.ramp(), np.full((3, 5), 255, np.uint8)
    disparity[0, 0], seen[0, 0], seen[1, 1] = np.inf, 0, 0
    trees.write_pfm(tmp_path / truth / "forest_1s" / "disp0GT.pfm", disparity)
    trees.write_picture(tmp_path / truth / "forest_1s" / "mask0nocc.png", seen)
    pairs = Eth3d(tmp_path)
    (sample,) = pairs
    assert sample.name == "forest_1s"
    assert (~sample.valid).nonzero().tolist() == [[0, 0]]
    assert sample.occluded.nonzero().tolist() == [[1, 1]]
    torch.testing.assert_close(sample.disparity[1:], torch.from_numpy(disparity[1:]))
    assert (pairs.published, pairs.occlusion_known(0)) == ((27,), True)


def test_the_test_split_has_no_truth_and_an_empty_scene_is_named(tmp_path):
    scene = tmp_path / "two_view_test" / "lakeside_1l"
    trees.write_views(scene / "im0.png", scene / "im1.png")
    assert not Eth3d(tmp_path, "test")[0].valid.any()
    (tmp_path / "two_view_test" / "sand_1l").mkdir()
    with pytest.raises(FileNotFoundError, match=r"sand_1l: no left and right for .*sand_1l"):
        Eth3d(tmp_path, "test")
