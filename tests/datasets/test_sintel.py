import numpy as np
import torch
import trees

from stereo_tr.datasets.sintel import Sintel


def test_disparity_is_spread_over_three_colours(tmp_path):
    training = tmp_path / "training"
    trees.write_views(
        training / "final_left" / "alley_1" / "frame_0001.png",
        training / "final_right" / "alley_1" / "frame_0001.png",
    )
    stored = np.zeros((3, 5, 3), np.uint8)
    stored[0, 0], stored[1, 4], stored[2, 3] = (200, 255, 255), (0, 128, 0), (1, 0, 64)
    trees.write_picture(training / "disparities" / "alley_1" / "frame_0001.png", stored)
    hidden = np.zeros((3, 5), np.uint8)
    hidden[1, 2] = 255
    trees.write_picture(training / "occlusions" / "alley_1" / "frame_0001.png", hidden)
    pairs = Sintel(tmp_path)
    (sample,) = pairs
    assert sample.name == "alley_1/frame_0001"
    expected = torch.zeros(3, 5)
    expected[0, 0] = 800 + 255 / 64 + 255 / 16384
    expected[1, 4], expected[2, 3] = 2, 4 + 64 / 16384
    torch.testing.assert_close(sample.disparity, expected)
    assert sample.valid.all()
    # hidden, and the two whose partner lies left of the picture: 0 - 803.9 and 3 - 4.004
    assert sample.occluded.nonzero().tolist() == [[0, 0], [1, 2], [2, 3]]
    assert pairs.occlusion_known(0) and pairs.published == (1064,)
