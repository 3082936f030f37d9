from functools import partial

import numpy as np
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
def test_one_image_of_a_single_token():
    model, x = TINY().eval(), torch.rand(2, 3, 16, 16)
    alone = torch.cat([model(image[None]) for image in x])
    torch.testing.assert_close(alone, model(x), rtol=1e-4, atol=1e-5)


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


def google_arrays(model, heads):
    """What Google's file of an R50+ViT would hold for the weights of `model`, name by name."""
    own, arrays = model.state_dict(), {"cls": torch.zeros(1, 1, 48), "head/bias": torch.zeros(3)}

    def convolution(place, name):
        arrays[f"{place}/kernel"] = own[f"{name}.weight"].permute(2, 3, 1, 0)

    def norm(place, name, shape=(-1,)):
        arrays[f"{place}/scale"] = own[f"{name}.weight"].view(shape)
        arrays[f"{place}/bias"] = own[f"{name}.bias"].view(shape)

    def linear(place, name, into=(), out_of=()):
        weight = own[f"{name}.weight"].T
        arrays[f"{place}/kernel"] = weight.unflatten(*into) if into else weight
        if out_of:
            arrays[f"{place}/kernel"] = weight.unflatten(*out_of)
        bias = own[f"{name}.bias"]
        arrays[f"{place}/bias"] = bias.view(heads, -1) if into else bias

    convolution("conv_root", "trunk.root.0")
    norm("gn_root", "trunk.root.1", (1, 1, 1, -1))
    for stage, blocks in enumerate(model.trunk.stages):
        for unit, block in enumerate(blocks):
            ours, theirs = f"trunk.stages.{stage}.{unit}", f"block{stage + 1}/unit{unit + 1}"
            for part in range(3):
                convolution(f"{theirs}/conv{part + 1}", f"{ours}.branch.{3 * part}")
                norm(f"{theirs}/gn{part + 1}", f"{ours}.branch.{3 * part + 1}", (1, 1, 1, -1))
            if not isinstance(block.shortcut, torch.nn.Identity):
                convolution(f"{theirs}/conv_proj", f"{ours}.shortcut.0")
                norm(f"{theirs}/gn_proj", f"{ours}.shortcut.1", (1, 1, 1, -1))
    convolution("embedding", "to_tokens")
    arrays["embedding/bias"] = own["to_tokens.bias"]
    table = own["position.table"].flatten(0, 1)
    arrays["Transformer/posembed_input/pos_embedding"] = torch.cat((table[:1] * 0, table))[None]
    norm("Transformer/encoder_norm", "norm")
    for index in range(len(model.blocks)):
        ours, theirs = f"blocks.{index}", f"Transformer/encoderblock_{index}"
        norm(f"{theirs}/LayerNorm_0", f"{ours}.0.norm")
        norm(f"{theirs}/LayerNorm_2", f"{ours}.1.norm")
        attention = f"{theirs}/MultiHeadDotProductAttention_1"
        for part in ("query", "key", "value"):
            name = f"{ours}.0.branch.attention.to_{part}"
            linear(f"{attention}/{part}", name, into=(1, (heads, -1)))
        name = f"{ours}.0.branch.attention.to_out"
        linear(f"{attention}/out", name, out_of=(0, (heads, -1)))
        linear(f"{theirs}/MlpBlock_3/Dense_0", f"{ours}.1.branch.0.widen")
        linear(f"{theirs}/MlpBlock_3/Dense_1", f"{ours}.1.branch.0.narrow")
    return {name: array.numpy() for name, array in arrays.items()}


def test_googles_hybrid_fills_the_encoder_and_leaves_the_decoder(tmp_path):
    theirs, model = TINY(), TINY()
    for parameter in theirs.parameters():
        parameter.data.normal_()
    np.savez(tmp_path / "R50+ViT.npz", **google_arrays(theirs, heads=4))
    with pytest.raises(ValueError, match=r"entry\.0\.weight is missing"):
        load_weights(model, tmp_path / "R50+ViT.npz")
    before = model.state_dict()["head.weight"].clone()
    load_weights(model, tmp_path / "R50+ViT.npz", keep=["entry", "steps", "head"])
    assert torch.equal(model.head.weight, before)
    x = torch.rand(2, 3, 48, 32)
    with torch.no_grad():
        maps, tokens = model.eval().tokens(x)
        expected_maps, expected = theirs.eval().tokens(x)
    torch.testing.assert_close(tokens, expected)
    for map_, expected_map in zip(maps, expected_maps, strict=True):
        torch.testing.assert_close(map_, expected_map)
