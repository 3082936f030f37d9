import json
import os
import time

import numpy as np
import pytest
import torch
import trees

from stereo_tr.datasets import indexed, tree
from stereo_tr.datasets.folder import Folder
from stereo_tr.datasets.indexed import read_numpy


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Indices are kept here, of data sets of any size."""
    monkeypatch.setenv("STEREO_TR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(indexed, "WORTH_KEEPING", 1)
    return tmp_path / "cache" / "index"


def write_pair(root, name="a", disparity=None):
    trees.write_views(root / "left" / f"{name}.png", root / "right" / f"{name}.png")
    disparity = trees.ramp() if disparity is None else disparity
    trees.write_pfm(root / "disparity" / f"{name}.pfm", disparity)


def long_ago(root):
    """Set every folder's time back, as if it was unpacked an hour ago."""
    for folder, _, _ in os.walk(root):
        os.utime(folder, (time.time() - 3600,) * 2)


def test_missing_files_are_named_or_left_out(tmp_path):
    write_pair(tmp_path, "a")
    write_pair(tmp_path, "b")
    write_pair(tmp_path, "c")
    (tmp_path / "right" / "a.png").unlink()
    (tmp_path / "disparity" / "c.pfm").unlink()
    with pytest.raises(FileNotFoundError, match=r"a: no right for .*left/a.png \(and 1 more\); un"):
        Folder(tmp_path)
    pairs = Folder(tmp_path, incomplete=True)
    assert [entry.name for entry in pairs.entries] == ["b"]
    assert "no disparity for" in pairs.problems[1]
    (tmp_path / "right" / "b.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"is complete: .* \(and 2 more\); unpack .*ing$"):
        Folder(tmp_path, incomplete=True)


def test_a_wrong_root_says_what_belongs_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone doesn't exist; give the folder that holds"):
        Folder(tmp_path / "gone")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="file is a file; give the folder that holds left"):
        Folder(tmp_path / "file")
    with pytest.raises(FileNotFoundError, match=r"no pair of pairs of your own in .* give the"):
        Folder(tmp_path)


def test_what_macos_leaves_beside_a_file_is_no_pair(tmp_path):
    write_pair(tmp_path)
    (tmp_path / "left" / "._a.png").write_text("resource fork")
    assert len(Folder(tmp_path)) == 1


@pytest.mark.parametrize("file", ["right/a.png", "disparity/a.pfm", "occlusion/a.png"])
def test_files_of_another_size_are_named(tmp_path, file):
    write_pair(tmp_path)
    if file.endswith("pfm"):
        trees.write_pfm(tmp_path / file, np.ones((2, 7)))
    else:
        trees.write_picture(tmp_path / file, np.ones((2, 7), np.uint8))
    with pytest.raises(ValueError, match=rf"{file} is 7x2 but .*left/a.png is 5x3"):
        Folder(tmp_path)[0]


def test_the_other_sign_is_refused_but_stray_values_are_unknown(tmp_path):
    write_pair(tmp_path, "a", -trees.ramp())
    stray = trees.ramp()
    stray[1, 2] = -40
    write_pair(tmp_path, "b", stray)
    negative, stray = Folder(tmp_path), Folder(tmp_path)[1]
    with pytest.raises(ValueError, match=r"a.pfm: most disparities aren't positive"):
        negative[0]
    assert (~stray.valid).nonzero().tolist() == [[1, 2]]
    assert stray.disparity[1, 2] == 0


def test_an_index_is_kept_until_a_folder_changes(tmp_path, cache, monkeypatch):
    root = tmp_path / "root"
    for name in "ab":
        write_pair(root, name)
    long_ago(root)
    first = Folder(root)
    assert len(list(cache.iterdir())) == 1

    def not_again(*_):
        raise AssertionError("listed again")

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "find", not_again)
        assert Folder(root).entries == first.entries
    write_pair(root, "c")
    assert len(Folder(root)) == 3
    torch.testing.assert_close(Folder(root)[2].disparity, torch.from_numpy(trees.ramp()))


def test_a_folder_that_changed_just_now_is_not_trusted(tmp_path, cache):
    write_pair(tmp_path / "root")
    Folder(tmp_path / "root")
    assert not cache.exists()


@pytest.mark.parametrize("damage", ["{", json.dumps({"format": 0}), json.dumps([1])])
def test_a_damaged_index_is_made_anew(tmp_path, cache, damage):
    write_pair(tmp_path / "root")
    long_ago(tmp_path / "root")
    expected = Folder(tmp_path / "root").entries
    (kept,) = cache.iterdir()
    kept.write_text(damage)
    assert Folder(tmp_path / "root").entries == expected


def test_a_cache_that_cannot_be_written_costs_nothing(tmp_path, cache):
    write_pair(tmp_path / "root")
    long_ago(tmp_path / "root")
    cache.parent.write_text("a file stands in the way")
    assert len(Folder(tmp_path / "root")) == 1


def test_the_cache_lies_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.delenv("STEREO_TR_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert tree.cache_folder() == tmp_path / "stereo_tr"


@pytest.mark.parametrize("content", [b"", b"no numbers", None])
def test_a_file_that_is_no_array_is_named(tmp_path, content):
    path = tmp_path / "map.npy"
    np.save(path, np.array([{"code": 1}])) if content is None else path.write_bytes(content)
    with pytest.raises(ValueError, match=r"map.npy: no map of numbers \[H, W\]"):
        read_numpy(path)
