"""Data for stereo by name: mixtures, roots, what is held back, and what can't be."""

from fractions import Fraction
from pathlib import Path

import pytest
import torch

from stereo_tr.datasets.sceneflow import FlyingThings3D
from stereo_tr.recipe import TrainingSettings
from stereo_tr.stereo_data import (
    HELD_OUT,
    open_training,
    open_validation,
    read_mixture,
    read_roots,
)
from tests.scene_trees import write_flying_things


def settings(**changes) -> TrainingSettings:
    values = {"height": 19, "width": 34, "batch": 1, "augmentation": "none"}
    return TrainingSettings(Path("unused"), **(values | changes)).filled()


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("things")
    write_flying_things(folder, count=5, height=27, width=45)
    write_flying_things(folder, count=3, height=27, width=45, split="TEST", first=100)
    return folder


def test_mixtures_are_read_from_one_text_or_several():
    expected = {"sceneflow": Fraction(7, 10), "generated": Fraction(3, 10)}
    assert read_mixture(("sceneflow:0.7,generated:0.3",)) == expected
    assert read_mixture(("sceneflow:0.7", "generated:0.3")) == expected
    assert read_mixture(("generated",)) == {"generated": 1}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (("scene_flow",), "unknown data 'scene_flow'; did you mean sceneflow"),
        (("sceneflow:much",), "--data sceneflow:much: 'much' is no weight, such as 0.7"),
        (("sceneflow:0",), "a weight is positive"),
        (("sceneflow:-1",), "a weight is positive"),
        ((), "--data takes names of data sets: generated, sceneflow"),
    ],
)
def test_mixtures_that_cannot_be(data, message):
    with pytest.raises(ValueError, match=message):
        read_mixture(data)


def test_roots():
    names = ["sceneflow", "generated", "kitti2015"]
    both = {"sceneflow": "/a", "kitti2015": "/b=c"}
    assert read_roots(("sceneflow=/a", "kitti2015=/b=c"), names) == both
    assert read_roots(("sceneflow=/a", "/b=c"), names) == both
    assert read_roots((), ["generated"]) == {}
    for given, message in {
        (): "--data sceneflow is read from disk: give --root DIR, or --root sceneflow=DIR",
        ("sceneflow=/a",): "--data kitti2015 is read from disk",
        ("/a", "/b"): "say which is whose, as in sceneflow=/a",
        ("/a", "eth3d=/b"): "--root eth3d=... is of no use: --data doesn't name eth3d",
    }.items():
        with pytest.raises(ValueError, match=message):
            read_roots(given, names)
    with pytest.raises(ValueError, match="no data set of --data is read from disk"):
        read_roots(("/a",), ["generated"])


def test_pairs_from_disk_are_shuffled_and_cropped(tree):
    pairs = open_training(settings(data=("flyingthings3d",), root=(str(tree),)))
    whole = {sample.name: sample for sample in FlyingThings3D(tree)}
    first = [pairs[index] for index in range(5)]
    assert {sample.name for sample in first} == whole.keys()
    assert {sample.left.shape for sample in first} == {(3, 19, 34)}
    again = pairs[2]
    assert torch.equal(again.left, first[2].left) and again.name == first[2].name
    # The next epoch crops elsewhere, and a crop is a window of the whole.
    later = next(s for i in range(5, 10) if (s := pairs[i]).name == again.name)
    assert not torch.equal(later.left, again.left)
    windows = whole[again.name].left.unfold(1, 19, 1).unfold(2, 34, 1)
    assert (windows == again.left[:, None, None]).flatten(3).all(-1).all(0).any()


def test_a_mixture_of_disk_and_generated(tree):
    data = ("flyingthings3d:0.75", "generated:0.25")
    pairs = open_training(settings(data=data, root=(str(tree),), seed=7))
    names = [pairs[index].name for index in range(8)]
    assert [name for name in names if "generated" in name] == ["generated/7/0", "generated/7/1"]


def test_what_is_held_back_is_validated(tree):
    root = (str(tree),)
    held_out = open_validation(settings(data=("flyingthings3d",), root=root, validate_pairs=2))
    assert [held_out[index].name[-4:] for index in range(len(held_out))] == ["0100", "0101"]
    assert held_out[0].left.shape == (3, 27, 45)  # whole pairs
    named = settings(
        data=("generated",), validate="flyingthings3d", validate_root=str(tree), validate_pairs=9
    )
    assert len(open_validation(named)) == 5
    itself = settings(data=("flyingthings3d",), root=root, validate="flyingthings3d")
    assert len(open_validation(itself)) == 5
    for data, given in ((("generated",), ()), (("eth3d",), root)):
        name = open_validation(settings(data=data, root=given))[0].name
        assert name == f"generated/{2**31 - 1}/0"
    with pytest.raises(ValueError, match="--validate eth3d is read from disk: give --validate-ro"):
        open_validation(settings(data=("generated",), validate="eth3d"))
    with pytest.raises(FileNotFoundError, match="validated on kitti2015_validation; or take --val"):
        open_validation(settings(data=("kitti2015_train",), root=root))
    with pytest.raises(ValueError, match="the truth of kitti2015_testing isn't published"):
        open_validation(settings(validate="kitti2015_testing", validate_root=str(kitti(tree))))


def kitti(folder: Path) -> Path:
    """Views of one KITTI 2015 test frame."""
    for view in ("image_2", "image_3"):
        path = folder / "kitti" / "testing" / view / "000000_10.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"never opened")
    return folder / "kitti"


def test_every_held_back_part_exists():
    assert (
        set(HELD_OUT) | set(HELD_OUT.values())
        <= read_mixture([*HELD_OUT, *HELD_OUT.values()]).keys()
    )
