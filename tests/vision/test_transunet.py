from functools import partial

import pytest
import torch
from golden_vision import golden, parameters_and_operations

from stereo_tr.pretrained import load_weights
from stereo_tr.vision.transunet import TransUNet, segmentation_loss

TINY = partial(
    TransUNet,
    channels=48,
    depth=2,
    heads=4,
    hidden=96,
    width=32,
    units=(2, 2, 2),
    decoder=(32, 24, 16, 8),
    image_size=64,
    num_classes=5,
)


@torch.no_grad()
def test_the_network_is_the_authors():
    _, weights, tensors = golden("transunet_small")
    model = TINY().eval()
    load_weights(model, weights)
    maps, tokens = model.tokens(tensors["in/x"])
    close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-4)
    for index, map_ in enumerate(maps):
        close(map_, tensors[f"out/skip{index}"])
    close(tokens.flatten(1, 2), tensors["out/tokens"])
    close(model(tensors["in/x"]), tensors["out/logits"])


def test_the_loss_is_the_authors():
    _, _, tensors = golden("transunet_loss")
    logits = tensors["in/logits"].requires_grad_()
    loss = segmentation_loss(logits, tensors["in/label"])
    torch.testing.assert_close(loss, tensors["out/total"], rtol=1e-6, atol=1e-6)
    loss.backward()
    torch.testing.assert_close(logits.grad, tensors["out/grad"], rtol=1e-4, atol=1e-7)


def test_labels_must_be_classes():
    with pytest.raises(ValueError, match=r"labels from 0 to 3, but the model has the 3 classes"):
        segmentation_loss(torch.zeros(1, 3, 2, 2), torch.tensor([[[0, 1], [2, 3]]]))


@pytest.mark.parametrize(
    ("name", "overrides", "side", "parameters", "operations"),
    [
        ("transunet_r50_vit_b16", {}, 224, 105.28e6, 29.23e9),
        ("transunet_r50_vit_b16", {"image_size": 512}, None, 105.91e6, None),
        ("transunet_r50_vit_b16", {"skips": 0}, 224, 103.77e6, 26.91e9),
        ("transunet_vit_b16", {}, 224, 91.67e6, 22.97e9),
        (
            "transunet_r50_vit_b16",
            {"channels": 1024, "depth": 24, "heads": 16, "hidden": 4096},
            None,
            324.02e6,
            None,
        ),
    ],
)
def test_size_and_cost_are_the_published(name, overrides, side, parameters, operations):
    shape = None if side is None else (1, 3, side, side)
    count, cost = parameters_and_operations(name, shape, **overrides)
    assert count == pytest.approx(parameters, rel=1e-3)
    if operations is not None:
        assert cost == pytest.approx(operations, rel=0.015)


@pytest.mark.parametrize("units", [(1, 2, 1), None])
@torch.no_grad()
def test_any_size_and_a_batch_gives_what_its_images_give_alone(units):
    model = TINY(units=units, in_channels=2, image_size=(32, 48)).eval()
    x = torch.rand(3, 2, 37, 51)
    out = model(x)
    assert out.shape == (3, 5, 37, 51)
    torch.testing.assert_close(
        out, torch.cat([model(each[None]) for each in x]), rtol=1e-4, atol=1e-5
    )
    for stride, map_ in model.features(x).items():
        width = model.feature_channels[stride]
        assert map_.shape == (3, width, -(-37 // stride), -(-51 // stride))


@torch.no_grad()
def test_grey_images_are_taken_for_three_equal_channels():
    model, x = TINY().eval(), torch.rand(2, 1, 32, 48)
    assert torch.equal(model(x), model(x.repeat(1, 3, 1, 1)))
    with pytest.raises(ValueError, match="make the model with in_channels=2"):
        model(torch.rand(1, 2, 32, 48))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [({"skips": 4}, "has 3 maps to join"), ({"num_classes": 0}, "needs at least 1")],
)
def test_options_out_of_range(overrides, message):
    with pytest.raises(ValueError, match=message):
        TINY(**overrides)
