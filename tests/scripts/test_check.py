"""`stereo-tr check`: says that a good copy is good, and what is wrong with a bad one."""

import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from stereo_tr.datasets import generated
from stereo_tr.datasets.files import write_pfm, write_png
from stereo_tr.datasets.generated import GeneratedScenes
from stereo_tr.scripts.check import Check, check, main, occlusion_agreement, warp_errors

ROOT = Path(__file__).parents[2]
HEIGHT, WIDTH, SHIFT = 24, 60, 7


def textured_pair(seed):
    """A random texture that the right camera sees SHIFT pixels further left."""
    wide = np.random.default_rng(seed).random((HEIGHT, WIDTH + SHIFT, 3), dtype=np.float32)
    wide = np.rint(255 * cv2.GaussianBlur(wide, (0, 0), 1)).astype(np.uint8)
    return wide[:, :WIDTH].copy(), wide[:, SHIFT:].copy()


def write_pairs(root, names="abc", disparity=SHIFT):
    for folder in ("left", "right", "disparity"):
        (root / folder).mkdir(exist_ok=True)
    for seed, name in enumerate(names):
        for view, image in zip(("left", "right"), textured_pair(seed), strict=True):
            write_png(root / view / f"{name}.png", image)
        truth = np.full((HEIGHT, WIDTH), disparity, np.float32)
        write_pfm(root / "disparity" / f"{name}.pfm", truth)


def found(root, data="folder", **settings):
    return check(Check(data, root, **settings))


def test_a_good_copy_has_no_problem(tmp_path, capsys):
    write_pairs(tmp_path)
    main(["--data", "folder", "--root", str(tmp_path), "--samples", "2"])
    out = capsys.readouterr().out
    assert "a: 60x24, disparity 7.00 to 7.00 px at 100 %, occluded 11.7 %" in out  # 7 of 60
    assert "folder: 3 complete pairs of an unknown number published, 0 with occlusion" in out
    assert out.endswith("no problem found\n")


@pytest.mark.parametrize("disparity", [SHIFT - 1, SHIFT + 1, SHIFT / 2])
def test_a_truth_of_another_scale_does_not_explain_the_views(tmp_path, disparity):
    write_pairs(tmp_path, disparity=disparity)
    (problem,) = found(tmp_path).problems
    assert "the truth doesn't explain the left view in 3 of 3 pairs (a, b, c, ...)" in problem


def test_one_odd_pair_is_no_verdict_on_the_others(tmp_path):
    write_pairs(tmp_path, "a", disparity=3)
    write_pairs(tmp_path, "bcd")
    shutil.copy(tmp_path / "left" / "b.png", tmp_path / "left" / "a.png")
    assert found(tmp_path).problems == ()


def test_swapped_views_are_noticed(tmp_path):
    write_pairs(tmp_path)
    (tmp_path / "left").rename(tmp_path / "other")
    (tmp_path / "right").rename(tmp_path / "left")
    (tmp_path / "other").rename(tmp_path / "right")
    assert "the views are swapped" in found(tmp_path).problems[0]


def test_every_kind_of_damage_is_listed_and_the_exit_code_says_so(tmp_path, capsys):
    write_pairs(tmp_path, "abcdefg")
    (tmp_path / "right" / "a.png").unlink()
    (tmp_path / "left" / "b.png").write_bytes(b"")
    shutil.copy(tmp_path / "left" / "c.png", tmp_path / "right" / "c.png")
    write_png(tmp_path / "left" / "d.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    write_pfm(tmp_path / "disparity" / "e.pfm", np.full((HEIGHT, WIDTH), np.inf, np.float32))
    write_pfm(tmp_path / "disparity" / "f.pfm", np.full((HEIGHT, WIDTH), 90, np.float32))
    with pytest.raises(SystemExit) as stop:
        main(["--data", "folder", "--root", str(tmp_path), "--samples", "100"])
    assert stop.value.code == 1
    out = capsys.readouterr().out
    for text in (
        "a: no right for",
        "b.png: not a picture",
        "c: both views are the same picture",
        "d: the left view is of one colour throughout",
        "e: no disparity known",
        "f: a disparity of 90 px, but 60 columns",
    ):
        assert text in out


def test_counts_and_sizes_are_held_against_the_published_ones(tmp_path):
    scene = tmp_path / "test" / "000040"
    scene.mkdir(parents=True)
    for name, image in zip(("left", "right"), textured_pair(0), strict=True):
        write_png(scene / f"{name}.png", image)
        write_png(scene / f"{name}_disp.png", np.full((HEIGHT, WIDTH), 100 * SHIFT, np.uint16))
    problems = found(tmp_path, "instereo2k_test").problems
    assert problems == (
        "1 complete pairs, but 50 are published",
        "test/000040: 60x24, but 1080x860 is published",
    )


def test_long_lists_are_cut(tmp_path):
    write_pairs(tmp_path, [f"{number:02d}" for number in range(31)])
    for number in range(30):
        (tmp_path / "disparity" / f"{number:02d}.pfm").unlink()
    problems = found(tmp_path).problems
    assert len(problems) == 21
    assert problems[-1] == "... and 10 more of this kind"


def test_views_without_truth_are_looked_at_too(tmp_path):
    for folder, image in zip(("colored_0", "colored_1"), textured_pair(0), strict=True):
        (tmp_path / "testing" / folder).mkdir(parents=True)
        write_png(tmp_path / "testing" / folder / "000000_10.png", image)
    report = found(tmp_path, "kitti2012_testing")
    assert report.read == ("testing/000000_10: 60x24, no truth published",)
    assert report.problems == ("1 complete pairs, but 195 are published",)


def test_errors_and_agreement_on_a_scene_made_by_geometry(monkeypatch):
    """Exact truth: the error is least at it; the occlusion is what the left-right check says."""
    monkeypatch.setattr(generated, "COLOUR_TILES", 6)  # making all 96 takes seconds
    scenes = GeneratedScenes(96, 160, seed=3, photographs=False, camera=False)
    mine, other = scenes[0], scenes[1]
    errors = warp_errors(mine)
    assert errors[0] < min(errors[-1], errors[1])
    assert occlusion_agreement(mine) > 0.6
    assert occlusion_agreement(mine._replace(occluded=other.occluded)) < 0.3
    assert occlusion_agreement(mine._replace(right_valid=~mine.right_valid)) is None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--data", "foldr"], "unknown data set 'foldr'; did you mean folder?"),
        (["--data", "folder", "--samples", "-1"], "--samples -1: give 0 or more"),
        (["--data", "folder"], "no pair of pairs of your own in"),
    ],
)
def test_what_cannot_be_checked_is_one_line(tmp_path, capsys, arguments, says):
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--root", str(tmp_path)])
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.startswith("stereo-tr check: ") and error.count("\n") == 1
    assert says in error


def test_it_starts_as_a_module(tmp_path):
    write_pairs(tmp_path, "a")
    done = subprocess.run(
        [sys.executable, "-m", "stereo_tr.scripts.check", "--data", "folder", "--root", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "no problem found" in done.stdout
