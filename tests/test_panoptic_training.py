import json

import cv2
import numpy as np
import pytest
import torch

from stereo_tr.checkpoint import load_last
from stereo_tr.datasets.generated_panoptic import COARSE_CLASSES
from stereo_tr.datasets.panoptic_files import coloured_numbers
from stereo_tr.panoptic_training import PanopticTask
from stereo_tr.recipe import TrainingSettings
from stereo_tr.training import train

TINY = (
    'encoder={"widths": [8, 12, 16, 20], "depths": [1, 1, 1, 1]}',
    "num_queries=6",
    "layers=[1, 1, 1]",
    "decoder_widths=[8, 8, 8, 8]",
    "decoder_depths=[1, 1, 1, 1]",
    "channels=16",
    "filters=8",
    "feed_forward=24",
    "hidden=12",
    "features=16",
    "drop_path=0.0",
    'losses={"sampled_pixels": 60}',
)


def settings(out, *, classes=4, data="generated_things", **changes):
    changes = {"steps": 4, "height": 64, "width": 48, "warmup": 0, "root": ()} | changes
    return TrainingSettings(
        out=out,
        model="kmax_resnet50",
        override=(*TINY, f"num_classes={classes}"),
        data=(data,),
        batch=2,
        validate_every=4,
        validate_pairs=2,
        workers=0,
        **changes,
    )


def write_street(root, split, names):
    """Stuff above, two things below; one image has nothing but void."""
    root.mkdir(exist_ok=True)
    (root / "classes.json").write_text(
        json.dumps([{"id": 3, "name": "sky", "isthing": 0}, {"id": 9, "name": "car", "isthing": 1}])
    )
    for role in ("images", "classes", "instances"):
        (root / split / role).mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        kinds, which = np.zeros((40, 56), np.uint8), np.zeros((40, 56), np.uint8)
        if index:
            kinds[:20], kinds[22:] = 3, 9
            which[:, 30:] = 1
        image = np.random.default_rng(index).integers(0, 255, (40, 56, 3), np.uint8)
        for role, content in (("images", image), ("classes", kinds), ("instances", which)):
            cv2.imwrite(str(root / split / role / f"{name}.png"), content)


def test_a_folder_of_ones_own_trains_and_a_stopped_run_goes_on_to_the_same_bits(tmp_path):
    """Also where nothing is labelled in an image."""
    write_street(tmp_path / "data", "train", ["empty", "a", "b"])
    write_street(tmp_path / "data", "validation", ["empty", "c"])
    of_folder = {"classes": 2, "data": "panoptic_folder", "root": (str(tmp_path / "data"),)}
    results = train(settings(tmp_path / "whole", **of_folder))
    assert results["finished"] and 0 <= results["pq"] <= 100
    assert {"sq_things", "rq_stuff"} < set(results)
    train(settings(tmp_path / "parts", minutes=0.0, **of_folder))
    assert load_last(tmp_path / "parts")[0]["step"] < 4
    train(TrainingSettings(out=tmp_path / "parts", resume=True, workers=0))
    whole, parts = (load_last(tmp_path / name)[0]["model"] for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)

    with pytest.raises(ValueError, match=r"has 2 classes and the model 5: give --override num_c"):
        train(settings(tmp_path / "x", **of_folder | {"classes": 5}))
    colours = coloured_numbers(np.zeros((40, 56), np.int32))
    for name in "ab":
        cv2.imwrite(str(tmp_path / f"data/train/classes/{name}.png"), colours)
    with pytest.raises(ValueError, match="a colour picture"):
        train(settings(tmp_path / "y", **of_folder))


def test_scores_are_percentages_and_zero_where_there_is_nothing():
    task = PanopticTask()
    task.classes = COARSE_CLASSES
    counts = torch.zeros(4, 4, dtype=torch.float64)
    assert set(task.scores(counts.flatten()).values()) == {0.0}
    counts[:, 3] = torch.tensor([3, 1, 1, 2.4])  # of things: found, wrong, missed, sum of IoU
    scores = task.scores(counts.flatten())
    assert scores["pq"] == scores["pq_things"] == pytest.approx(60)
    assert scores["sq"] == pytest.approx(80) and scores["rq_things"] == pytest.approx(75)
    assert task.describe(scores) == "PQ 60.0 %, things 60.0 %, stuff 0.0 %"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"data": "generated_panoptics"}, "did you mean generated_panoptic"),
        ({"data": "coco_panoptic"}, "read from disk: give --root DIR"),
        ({"root": ("there",)}, "--root is of no use"),
        ({"data": "generated_panoptic"}, "give --override num_classes=1"),
        ({"data": "coco_panoptic", "root": ("none",), "augmentation": "sttr"}, "none or strong"),
        ({"data": "coco_panoptic", "root": ("none",)}, "no such file"),
    ],
)
def test_settings_that_cannot_be_are_said_before_anything_is_written(tmp_path, changes, says):
    with pytest.raises((ValueError, FileNotFoundError), match=says):
        train(settings(tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validate": "generated"}, "--validate is of no use: .* what generated_things holds back"),
        ({"validate_root": "x"}, "--validate-root is of no use"),
        ({"augmentation": "sttr"}, "--augmentation sttr: panoptic images have none or strong"),
    ],
)
def test_options_of_stereo_models_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        PanopticTask().check(settings(tmp_path, **changes).filled())
