import numpy as np
import pytest
import torch
import trees
from PIL import Image

from stereo_tr.datasets.scared import Scared


def test_sttrs_layout(tmp_path):
    train, name = tmp_path / "train", "dataset_1_keyframe_2_frame_data000000"
    trees.write_views(train / "left" / f"{name}.png", train / "right" / f"{name}.png")
    disparity = trees.ramp()
    disparity[2, 2] = 0
    (train / "disparity").mkdir()
    Image.fromarray(disparity).save(train / "disparity" / f"{name}.tiff")
    occlusion = np.full((3, 5), 255, np.uint8)
    occlusion[1, 4], occlusion[2, 2] = 128, 0
    trees.write_picture(train / "occlusion" / f"{name}.png", occlusion)
    pairs = Scared(tmp_path)
    (sample,) = pairs
    torch.testing.assert_close(sample.disparity, torch.from_numpy(disparity))
    assert (~sample.valid).nonzero().tolist() == [[2, 2]]
    expected = np.array(trees.outside(disparity))
    expected[1, 4] = True
    assert sample.occluded.tolist() == expected.tolist()
    (train / "disparity" / f"{name}.tiff").write_bytes(b"II*\0 and then nothing")
    with pytest.raises(ValueError, match=r"data000000.tiff: cannot be read as a float TIFF"):
        pairs[0]
