"""The task of telling classes of images apart."""

import math

import pytest
import torch
from torch import nn

from stereo_tr.classification import ClassificationTask, class_scores, image_classifiers
from stereo_tr.datasets.image_folder import ImageList, LabelledImage, write_list
from stereo_tr.recipe import TrainingSettings
from stereo_tr.tasks import task_for


class Brightness(nn.Module):
    """Scores three classes by the three colours' means."""

    def forward(self, images):
        return 10 * images.mean((2, 3))


def batch(*labels):
    images = torch.zeros(len(labels), 3, 4, 5)
    images[torch.arange(len(labels)), torch.arange(len(labels)) % 3] = 1
    return LabelledImage(images, torch.tensor(labels), [f"{i}.png" for i in range(len(labels))])


def test_the_task_of_vision_models():
    assert type(task_for("swin_tiny_patch4_window7_224")) is ClassificationTask
    names = image_classifiers()
    assert {"moat_0", "resnet50", "vitamin_small_224"} <= set(names)
    assert not {"transunet_vit_b16", "vitamin_small_clip", "cstr_small"} & set(names)


def test_scores_add_up_over_batches_of_any_size():
    task = ClassificationTask()
    parts = [batch(0, 1, 2, 1), batch(2)]  # 3 of 4 are right, then 0 of 1
    scores = task.scores(sum(task.tally(Brightness(), part) for part in parts))
    assert scores["accuracy"] == pytest.approx(60)
    sure = math.log(1 + 2 * math.exp(-10))
    assert scores["cross_entropy"] == pytest.approx(sure + 2 / 5 * 10, rel=1e-5)
    assert task.describe(scores) == "accuracy 60.00 %"


def test_probabilities_sum_to_one():
    scores = class_scores(Brightness(), torch.rand(2, 3, 4, 5))
    torch.testing.assert_close(scores.sum(1), torch.ones(2))


def test_what_does_not_fit_is_refused_before_anything_is_read(tmp_path):
    listed = ImageList(("a", "b"), (("a.png", 0), ("b.png", 1)), ())
    write_list(listed, tmp_path / "images.json")
    held = str(tmp_path / "images.json")

    def check(model, data, *override, **changes):
        ClassificationTask().check(
            TrainingSettings(tmp_path, model=model, data=data, override=override, **changes)
        )

    check("resnet50", (held,), "num_classes=2")
    with pytest.raises(ValueError, match="2 classes and the model is made for 5: give --override"):
        check("resnet50", (held,), "num_classes=5")
    with pytest.raises(ValueError, match="learns from a folder of images: stereo-tr classify"):
        check("resnet50", ("generated",))
    for unused in ({"validate": "x"}, {"validate_root": "x"}, {"root": ("x",)}):
        option = f"--{next(iter(unused)).replace('_', '-')}"
        with pytest.raises(ValueError, match=f"{option} is of no use: .* lists the images"):
            check("resnet50", (held,), "num_classes=2", **unused)
    with pytest.raises(ValueError, match="--augmentation sttr is of no use"):
        check("resnet50", (held,), "num_classes=2", augmentation="sttr")
    with pytest.raises(ValueError, match="doesn't score classes of images"):
        check("transunet_vit_b16", (held,))
