"""Parameters and multiply-accumulates as published, counted without computing anything."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from stereo_tr import create_model

PARAMETERS = {
    # millions, with the classifier of 1000 classes: counted on the published implementations
    "vit_tiny_patch16_224": 5.717,
    "vit_small_patch16_224": 22.051,
    "vit_small_patch32_224": 22.879,
    "vit_base_patch16_224": 86.568,
    "vit_base_patch32_224": 88.224,
    "vit_large_patch16_224": 304.327,
    "vit_large_patch14_224": 304.204,
    "vit_huge_patch14_224": 632.046,
    "swin_tiny_patch4_window7_224": 28.288,
    "swin_small_patch4_window7_224": 49.606,
    "swin_base_patch4_window7_224": 87.768,
    "swin_base_patch4_window12_384": 87.904,
    "swin_large_patch4_window7_224": 196.532,
    "swin_large_patch4_window12_384": 196.736,
    # as timm publishes them
    "resnet50": 25.557,
    "convnext_tiny": 28.589,
    "convnext_small": 50.224,
    "convnext_base": 88.591,
    "convnext_large": 197.767,
}
COSTS = {
    # billions of multiply-accumulates of one 224 x 224 image
    "vit_tiny_patch16_224": 1.254,
    "swin_tiny_patch4_window7_224": 4.491,
    "resnet50": 4.09,
}


def without_numbers(name, **overrides):
    with torch.device("meta"):
        return create_model(name, **overrides)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(name):
    count = sum(parameter.numel() for parameter in without_numbers(name).parameters())
    assert count / 1e6 == pytest.approx(PARAMETERS[name], rel=1e-3)


@pytest.mark.parametrize("name", COSTS)
def test_costs(name):
    model = without_numbers(name).eval()
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, 224, 224, device="meta"))
    assert counter.get_total_flops() / 2e9 == pytest.approx(COSTS[name], rel=0.015)


def test_costs_grow_as_told():
    """ViT's attention with the square of the tokens, Swin with the area."""

    def cost(name, side, **overrides):
        model = without_numbers(name, **overrides).eval()
        with FlopCounterMode(display=False) as counter:
            model(torch.empty(1, 3, side, side, device="meta"))
        return counter.get_total_flops() / 2

    swin = {"depths": (1, 1, 1, 1), "num_classes": 0}
    once, twice = (cost("swin_tiny_patch4_window7_224", side, **swin) for side in (224, 448))
    assert twice / once == pytest.approx(4)
    vit = {"depth": 1, "num_classes": 0}
    channels, patch = 192, 16
    for side in (224, 448):
        tokens = (side // patch) ** 2 + 1
        expected = 12 * tokens * channels**2 + 2 * tokens**2 * channels
        expected += (tokens - 1) * 3 * patch**2 * channels
        assert cost("vit_tiny_patch16_224", side, **vit) == expected
