"""ConvNeXt against Hugging Face's, and other people's names."""

import re

import pytest
import torch
from hugging_face import hugging_face, run

from stereo_tr import load_weights
from stereo_tr.vision.convnext import ConvNeXt

MEAN = torch.tensor((0.485, 0.456, 0.406))[:, None, None]
STD = torch.tensor((0.229, 0.224, 0.225))[:, None, None]
WIDTHS, DEPTHS, CLASSES = (8, 12, 16, 20), (1, 2, 1, 2), 5


def small():
    return ConvNeXt(widths=WIDTHS, depths=DEPTHS, num_classes=CLASSES).eval()


@pytest.fixture(scope="module")
def theirs():
    return hugging_face(
        "convnext",
        "ConvNext",
        hidden_sizes=list(WIDTHS),
        depths=list(DEPTHS),
        num_labels=CLASSES,
        layer_norm_eps=1e-6,
    )


def test_it_is_hugging_faces(theirs):
    model, weights = theirs
    ours = small()
    load_weights(ours, weights)
    x = torch.rand(2, 3, 64, 96)
    expected = run(model, (x - MEAN) / STD)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), expected.logits, rtol=1e-4, atol=1e-4)
        maps = ours.features(x).values()
    for map_, hidden in zip(maps, expected.hidden_states[1:], strict=True):
        torch.testing.assert_close(map_, hidden, rtol=1e-4, atol=1e-4)


SHARED = [
    (r"^convnext\.encoder\.", ""),
    (r"^(stages\.\d+)\.layers\.", r"\1.blocks."),
]
TIMM = [
    *SHARED,
    (r"^classifier", "head.fc"),
    (r"^convnext\.layernorm", "head.norm"),
    (r"^convnext\.embeddings\.patch_embeddings", "stem.0"),
    (r"^convnext\.embeddings\.layernorm", "stem.1"),
    (r"downsampling_layer", "downsample"),
    (r"dwconv", "conv_dw"),
    (r"pwconv", "mlp.fc"),
    (r"layernorm", "norm"),
    (r"layer_scale_parameter", "gamma"),
]
AUTHORS = [
    *SHARED,
    (r"blocks\.", ""),
    (r"^classifier", "head"),
    (r"^convnext\.layernorm", "norm"),
    (r"^convnext\.embeddings\.patch_embeddings", "downsample_layers.0.0"),
    (r"^convnext\.embeddings\.layernorm", "downsample_layers.0.1"),
    (r"stages\.(\d)\.downsampling_layer", r"downsample_layers.\1"),
    (r"layernorm", "norm"),
    (r"layer_scale_parameter", "gamma"),
]


@pytest.mark.parametrize("layout", [TIMM, AUTHORS], ids=["timm", "authors"])
def test_other_layouts_load(theirs, layout):
    _, weights = theirs
    other = {}
    for name, value in weights.items():
        for old, new in layout:
            name = re.sub(old, new, name)
        other[name] = value
    first, second = small(), small()
    load_weights(first, weights)
    load_weights(second, other)
    load_weights(second, second.state_dict())
    for name, value in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], value), name
