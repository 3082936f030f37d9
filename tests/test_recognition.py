"""Which model weights were made for, and what is said where they don't fit."""

import pytest
import torch

from stereo_tr import load_weights
from stereo_tr.recognition import best_fit
from stereo_tr.vision.swin import Swin
from stereo_tr.vision.vit import VisionTransformer

SIZES = {"channels": 8, "depths": (1, 2, 1, 1), "heads": (1, 2, 4, 8)}
MODELS = {
    "swin window 3": lambda: Swin(**SIZES, window=3),
    "swin window 5": lambda: Swin(**SIZES, window=5),
    "vit large": lambda: VisionTransformer(channels=16, depth=3, heads=2),
    "vit large also": lambda: VisionTransformer(channels=16, depth=3, heads=2),
    "vit": lambda: VisionTransformer(channels=12, depth=2, heads=2),
}
FAMILIES = (["swin window 5", "swin window 3"], ["vit large also", "vit large", "vit"])


@pytest.mark.parametrize(
    ("name", "found"),
    # windows differ in tables alone, which translation resizes; equal models go by the shorter name
    [*((name, name) for name in MODELS if "also" not in name), ("vit large also", "vit large")],
)
def test_every_size_is_told_from_the_others(name, found):
    weights = MODELS[name]().state_dict()
    assert best_fit(weights, FAMILIES, lambda name: MODELS[name]()) == found


def test_what_is_nothing_of_ours():
    weights = {"fc.weight": torch.zeros(3, 4), "fc.bias": torch.zeros(3)}
    assert best_fit(weights, FAMILIES, lambda name: MODELS[name]()) is None


def small(classes):
    return VisionTransformer(channels=12, depth=1, heads=2, image_size=32, num_classes=classes)


def test_other_classes_are_a_sentence_and_the_rest_can_be_loaded():
    model, weights = small(3), small(5).state_dict()
    head = model.head.weight.clone()
    with pytest.raises(ValueError, match=r"5 classes and the model for 3.*num_classes=5.*keep="):
        load_weights(model, weights)
    load_weights(model, weights, keep=["head"])
    assert torch.equal(model.head.weight, head)
    assert torch.equal(model.norm.weight, weights["norm.weight"])
    assert torch.equal(model.patches.project.weight, weights["patches.project.weight"])
