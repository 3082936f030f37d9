import numpy as np
import torch
import trees

from stereo_tr.datasets.virtual_kitti import VirtualKitti2


def test_depth_is_in_centimetres_and_the_sky_unknown(tmp_path):
    frames = tmp_path / "Scene01" / "15-deg-left" / "frames"
    trees.write_views(
        frames / "rgb" / "Camera_0" / "rgb_00012.jpg", frames / "rgb" / "Camera_1" / "rgb_00012.jpg"
    )
    depth = np.full((3, 5), 1000, np.uint16)
    depth[0] = 65535
    for camera in (0, 1):
        place = frames / "depth" / f"Camera_{camera}" / "depth_00012.png"
        trees.write_picture(place, depth * (camera + 1) if camera else depth)
    (sample,) = VirtualKitti2(tmp_path)
    assert sample.name == "Scene01/15-deg-left/00012"
    at_ten_metres = 725.0087 * 0.532725 / 10
    torch.testing.assert_close(sample.disparity[1:], torch.full((2, 5), at_ten_metres))
    torch.testing.assert_close(sample.right_disparity[1:], torch.full((2, 5), at_ten_metres / 2))
    assert not sample.valid[0].any() and sample.valid[1:].all()
