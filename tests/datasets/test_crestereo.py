import numpy as np
import torch
import trees

from stereo_tr.datasets.crestereo import CREStereoPairs


def test_pairs_are_matched_within_a_folder_by_their_uuid(tmp_path):
    for number, (folder, uuid) in enumerate([("hole", "0a-9"), ("tree", "0a-1"), ("tree", "f")]):
        stem = tmp_path / folder
        trees.write_views(stem / f"{uuid}_left.jpg", stem / f"{uuid}_right.jpg")
        for view, sign in (("left", 0), ("right", 1)):
            stored = np.full((3, 5), 32 * (number + 1) + 8 * sign, np.uint16)
            trees.write_picture(stem / f"{uuid}_{view}.disp.png", stored)
    pairs = CREStereoPairs(tmp_path)
    assert [entry.name for entry in pairs.entries] == ["hole/0a-9", "tree/0a-1", "tree/f"]
    torch.testing.assert_close(pairs[2].disparity, torch.full((3, 5), 3.0))
    torch.testing.assert_close(pairs[1].right_disparity, torch.full((3, 5), 2.25))
