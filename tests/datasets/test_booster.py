import numpy as np
import torch
import trees

from stereo_tr.datasets.booster import Booster


def test_all_lightings_of_a_scene_share_its_truth(tmp_path):
    scene = tmp_path / "train" / "balanced" / "Bathroom"
    for name in ("im0.png", "im2.png"):
        trees.write_views(scene / "camera_00" / name, scene / "camera_02" / name)
    disparity, seen = trees.ramp(), np.full((3, 5), 255, np.uint8)
    disparity[0, 0], seen[0, 0], seen[1, 3] = 0, 0, 128
    trees.write_npy(scene / "disp_00.npy", disparity)
    trees.write_picture(scene / "mask_00.png", seen)
    pairs = Booster(tmp_path)
    assert [entry.name for entry in pairs.entries] == ["Bathroom/im0", "Bathroom/im2"]
    for sample in pairs:
        torch.testing.assert_close(sample.disparity, torch.from_numpy(disparity))
        assert (~sample.valid).nonzero().tolist() == [[0, 0]]
        assert sample.occluded.nonzero().tolist() == [[1, 3]]
    test = tmp_path / "test" / "balanced" / "Hall"
    trees.write_views(test / "camera_00" / "im0.png", test / "camera_02" / "im0.png")
    assert not Booster(tmp_path, "test")[0].valid.any()
