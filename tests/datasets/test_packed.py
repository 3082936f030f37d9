"""A packed data set: what was in it, one read a sample, and what is said when it is damaged."""

import pickle
import shutil
import zlib

import numpy as np
import pytest
import torch
import trees
from torch.utils.data import DataLoader

from stereo_tr.datasets.files import read_image
from stereo_tr.datasets.folder import Folder
from stereo_tr.datasets.packed import PackedPairs
from stereo_tr.datasets.packing import IDENTITY, MARK, PREFIX, RESERVED, Packer
from stereo_tr.datasets.records import encode, identical
from stereo_tr.datasets.registry import open_dataset

h5py = pytest.importorskip("h5py")
NAMES = ("a", "b", "long name, ä", "z")


@pytest.fixture
def source(tmp_path):
    """Four pairs of which two know their occlusion."""
    root = tmp_path / "source"
    for number, name in enumerate(NAMES):
        trees.write_views(root / "left" / f"{name}.png", root / "right" / f"{name}.png")
        trees.write_pfm(root / "disparity" / f"{name}.pfm", trees.ramp(number))
    for name in NAMES[1:3]:
        trees.write_picture(root / "occlusion" / f"{name}.png", np.eye(3, 5, dtype=np.uint8))
    return Folder(root)


def packer_for(source, path, **changes):
    about = {"data": "folder", "root": str(source.root), "required": ["left"]}
    about |= {"published": [4], "size": None} | changes
    return Packer(path, about, [entry.name for entry in source.entries])


def write(source, path, finish=True, upto=None):
    with packer_for(source, path) as packer:
        assert list(packer.resume()) == list(range(1, packer.done + 1))
        for index in range(packer.done, len(source) if upto is None else upto):
            packer.append(encode(source[index], "truth"), source.occlusion_known(index))
        if finish:
            packer.finish()


def test_a_packed_set_is_the_one_it_came_from(source, tmp_path):
    write(source, tmp_path / "x.h5")
    packed = PackedPairs(tmp_path / "x.h5")
    assert len(packed) == len(source) == len(NAMES)
    assert [entry.name for entry in packed.entries] == list(NAMES)
    for index in range(len(source)):
        assert identical(packed[index], source[index])
        assert packed.occlusion_known(index) == source.occlusion_known(index)
    assert (packed.required, packed.published, packed.size) == (("left",), (4,), None)
    assert packed.problems == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "x.h5"]
    assert identical(open_dataset("packed", tmp_path)[1], source[1])  # the folder that holds it


