import numpy as np
import pytest
import torch
import trees

from stereo_tr.datasets.folder import Folder


@pytest.mark.parametrize("suffix", ["pfm", "png", "npy"])
def test_files_of_one_name_belong_together(tmp_path, suffix):
    for name in ("b", "a", "c"):
        trees.write_views(tmp_path / "left" / f"{name}.png", tmp_path / "right" / f"{name}.bmp")
    for number, name in enumerate(("a", "b", "c")):
        disparity = trees.ramp(number + 0.5)
        path = tmp_path / "disparity" / f"{name}.{suffix}"
        if suffix == "pfm":
            disparity[1, 1] = np.inf
            trees.write_pfm(path, disparity, ">")
        elif suffix == "png":
            disparity[1, 1] = 0
            trees.write_picture(path, np.round(256 * disparity).astype(np.uint16))
        else:
            disparity[1, 1] = np.nan
            trees.write_npy(path, disparity)
    hidden = np.zeros((3, 5), np.uint8)
    hidden[0, 4] = 1
    trees.write_picture(tmp_path / "occlusion" / "b.png", hidden)
    pairs = Folder(tmp_path)
    assert [entry.name for entry in pairs.entries] == ["a", "b", "c"]
    assert [pairs.occlusion_known(index) for index in range(3)] == [False, True, False]
    for number, sample in enumerate(pairs):
        known = torch.from_numpy(trees.ramp(number + 0.5))
        known[1, 1] = 0
        torch.testing.assert_close(sample.disparity, known)
        assert (~sample.valid).nonzero().tolist() == [[1, 1]]
    assert pairs[1].occluded[0, 4] and not pairs[0].occluded[0, 4]
