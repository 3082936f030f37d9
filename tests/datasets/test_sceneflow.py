"""SceneFlow: both signs, both byte orders, names that match, and as many pairs as published."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import trees

from stereo_tr.datasets import indexed
from stereo_tr.datasets.files import read_image
from stereo_tr.datasets.sceneflow import (
    Driving,
    FlyingThings3D,
    FlyingThings3DSubset,
    Monkaa,
    SceneFlow,
)
from stereo_tr.scripts.check import warp_errors

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "synthetic_sceneflow"
PUBLISHED = {"TRAIN": 22390, "TEST": 4370, "Monkaa": 8664, "Driving": 4400}
DRIVES = [
    f"{focal}mm_focallength/scene_{direction}/{speed}"
    for focal in (15, 35)
    for direction in ("backwards", "forwards")
    for speed in ("fast", "slow")
]


def write_frame(base, sequence, frame, rendering="final", order="<", suffix="png", first=0.25):
    views = base / f"frames_{rendering}pass" / sequence
    trees.write_views(views / "left" / f"{frame}.{suffix}", views / "right" / f"{frame}.{suffix}")
    for view, offset in (("left", 0), ("right", 1)):
        path = base / "disparity" / sequence / view / f"{frame}.pfm"
        trees.write_pfm(path, trees.ramp(first + offset), order)


@pytest.mark.parametrize("order", ["<", ">"])
def test_full_sets_store_positive_disparity(tmp_path, order):
    write_frame(tmp_path / "FlyingThings3D", "TRAIN/A/0000", "0006", order=order)
    (sample,) = FlyingThings3D(tmp_path)
    assert sample.name == "FlyingThings3D/TRAIN/A/0000/0006"
    torch.testing.assert_close(sample.disparity, torch.from_numpy(trees.ramp()))
    torch.testing.assert_close(sample.right_disparity, torch.from_numpy(trees.ramp(1.25)))
    assert sample.valid.all() and sample.right_valid.all()
    assert sample.occluded.tolist() == trees.outside(trees.ramp())
    mirrored = torch.from_numpy(trees.ramp(1.25)[:, ::-1].copy())
    right = torch.tensor(trees.outside(mirrored)).flip(-1)
    assert torch.equal(sample.right_occluded, right)
    torch.testing.assert_close(255 * sample.left[0, 2], torch.tensor([32.0, 33, 34, 35, 36]))


def test_truth_of_both_views_tells_what_is_hidden(tmp_path):
    """A strip 3 px nearer than a wall hides three columns of it from each camera."""
    left, right = np.ones((2, 2, 13), np.float32)
    left[:, 7:10] = right[:, 3:6] = 4
    frame, base = "scene/{}/0001", tmp_path / "Monkaa"
    pictures = [base / "frames_finalpass" / f"scene/{view}/0001.png" for view in ("left", "right")]
    trees.write_views(*pictures, height=2, width=13)
    for view, disparity in (("left", left), ("right", right)):
        trees.write_pfm(base / "disparity" / f"{frame.format(view)}.pfm", disparity)
    (sample,) = Monkaa(tmp_path)
    assert sample.occluded[1].nonzero()[:, 0].tolist() == [0, 4, 5, 6]
    assert sample.right_occluded[1].nonzero()[:, 0].tolist() == [6, 7, 8, 12]


def test_the_subset_stores_negative_disparity_and_occlusion(tmp_path):
    base = tmp_path / "FlyingThings3D_subset" / "val"
    for number in (0, 7):
        frame = f"{number:07d}"
        views = base / "image_clean"
        trees.write_views(views / "left" / f"{frame}.png", views / "right" / f"{frame}.png")
        for view in ("left", "right"):
            trees.write_pfm(base / "disparity" / view / f"{frame}.pfm", -trees.ramp(number))
            hidden = np.zeros((3, 5), np.uint8)
            hidden[1, 4] = 255
            trees.write_picture(base / "disparity_occlusions" / view / f"{frame}.png", hidden)
    pairs = FlyingThings3DSubset(tmp_path, "val")
    torch.testing.assert_close(pairs[0].disparity, torch.from_numpy(trees.ramp(0)))
    expected = np.array(trees.outside(trees.ramp(0)))
    expected[1, 4] = True
    assert pairs[0].occluded.tolist() == expected.tolist()
    assert pairs.occlusion_known(0)
    trees.write_pfm(base / "disparity" / "left" / "0000007.pfm", trees.ramp())
    with pytest.raises(ValueError, match=r"0000007.pfm: most disparities aren't negative"):
        pairs[1]


def test_renderings_splits_and_sets_are_kept_apart(tmp_path):
    things, monkaa, driving = (tmp_path / n for n in ("FlyingThings3D", "Monkaa", "Driving"))
    write_frame(things, "TRAIN/A/0000", "0006")
    write_frame(things, "TRAIN/C/0001", "0015", "clean", suffix="webp")
    write_frame(things, "TEST/B/0000", "0006")
    write_frame(monkaa, "a_rain_of_stones_x2", "0000")
    write_frame(driving, DRIVES[1], "0001")

    def names(pairs):
        return [entry.name for entry in pairs.entries]

    assert names(SceneFlow(tmp_path)) == [
        "FlyingThings3D/TRAIN/A/0000/0006",
        "Monkaa/a_rain_of_stones_x2/0000",
        f"Driving/{DRIVES[1]}/0001",
    ]
    assert names(SceneFlow(tmp_path, split="TEST")) == ["FlyingThings3D/TEST/B/0000/0006"]
    assert names(FlyingThings3D(things, "clean")) == ["FlyingThings3D/TRAIN/C/0001/0015"]
    assert names(Monkaa(monkaa)) == names(Monkaa(tmp_path))
    assert names(Driving(driving)) == [f"Driving/{DRIVES[1]}/0001"]
    with pytest.raises(FileNotFoundError, match=r"no pair of Monkaa .* give the folder that holds"):
        Monkaa(tmp_path, "clean")


def test_a_missing_set_is_said(tmp_path):
    write_frame(tmp_path / "FlyingThings3D", "TRAIN/A/0000", "0006")
    with pytest.raises(FileNotFoundError, match=r"Monkaa: no folder .*Monkaa \(and 1 more\)"):
        SceneFlow(tmp_path)


def test_left_in_the_path_above_is_nothing_to_replace(tmp_path):
    write_frame(tmp_path / "left" / "left_over" / "Monkaa", "scene_left", "0000")
    (sample,) = Monkaa(tmp_path / "left" / "left_over")
    assert torch.equal(sample.right, sample.left.flip(-1))


def write_used_frames(root, frames):
    for frame in frames:
        write_frame(root / "FlyingThings3D", "TRAIN/A/0000", frame)


def write_hidden(path, column):
    hidden = np.zeros((3, 5), np.uint8)
    hidden[:, column] = 255
    trees.write_picture(path, hidden)


@pytest.mark.parametrize(
    "named", ["TRAIN/A/0000/left/{frame}.png", "TRAIN/left/A-0000-{frame}.png"]
)
def test_occlusion_is_matched_by_the_name_of_its_frame(tmp_path, named):
    write_used_frames(tmp_path, ["0006", "0007", "0008"])
    occlusion = tmp_path / "FlyingThings3D" / "occlusion"
    write_hidden(occlusion / named.format(frame="0008"), 3)
    write_hidden(occlusion / named.format(frame="0006"), 4)
    pairs = FlyingThings3D(tmp_path)
    assert [pairs.occlusion_known(index) for index in range(3)] == [True, False, True]
    assert pairs[0].occluded[0].tolist() == [True, False, False, False, True]
    assert pairs[2].occluded[0].tolist() == [True, False, False, True, False]


@pytest.mark.parametrize("beside", [False, True])
def test_numbered_occlusion_counts_the_used_frames(tmp_path, beside):
    write_used_frames(tmp_path, ["0006", "0007", "0008"])
    things = tmp_path / "FlyingThings3D"
    maps = things / "occlusion" / "TRAIN" / "left"
    if beside:
        maps = tmp_path / "FlyingThings3D_subset" / "train" / "disparity_occlusions" / "left"
    for number, column in enumerate((3, 4)):
        write_hidden(maps / f"{number:07d}.png", column)
    with pytest.raises(FileNotFoundError, match=r"2 maps for 3 frames; complete the copy, or name"):
        FlyingThings3D(tmp_path)
    (things / "all_unused_files.txt").write_text("TRAIN/A/0000/left/0007.png\n")
    pairs = FlyingThings3D(tmp_path)
    assert [entry.name[-4:] for entry in pairs.entries] == ["0006", "0008"]
    assert pairs[0].occluded[0].tolist() == [True, False, False, True, False]
    assert pairs[1].occluded[0].tolist() == [True, False, False, False, True]
    write_hidden(maps / "0000005.png", 0)
    (maps / "0000001.png").unlink()
    with pytest.raises(FileNotFoundError, match="numbered over a complete split"):
        FlyingThings3D(tmp_path)


def test_numbers_say_nothing_without_the_list_of_unused_frames(tmp_path):
    write_used_frames(tmp_path, ["0006", "0007"])
    for number in range(2):
        write_hidden(
            tmp_path / "FlyingThings3D" / "occlusion" / "TRAIN" / "left" / f"{number:07d}.png", 2
        )
    with pytest.raises(FileNotFoundError, match=r"all_unused_files.txt is missing"):
        FlyingThings3D(tmp_path)


def write_empty(root, share):
    """SceneFlow's layout with a share of its pairs, of empty files; returns their number."""
    sequences = []
    for split in ("TRAIN", "TEST"):
        for scene in range(round(share * PUBLISHED[split]) // 10):
            letter, number = "ABC"[scene % 3], scene // 3
            name = f"FlyingThings3D/{{}}/{split}/{letter}/{number:04d}/{{}}"
            sequences.append((name, range(6, 16)))
    for scene in range(24):
        frames = range(round(share * PUBLISHED["Monkaa"]) // 24)
        sequences.append((f"Monkaa/{{}}/scene{scene}/{{}}", frames))
    for drive in DRIVES:
        frames = range(1, 1 + round(share * PUBLISHED["Driving"]) // len(DRIVES))
        sequences.append((f"Driving/{{}}/{drive}/{{}}", frames))
    for name, frames in sequences:
        for top, suffix in (("frames_finalpass", "png"), ("disparity", "pfm")):
            for view in ("left", "right"):
                folder = root / name.format(top, view)
                folder.mkdir(parents=True)
                for frame in frames:
                    os.close(os.open(folder / f"{frame:04d}.{suffix}", os.O_CREAT))
    for folder, _, _ in os.walk(root):
        os.utime(folder, (time.time() - 3600,) * 2)
    return sum(len(frames) for _, frames in sequences)


def test_many_pairs_are_indexed_in_seconds_and_kept(tmp_path, monkeypatch):
    """A small share of SceneFlow: writing the whole, `write_empty(root, 1)`, takes minutes."""
    monkeypatch.setattr(indexed, "WORTH_KEEPING", 1)
    monkeypatch.setenv("STEREO_TR_CACHE", str(tmp_path / "cache"))
    count = write_empty(tmp_path / "sceneflow", share=1 / 200)
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        train = SceneFlow(tmp_path / "sceneflow")
        seconds.append(time.perf_counter() - start)
    test = SceneFlow(tmp_path / "sceneflow", split="TEST")
    assert len(train) + len(test) == count
    assert len({entry.name for entry in train.entries}) == len(train)
    assert max(seconds) < 4
    assert len(list((tmp_path / "cache" / "index").iterdir())) == 2


@pytest.mark.skipif(not SHARED.is_dir(), reason="real pairs are not at ../shared/data")
def test_the_truth_of_a_real_frame_explains_its_left_view(tmp_path):
    source = SHARED / "A-0032-0006"
    base = tmp_path / "FlyingThings3D"
    for view in ("left", "right"):
        frame = base / "frames_cleanpass" / "TRAIN" / "A" / "0032" / view / "0006.png"
        trees.link(frame, source / f"{view}.png")
    truth = base / "disparity" / "TRAIN" / "A" / "0032"
    trees.link(truth / "left" / "0006.pfm", source / "disp.pfm")
    hidden = 255 - read_image(source / "nocc.png")
    trees.write_picture(base / "occlusion" / "TRAIN" / "left" / "A-0032-0006.png", hidden)
    (sample,) = FlyingThings3D(tmp_path, "clean")
    assert sample.disparity.shape == (540, 960)
    assert 0.05 < sample.occluded.float().mean() < 0.5
    errors = warp_errors(sample)
    assert errors[0] < 0.8 * min(errors[-1], errors[1])
    shifted = warp_errors(sample._replace(disparity=sample.disparity + 1))
    assert shifted[-1] < shifted[0]