def test_any_program_that_reads_hdf5_reads_it(source, tmp_path):
    write(source, tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5") as file:
        assert file["records"].chunks is None
        for index in range(len(source)):
            start, length = (int(file[name][index]) for name in ("starts", "lengths"))
            record = file["records"][start : start + length].tobytes()
            assert record == encode(source[index], "truth")
            assert zlib.crc32(record) == file["checksums"][index]
            assert file["names"][index].decode() == NAMES[index]


def test_it_goes_on_from_whatever_a_kill_has_left(source, tmp_path):
    whole, partial = tmp_path / "whole.h5", tmp_path / "x.h5.partial"
    write(source, tmp_path / "x.h5", finish=False)
    left = partial.read_bytes()
    write(source, tmp_path / "x.h5")
    (tmp_path / "x.h5").rename(whole)
    expected = whole.read_bytes()
    cuts = np.random.default_rng(0).integers(RESERVED, len(left), 25)
    for cut in (
        0,
        IDENTITY,
        IDENTITY + 9,
        RESERVED,
        RESERVED + 5,
        len(left) - 1,
        len(left),
        *cuts.tolist(),
    ):
        partial.write_bytes(left[:cut])
        write(source, tmp_path / "x.h5")
        assert (tmp_path / "x.h5").read_bytes() == expected
        (tmp_path / "x.h5").unlink()
    # killed while finishing: what HDF5 needs is there already, but for the name; also half of it
    for half in (expected, left + expected[len(left) :], expected[:500] + left[500:]):
        partial.write_bytes(half)
        write(source, tmp_path / "x.h5")
        assert (tmp_path / "x.h5").read_bytes() == expected
        (tmp_path / "x.h5").unlink()


def test_a_record_that_a_power_failure_has_spoilt_is_written_again(source, tmp_path):
    write(source, tmp_path / "x.h5", finish=False)
    partial = tmp_path / "x.h5.partial"
    left = bytearray(partial.read_bytes())
    second = left.index(MARK, RESERVED + PREFIX.size)
    left[second + PREFIX.size + 9] ^= 1
    partial.write_bytes(left)
    with packer_for(source, tmp_path / "x.h5") as packer:
        assert list(packer.resume()) == [1]
        with pytest.raises(ValueError, match="holds 1 of 4 samples"):
            packer.finish()
    write(source, tmp_path / "x.h5")
    assert identical(PackedPairs(tmp_path / "x.h5")[1], source[1])


def test_another_data_set_is_not_gone_on_with(source, tmp_path):
    write(source, tmp_path / "x.h5", finish=False, upto=2)
    with pytest.raises(ValueError, match=r"4 pairs of folder in .*, not the 4 of monkaa in"):
        packer_for(source, tmp_path / "x.h5", data="monkaa")
    with pytest.raises(ValueError, match=r"source, not the 4 of folder in /elsewhere; delete"):
        packer_for(source, tmp_path / "x.h5", root="/elsewhere")
    (tmp_path / "x.h5.partial").write_bytes(bytes(range(256)) * 300)
    with pytest.raises(ValueError, match=r"holds something else"):
        packer_for(source, tmp_path / "x.h5")


def test_two_processes_do_not_write_one_file(source, tmp_path):
    with (
        packer_for(source, tmp_path / "x.h5"),
        pytest.raises(BlockingIOError, match="written by another process"),
    ):
        packer_for(source, tmp_path / "x.h5")


def test_a_full_disk_is_said_and_costs_one_sample(source, tmp_path, monkeypatch):
    write(source, tmp_path / "x.h5", finish=False, upto=2)

    def full(file, data, start):
        raise OSError(28, "No space left on device")

    with packer_for(source, tmp_path / "x.h5") as packer, monkeypatch.context() as patch:
        list(packer.resume())
        patch.setattr("os.pwrite", full)
        with pytest.raises(OSError, match=r"x.h5.partial: No space left .* goes on with it"):
            packer.append(b"123", False)
    write(source, tmp_path / "x.h5")
    assert identical(PackedPairs(tmp_path / "x.h5")[3], source[3])


def test_a_damaged_record_is_named_and_the_others_are_read(source, tmp_path):
    path = tmp_path / "x.h5"
    write(source, path)
    content = bytearray(path.read_bytes())
    with h5py.File(path) as file:
        place = file["records"].id.get_offset() + int(file["starts"][2]) + 60
    content[place] ^= 4
    path.write_bytes(content)
    packed = PackedPairs(path)
    assert identical(packed[1], source[1])
    with pytest.raises(
        ValueError, match=r"x.h5: the record of long name, ä is damaged .* pack fold"
    ):
        packed[2]


def test_a_truncated_or_foreign_file_is_refused(source, tmp_path):
    path = tmp_path / "x.h5"
    write(source, path)
    content = path.read_bytes()
    for length in (0, 700, RESERVED, len(content) - 50):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"x.h5: no whole file .* pack the data set again"):
            PackedPairs(path)
    with h5py.File(path, "w") as file:
        file["records"] = np.zeros(3)
    with pytest.raises(ValueError, match=r"no whole file of `stereo-tr pack`"):
        PackedPairs(path)


def test_what_is_missing_is_said(source, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no packed data set in .*give the folder that"):
        PackedPairs(tmp_path)
    write(source, tmp_path / "x.h5", finish=False)
    with pytest.raises(FileNotFoundError, match=r"x.h5 isn't finished; run the `stereo-tr pack`"):
        PackedPairs(tmp_path / "x.h5")
    write(source, tmp_path / "x.h5")
    shutil.copy(tmp_path / "x.h5", tmp_path / "y.h5")
    with pytest.raises(ValueError, match="holds 2 packed files; give one, such as"):
        PackedPairs(tmp_path)


def test_workers_read_it_however_they_were_started(source, tmp_path):
    write(source, tmp_path / "x.h5")
    packed = PackedPairs(tmp_path / "x.h5")
    again = pickle.loads(pickle.dumps(packed))
    assert identical(again[3], source[3])
    loader = DataLoader(packed, None, num_workers=2, multiprocessing_context="fork")
    for index, sample in enumerate(loader):
        assert identical(sample, source[index])


def test_views_of_16_bits_and_grey_ones_come_back(tmp_path):
    root = tmp_path / "source"
    deep = np.arange(45, dtype=np.uint16).reshape(3, 5, 3) * 1201
    for view, picture in (("left", deep), ("right", deep[..., 0])):
        trees.write_picture(root / view / "a.png", picture)
    trees.write_npy(root / "disparity" / "a.npy", trees.ramp())
    source = Folder(root)
    write(source, tmp_path / "x.h5")
    sample = PackedPairs(tmp_path / "x.h5")[0]
    restored = (sample.left.double() * 65535).round().permute(1, 2, 0).numpy()
    assert (restored == read_image(root / "left" / "a.png")).all()
    assert torch.equal(sample.right[0], sample.right[2])
    assert identical(sample, source[0])
