from functools import partial

import pytest
import torch
from golden_vision import golden, parameters_and_operations

from stereo_tr.attention import Everything, Windows
from stereo_tr.convolution import InvertedBottleneck
from stereo_tr.pretrained import create_model, load_weights
from stereo_tr.vision.moat import MOAT, BatchNorm, MoatBlock, translate

TINY = partial(
    MOAT, stem=8, depths=(1, 2, 2, 1), widths=(8, 16, 32, 48), head=8, tables=(4, 2), num_classes=10
)


def nchw(x):
    return x.permute(0, 3, 1, 2)


def load_block(block, weights):
    prefix = "stages.0.0."
    named = {name.replace("/", "/block_00_00/", 1): value for name, value in weights.items()}
    translated = translate(named)
    assert all(name.startswith(prefix) for name in translated)
    block.load_state_dict({name[len(prefix) :]: value for name, value in translated.items()})


@pytest.mark.parametrize(
    "name",
    ["moat_block_s1", "moat_block_s2_even", "moat_mbconv_s2_even", "moat_mbconv_s2_odd_pool3"],
)
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_blocks_are_the_authors(name, mode):
    config, weights, tensors = golden(name)
    kind, config = config["kind"], config["config"]
    x = nchw(tensors["in/x"])
    inputs, outputs = x.shape[1], config["hidden_size"]
    stride, pool = config["block_stride"], config["pool_size"]
    if kind == "MOATBlock":
        window = config["window_size"]
        block = MoatBlock(
            inputs,
            outputs,
            stride=stride,
            layout=Windows(*window) if window else Everything(),
            table=config["position_embedding_size"],
            head=config["head_size"],
            pool=pool,
        )
    else:
        block = InvertedBottleneck(
            inputs,
            outputs,
            stride=stride,
            norm=BatchNorm,
            inner_norm=BatchNorm,
            squeezed=int(config["se_ratio"] * outputs),
            pool=pool,
            same=True,
        )
    load_block(block, weights)
    out = block.train(mode == "train")(x)
    torch.testing.assert_close(out, nchw(tensors[f"{mode}/out"]), rtol=2e-5, atol=2e-5)


@torch.no_grad()
def test_the_classifier_is_the_authors():
    config, weights, tensors = golden("moat_small_cls_64")
    model = TINY(windows=config["window_size"][2:]).eval()
    assert sum(x.numel() for x in model.parameters()) <= config["params"]
    load_weights(model, weights)
    logits = model(nchw(tensors["in/x"]) / 2 + 0.5)
    torch.testing.assert_close(logits, tensors["out/logits"], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_pyramid_is_the_authors():
    config, weights, tensors = golden("moat_small_globalend_64x96")
    model = TINY(
        windows=config["window_size"][2:],
        tables=(14, 7),
        last_is_global=True,
        pool=config["pool_size"],
        num_classes=0,
    ).eval()
    # this file has no head
    norm = {f"moat/final_layer_norm/{name}": torch.ones(48) for name in ("gamma", "beta")}
    load_weights(model, weights | norm)
    maps = model.features(nchw(tensors["in/x"]) / 2 + 0.5)
    for stage, stride in ((2, 4), (3, 8), (4, 16), (5, 32)):
        theirs = nchw(tensors[f"out/stage{stage}"])
        torch.testing.assert_close(maps[stride], theirs, rtol=1e-4, atol=1e-4)


SIZES = {  # millions of parameters, and of multiply-accumulates at an image size (facts/sizes.md)
    "tiny_moat_0": (3.355, 256, 1040),
    "tiny_moat_1": (5.12, 256, 1580),
    "tiny_moat_2": (9.77, 256, 2970),
    "tiny_moat_3": (19.53, 256, 5900),
    "moat_0": (27.85, 224, 5640),
    "moat_1": (41.60, 224, 9000),
    "moat_2": (73.42, 384, 53280),
    "moat_3": (189.96, 512, 263410),
    "moat_4": (483.21, 512, 636270),
}


@pytest.mark.parametrize("name", SIZES)
def test_size_and_cost_are_the_published(name):
    parameters, side, operations = SIZES[name]
    cheap = name in ("tiny_moat_0", "moat_0")  # counting takes seconds, so of small ones only
    count, cost = parameters_and_operations(name, (1, 3, side, side) if cheap else None)
    assert count == pytest.approx(parameters * 1e6, rel=1e-3)
    if cost is not None:
        assert cost == pytest.approx(operations * 1e6, rel=0.015)


def test_without_position_tables():
    with torch.device("meta"):
        model = create_model("tiny_moat_0", tables=(None, None))
    assert sum(x.numel() for x in model.parameters()) == pytest.approx(3.332e6, rel=1e-3)


@pytest.mark.parametrize("windows", [(None, None), ((2, 3), (1, 2))])
def test_any_size_and_a_batch_gives_what_its_images_give_alone(windows):
    """Odd sizes, one smaller than the total stride, and windows that don't divide the map."""
    model = TINY(windows=windows, in_channels=2).eval()
    x = torch.rand(3, 2, 49, 83)
    with torch.no_grad():
        maps = model.features(x)
        alone = torch.cat([model(each[None]) for each in x])
        torch.testing.assert_close(model(x), alone, rtol=1e-4, atol=1e-5)
    for stride, width in model.feature_channels.items():
        assert maps[stride].shape == (3, width, -(-49 // stride), -(-83 // stride))
    assert model(x[..., :17, :5]).shape == (3, 10)


def test_heads_must_fit():
    with pytest.raises(ValueError, match="width 48 isn't a multiple of a head's 32 channels"):
        TINY(head=32)


def test_unknown_variables_are_kept_for_the_strict_comparison():
    assert list(translate({"moat/block_00_01/strange_conv/kernel": torch.zeros(1, 1, 2, 3)})) == [
        "stages.0.1.strange_conv.weight"
    ]
    assert list(translate({"stages.0.1.widen.weight": torch.zeros(2)})) == [
        "stages.0.1.widen.weight"
    ]
