from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from stereo_tr.datasets.pairs import Pairs

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
HEIGHT, WIDTH = 3, 5


def write_pfm(path, rows):
    """Bottom row first, little-endian, as the format says."""
    stored = np.asarray(rows, "<f4")[::-1]
    path.write_bytes(b"Pf\n%d %d\n-1\n" % (stored.shape[1], stored.shape[0]) + stored.tobytes())


def write_scene(folder, truth="disp.pfm", bits=np.uint8, grey=False, nocc=True):
    """Pixel (y, x) is 16 y + x, its disparity y + x / 4; (0, 0) is unknown, (0, 1) hidden."""
    folder.mkdir(parents=True)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    ramp = (16 * rows + columns).astype(bits)
    left = ramp if grey else np.stack([ramp, ramp + 100, ramp + 200], -1)  # blue green red on disk
    cv2.imwrite(str(folder / "left.png"), left)
    cv2.imwrite(str(folder / "right.png"), left[:, ::-1])
    disparity = (rows + columns / 4).astype(np.float32)
    if truth == "disp.pfm":
        disparity[0, 0] = np.inf
        write_pfm(folder / truth, disparity)
    else:
        cv2.imwrite(str(folder / truth), (disparity * 256).astype(np.uint16))
    if nocc:
        seen = np.full((HEIGHT, WIDTH), 255, np.uint8)
        seen[0, 0], seen[0, 1] = 0, 128  # Middlebury writes 128 for occluded
        cv2.imwrite(str(folder / "nocc.png"), seen)


@pytest.mark.parametrize("truth", ["disp.pfm", "disp.png"])
def test_a_scene_means_what_its_files_say(tmp_path, truth):
    write_scene(tmp_path / "set" / "one", truth=truth)
    (sample,) = Pairs(tmp_path / "set")
    rows, columns = torch.meshgrid(torch.arange(3), torch.arange(5), indexing="ij")
    assert sample.name == "set/one"
    torch.testing.assert_close(sample.disparity, rows + columns / 4)
    valid = torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
    valid[0, 0] = False
    hidden = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    hidden[0, 1] = True
    assert torch.equal(sample.valid, valid)
    assert torch.equal(sample.occluded, hidden)
    assert not sample.right_valid.any()
    red, green, blue = sample.left * 255
    torch.testing.assert_close(blue, (16 * rows + columns).float())
    torch.testing.assert_close(green - blue, torch.full((3, 5), 100.0))
    torch.testing.assert_close(red - blue, torch.full((3, 5), 200.0))
    torch.testing.assert_close(sample.right, sample.left.flip(-1))


def test_grey_and_sixteen_bits_span_the_same_range(tmp_path):
    write_scene(tmp_path / "set" / "grey", grey=True)
    write_scene(tmp_path / "set" / "sixteen", bits=np.uint16)
    grey, sixteen = Pairs(tmp_path / "set")
    assert torch.equal(grey.left[0], grey.left[2])
    assert grey.left.max().item() == pytest.approx(36 / 255)
    assert sixteen.left.max().item() == pytest.approx(236 / 65535)


def test_nobody_knows_what_is_occluded_without_nocc(tmp_path):
    write_scene(tmp_path / "set" / "one", nocc=False)
    pairs = Pairs(tmp_path / "set")
    assert pairs.scenes[0].non_occluded is None
    assert not pairs[0].occluded.any()


def test_a_root_is_a_scene_or_a_folder_of_scenes_or_of_such_folders(tmp_path):
    for name in ("b/two", "a/one", "b/one", "c/deep/one"):
        write_scene(tmp_path / name)
    (tmp_path / "a" / "readme.txt").write_text("not a scene")

    def names(root):
        return [scene.name for scene in Pairs(root).scenes]

    assert names(tmp_path) == ["a/one", "b/one", "b/two", "c/deep/one"]
    assert names(tmp_path / "b") == ["b/one", "b/two"]
    assert names(tmp_path / "b" / "two") == ["b/two"]
    assert [scene.group for scene in Pairs(tmp_path).scenes] == ["a", "b", "b", "c/deep"]


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere doesn't exist; give a folder of scenes"):
        Pairs(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="file is a file; give a folder of scenes"):
        Pairs(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no scene in .*empty: a scene is a folder with"):
        Pairs(tmp_path / "empty")
    write_scene(tmp_path / "set" / "one")
    (tmp_path / "set" / "one" / "right.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"one.right.png is missing; a scene is"):
        Pairs(tmp_path / "set")
    write_scene(tmp_path / "set" / "a")
    (tmp_path / "set" / "a" / "disp.pfm").unlink()
    with pytest.raises(FileNotFoundError, match=r"a has neither disp.pfm nor disp.png"):
        Pairs(tmp_path / "set")


@pytest.mark.parametrize("name", ["right.png", "disp.pfm", "nocc.png"])
def test_files_of_different_size_are_named(tmp_path, name):
    write_scene(tmp_path / "one")
    if name == "disp.pfm":
        write_pfm(tmp_path / "one" / name, np.ones((2, 7)))
    else:
        cv2.imwrite(str(tmp_path / "one" / name), np.ones((2, 7), np.uint8))
    with pytest.raises(ValueError, match=rf"{name} is 7x2 but .*left.png is 5x3"):
        Pairs(tmp_path / "one")[0]


def test_negative_disparities_are_refused(tmp_path):
    write_scene(tmp_path / "one")
    write_pfm(tmp_path / "one" / "disp.pfm", np.full((3, 5), -2))
    with pytest.raises(ValueError, match=r"disp.pfm holds negative disparities, down to -2"):
        Pairs(tmp_path / "one")[0]


@pytest.mark.skipif(not SHARED.is_dir(), reason="real pairs are not at ../shared/data")
def test_the_truth_of_a_real_pair_explains_its_left_view():
    cones = Pairs(SHARED / "middlebury2003" / "cones")[0]
    seen = cones.valid & ~cones.occluded
    y, x = torch.nonzero(seen, as_tuple=True)
    match = (x - cones.disparity[y, x].round().long()).clamp(min=0)
    error = (cones.left[:, y, x] - cones.right[:, y, match]).abs().mean()
    unmoved = (cones.left[:, y, x] - cones.right[:, y, x]).abs().mean()
    assert error < 0.25 * unmoved
    assert 0.02 < cones.occluded.float().mean() < 0.2
