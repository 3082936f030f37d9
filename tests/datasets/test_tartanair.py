import numpy as np
import torch
import trees

from stereo_tr.datasets.tartanair import TartanAir


def test_disparity_is_eighty_over_depth(tmp_path):
    flight = tmp_path / "abandonedfactory" / "abandonedfactory" / "Easy" / "P000"
    trees.write_views(
        flight / "image_left" / "000003_left.png", flight / "image_right" / "000003_right.png"
    )
    depth = np.full((3, 5), 20, np.float32)
    depth[0, 0], depth[1, 1], depth[2, 2] = np.inf, 10000, 0
    trees.write_npy(flight / "depth_left" / "000003_left_depth.npy", depth)
    (sample,) = TartanAir(tmp_path)
    assert sample.name == "abandonedfactory/abandonedfactory/Easy/P000/000003"
    expected = torch.full((3, 5), 4.0)
    expected[0, 0], expected[1, 1], expected[2, 2] = 0, 0.008, 0
    torch.testing.assert_close(sample.disparity, expected)
    assert (~sample.valid).nonzero().tolist() == [[0, 0], [2, 2]]
