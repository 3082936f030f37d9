"""Swin against Hugging Face's; padding and tables of other windows."""

import pytest
import torch
from hugging_face import hugging_face, run

from stereo_tr import load_weights
from stereo_tr.vision.swin import PatchMerging, Swin

MEAN = torch.tensor((0.485, 0.456, 0.406))[:, None, None]
STD = torch.tensor((0.229, 0.224, 0.225))[:, None, None]
CHANNELS, DEPTHS, HEADS, CLASSES = 8, (2, 1, 2, 2), (1, 2, 4, 8), 5


def small(window):
    return Swin(
        channels=CHANNELS, depths=DEPTHS, heads=HEADS, window=window, num_classes=CLASSES
    ).eval()


def theirs(window, size):
    return hugging_face(
        "swin",
        "Swin",
        embed_dim=CHANNELS,
        depths=list(DEPTHS),
        num_heads=list(HEADS),
        window_size=window,
        image_size=list(size),
        num_labels=CLASSES,
    )


# At the first size the last stage is a single window.
@pytest.mark.parametrize(("window", "size"), [(3, (96, 96)), (2, (128, 192))])
def test_it_is_hugging_faces(window, size):
    model, weights = theirs(window, size)
    ours = small(window)
    load_weights(ours, weights)
    x = torch.rand(2, 3, *size)
    expected = run(model, (x - MEAN) / STD)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), expected.logits, rtol=1e-4, atol=1e-4)


def timm_names(weights):
    """The same weights as timm keeps them: fused projections, merging before a stage."""
    result = {}
    for name, value in weights.items():
        if ".k_proj." in name or ".v_proj." in name:
            continue
        if ".q_proj." in name:
            parts = [weights[name.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
            name, value = name.replace("attention.q_proj", "attn.qkv"), torch.cat(parts)
        name = name.replace("swin.embeddings.patch_embeddings.projection", "patch_embed.proj")
        name = name.replace("swin.embeddings.norm", "patch_embed.norm")
        name = name.replace("swin.layernorm", "norm").replace("swin.encoder.", "")
        name = name.replace("layernorm_before", "norm1").replace("layernorm_after", "norm2")
        name = name.replace("attention.relative_position_bias.", "attn.")
        name = name.replace("attention.o_proj", "attn.proj").replace("classifier", "head.fc")
        parts = name.split(".")
        if "downsample" in parts:
            parts[1] = str(int(parts[1]) + 1)
        result[".".join(parts)] = value
    result["layers.0.blocks.1.attn_mask"] = torch.zeros(4, 9, 9)
    result["layers.0.blocks.1.attn.relative_position_index"] = torch.zeros(9, 9)
    return result


def older_names(weights):
    """As transformers 4 named them."""
    result = {}
    for name, value in weights.items():
        for letter, word in (("q", "query"), ("k", "key"), ("v", "value")):
            name = name.replace(f"attention.{letter}_proj", f"attention.self.{word}")
        name = name.replace("attention.relative_position_bias.", "attention.self.")
        name = name.replace("attention.o_proj", "attention.output.dense")
        name = name.replace("mlp.fc1", "intermediate.dense").replace("mlp.fc2", "output.dense")
        result[name] = value
    return result


def authors_names(weights):
    """As timm, but a merging belongs to the stage before."""
    result = {}
    for name, value in timm_names(weights).items():
        parts = name.replace("head.fc", "head").split(".")
        if "downsample" in parts:
            parts[1] = str(int(parts[1]) - 1)
        result[".".join(parts)] = value
    return result


@pytest.mark.parametrize("rename", [timm_names, authors_names, older_names])
def test_other_layouts_load(rename):
    _, weights = theirs(3, (96, 96))
    first, second = small(3), small(3)
    load_weights(first, weights)
    load_weights(second, rename(weights))
    load_weights(second, second.state_dict())
    for name, value in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], value), name


def test_a_map_smaller_than_the_window_meets_as_a_whole():
    """20 x 20 pixels are 5 x 5 tokens: windows of 7 are padded, windows of 5 aren't."""
    wide, fitting = small(7), small(5)
    weights = dict(wide.state_dict())
    for name, value in weights.items():
        if name.endswith("position.table"):
            table = value.normal_().unflatten(0, (13, 13))
            weights[name] = table[2:-2, 2:-2].flatten(0, 1)
    load_weights(fitting, weights)
    x = torch.rand(2, 3, 20, 20)
    with torch.no_grad():
        torch.testing.assert_close(wide(x), fitting(x), rtol=1e-4, atol=1e-5)


def test_tables_are_resized_for_other_windows():
    """Offset 0 stays in the middle, opposite offsets stay opposite, rows and columns apart."""
    first, second = small(4), small(6)
    for name, value in first.state_dict().items():
        if name.endswith("position.table"):
            y, x = torch.meshgrid(torch.arange(-3.0, 4), torch.arange(-3.0, 4), indexing="ij")
            value.copy_((10 * y + x + 7).flatten()[:, None])
    load_weights(second, first.state_dict())
    table = second.state_dict()["stages.0.0.0.branch.attention.position.table"]
    table = table[:, 0].unflatten(0, (11, 11)) - 7
    assert table[5, 5].abs() < 1e-5
    torch.testing.assert_close(table, -table.flip(0, 1), rtol=0, atol=1e-4)
    torch.testing.assert_close(table[:, 5], 10 * table[5], rtol=1e-4, atol=1e-4)
    assert (table[5].diff() > 0).all()


def test_an_odd_map_is_padded_before_merging():
    merging, x = PatchMerging(4), torch.randn(2, 5, 3, 4)
    padded = torch.zeros(2, 6, 4, 4)
    padded[:, :5, :3] = x
    torch.testing.assert_close(merging(x), merging(padded))
    assert merging(x).shape == (2, 3, 2, 8)
