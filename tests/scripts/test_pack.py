"""`stereo-tr pack`: goes on after kills, verifies, measures, and is read by the other commands."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stereo_tr.datasets.files import write_pfm, write_png
from stereo_tr.datasets.packed import PackedPairs
from stereo_tr.scripts.check import Check, check
from stereo_tr.scripts.pack import Pack, main, pack

pytest.importorskip("h5py")
ROOT = Path(__file__).parents[2]
HEIGHT, WIDTH, SHIFT = 24, 60, 7

KILLS = """
import os, signal, sys, time
from pathlib import Path
from random import Random

import h5py  # what a child would import otherwise, each for itself

import stereo_tr.datasets.packing
import stereo_tr.datasets.registry
import stereo_tr.training_data
from stereo_tr.scripts.pack import Pack, pack

def packing(out):
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        pack(Pack("folder", Path(sys.argv[1]), out))
        os._exit(0)
    return child

start = time.monotonic()
os.waitpid(packing(Path(sys.argv[2]) / "whole.h5"), 0)
seconds = time.monotonic() - start
random, killed, out = Random(3), 0, Path(sys.argv[2]) / "killed.h5"
for _ in range(20):
    child = packing(out)
    time.sleep(random.uniform(0, seconds / 5))
    os.kill(child, signal.SIGKILL)
    killed += os.waitpid(child, 0)[1] == signal.SIGKILL
os.waitpid(packing(out), 0)
print(killed)
"""


def write_pairs(root, count, disparity=float(SHIFT)):
    for folder in ("left", "right", "disparity"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        rng = np.random.default_rng(number)
        wide = rng.integers(0, 256, (HEIGHT, WIDTH + SHIFT, 3)).astype(np.uint8)
        write_png(root / "left" / f"{number}.png", wide[:, :WIDTH])
        write_png(root / "right" / f"{number}.png", wide[:, SHIFT:])
        truth = np.full((HEIGHT, WIDTH), disparity, np.float32)
        write_pfm(root / "disparity" / f"{number}.pfm", truth)


def settings(tmp_path, **changes):
    return dataclasses.replace(Pack("folder", tmp_path / "raw", tmp_path / "x.h5"), **changes)


def test_it_packs_verifies_and_measures(tmp_path, capsys):
    write_pairs(tmp_path / "raw", 5)
    arguments = ["--data", "folder", "--root", str(tmp_path / "raw")]
    arguments += ["--out", str(tmp_path / "x.h5"), "--verify", "--measure", "3"]
    main(arguments)
    printed = capsys.readouterr().out
    assert "x.h5: 5 pairs, 0." in printed
    assert "packed 5 now" in printed
    assert "verified: all 5 are what" in printed
    assert "pairs a second" in printed and "raw files" in printed
    main(arguments)  # once more: it is finished already
    assert "now" not in capsys.readouterr().out


def test_workers_make_the_same_file(tmp_path):
    write_pairs(tmp_path / "raw", 4)
    pack(settings(tmp_path))
    done = pack(settings(tmp_path, out=tmp_path / "y.h5", workers=1))
    assert done.packed_now == 4
    assert (tmp_path / "x.h5").read_bytes() == (tmp_path / "y.h5").read_bytes()


def test_killed_twenty_times_it_ends_with_the_same_file(tmp_path):
    write_pairs(tmp_path / "raw", 24)
    command = [sys.executable, "-c", KILLS, str(tmp_path / "raw"), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 5  # the others were finished before the blow
    assert (tmp_path / "killed.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["killed.h5", "raw", "whole.h5"]


def test_verifying_finds_what_has_changed(tmp_path):
    write_pairs(tmp_path / "raw", 3)
    pack(settings(tmp_path))
    truth = np.full((HEIGHT, WIDTH), SHIFT, np.float32)
    truth[5, 9] += 2**-18
    write_pfm(tmp_path / "raw" / "disparity" / "1.pfm", truth)
    with pytest.raises(ValueError, match=r"x.h5: 1 isn't what .*raw holds now"):
        pack(settings(tmp_path, verify=True))


def test_a_file_of_other_pairs_is_not_taken_for_these(tmp_path):
    write_pairs(tmp_path / "raw", 3)
    pack(settings(tmp_path))
    write_pairs(tmp_path / "more", 4)
    with pytest.raises(ValueError, match=r"holds 3 pairs of folder, others than the 4 of folder"):
        pack(settings(tmp_path, root=tmp_path / "more"))


def test_equal_names_in_another_folder_are_not_taken_for_these(tmp_path):
    write_pairs(tmp_path / "raw", 3)
    pack(settings(tmp_path))
    write_pairs(tmp_path / "more", 3)
    with pytest.raises(ValueError, match=r"holds folder of .*raw, not folder of .*more; delete"):
        pack(settings(tmp_path, root=tmp_path / "more"))
    assert pack(settings(tmp_path, root=tmp_path / "more", verify=True)).verified  # but moved


def test_a_broken_picture_stops_it_and_it_goes_on(tmp_path, capsys):
    write_pairs(tmp_path / "raw", 3)
    picture = tmp_path / "raw" / "right" / "1.png"
    whole = picture.read_bytes()
    picture.write_bytes(whole[:90])
    arguments = ["--data", "folder", "--root", str(tmp_path / "raw"), "--out"]
    with pytest.raises(SystemExit) as stop:
        main([*arguments, str(tmp_path / "x.h5")])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "right/1.png: truncated or damaged picture" in error
    assert not (tmp_path / "x.h5").exists()
    picture.write_bytes(whole)
    assert pack(settings(tmp_path)).packed_now == 2


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"out": Path("x.hdf")}, "--out x.hdf: give a file that ends in .h5"),
        ({"workers": -1}, "--workers -1: give 0 or more"),
        ({"data": "kitti"}, "unknown data set 'kitti'"),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path, changes, says):
    write_pairs(tmp_path / "raw", 1)
    with pytest.raises(ValueError, match=says):
        pack(settings(tmp_path, **changes))


def test_a_foreground_that_is_not_packed_is_told(tmp_path, capsys):
    truth = np.full((HEIGHT, WIDTH), 256 * SHIFT, np.uint16)
    for folder in ("image_2", "image_3", "disp_occ_0", "obj_map"):
        (tmp_path / "training" / folder).mkdir(parents=True)
        picture = np.zeros((HEIGHT, WIDTH), np.uint8) if folder != "disp_occ_0" else truth
        write_png(tmp_path / "training" / folder / "000000_10.png", picture)
    main(["--data", "kitti2015", "--root", str(tmp_path), "--out", str(tmp_path / "x.h5")])
    assert "obj_map isn't packed: D1-bg and D1-fg" in capsys.readouterr().out


def test_other_commands_read_it(tmp_path):
    write_pairs(tmp_path / "raw", 3)
    pack(settings(tmp_path))
    report = check(Check("packed", tmp_path / "x.h5"))
    assert report.problems == ()
    assert report.pairs == 3
    raw = check(Check("folder", tmp_path / "raw"))
    assert report.read == raw.read
    assert len(PackedPairs(tmp_path / "x.h5")) == 3
