from functools import partial

import pytest
import torch
from golden_vision import golden, parameters_and_operations

from stereo_tr.pretrained import create_model, load_weights
from stereo_tr.vision.vitamin import ViTamin

TINY = partial(
    ViTamin,
    stem=16,
    channels=64,
    depth=2,
    heads=4,
    convolutions=(2, 2),
    image_size=64,
    num_classes=10,
)
RAW = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@torch.no_grad()
def test_the_network_is_timms():
    _, weights, tensors = golden("vitamin_tiny_64")
    model = TINY(colours=RAW).eval()
    load_weights(model, weights)
    x = tensors["in/x"]
    close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-4)
    close(model.stem(x), tensors["out/stem"])
    maps, tokens = model.stages_of(x)
    close(maps[1], tensors["out/stage2"])
    close(tokens.flatten(1, 2), tensors["out/tokens"])
    close(model(x), tensors["out/logits"])


SIZES = {  # parameters, image size, multiply-accumulates (facts/sizes.md), output width
    "vitamin_small_224": (22.026e6, 224, 5.888e9, 384),
    "vitamin_base_224": (87.53e6, 224, 22.62e9, 512),
    "vitamin_large_224": (333.32e6, 224, 74.92e9, 768),
    "vitamin_large2_224": (333.58e6, 224, 74.92e9, 1024),
    "vitamin_xlarge_256": (436.06e6, 256, 129.9e9, 1152),
}


@pytest.mark.parametrize("name", SIZES)
def test_size_and_cost_are_the_published(name):
    """The published counts have a head of the joint width and without bias."""
    parameters, side, operations, width = SIZES[name]
    counted = partial(parameters_and_operations, name, num_classes=width)
    count, cost = counted((1, 3, side, side) if name == "vitamin_small_224" else None)
    assert count - width == pytest.approx(parameters, rel=1e-3)
    if cost is not None:  # counting takes seconds, so of the smallest only
        assert cost == pytest.approx(operations, rel=0.015)


@torch.no_grad()
def test_any_size_and_a_batch_gives_what_its_images_give_alone():
    model = TINY(in_channels=2, image_size=(48, 80)).eval()
    assert model.position.table.shape == (3, 5, 64)
    x = torch.rand(3, 2, 49, 83)
    alone = torch.cat([model(each[None]) for each in x])
    torch.testing.assert_close(model(x), alone, rtol=1e-4, atol=1e-5)
    for stride, map_ in model.features(x).items():
        width = model.feature_channels[stride]
        assert map_.shape == (3, width, -(-49 // stride), -(-83 // stride))


@torch.no_grad()
def test_a_table_of_another_size_is_resized_while_loading():
    """It then gives what resizing in every call gives."""
    trained, larger = TINY().eval(), TINY(image_size=(32, 96)).eval()
    load_weights(larger, trained.state_dict())
    x = torch.rand(2, 3, 32, 96)
    torch.testing.assert_close(larger(x), trained(x), rtol=1e-4, atol=1e-5)


def test_gradients_are_the_same_with_checkpointing():
    plain, saving = TINY(), TINY(checkpointing=True)
    saving.load_state_dict(plain.state_dict())
    x = torch.rand(2, 3, 40, 56)
    for model in (plain, saving):
        model(x).square().sum().backward()
    for ours, theirs in zip(plain.parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


def test_the_largest_has_no_position_table():
    with torch.device("meta"):
        model = create_model("vitamin_xlarge_256", num_classes=0)
    assert not any("position" in name for name in model.state_dict())
