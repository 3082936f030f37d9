"""ResNet against Hugging Face's, and other people's names."""

import re

import pytest
import torch
from hugging_face import hugging_face, run

from stereo_tr import load_weights
from stereo_tr.vision.resnet import ResNet

MEAN = torch.tensor((0.485, 0.456, 0.406))[:, None, None]
STD = torch.tensor((0.229, 0.224, 0.225))[:, None, None]
WIDTHS, DEPTHS, CLASSES = (16, 24, 32, 40), (1, 2, 1, 2), 5


def small():
    return ResNet(widths=WIDTHS, depths=DEPTHS, num_classes=CLASSES).eval()


@pytest.fixture(scope="module")
def theirs():
    return hugging_face(
        "resnet",
        "ResNet",
        embedding_size=64,
        hidden_sizes=list(WIDTHS),
        depths=list(DEPTHS),
        num_labels=CLASSES,
    )


def test_it_is_hugging_faces_at_odd_sizes_too(theirs):
    model, weights = theirs
    ours = small()
    load_weights(ours, weights)
    x = torch.rand(2, 3, 65, 47)
    expected = run(model, (x - MEAN) / STD)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), expected.logits, rtol=1e-4, atol=1e-4)
        maps = ours.features(x).values()
    for map_, hidden in zip(maps, expected.hidden_states[1:], strict=True):
        torch.testing.assert_close(map_, hidden, rtol=1e-4, atol=1e-4)


def test_timms_and_torchvisions_names_load(theirs):
    _, weights = theirs
    other = {}
    for name, value in weights.items():
        block = re.match(r"resnet\.encoder\.stages\.(\d)\.layers\.(\d)\.(.*)", name)
        if block:
            stage, index, rest = block.groups()
            rest = rest.replace("shortcut.convolution", "downsample.0")
            rest = rest.replace("shortcut.normalization", "downsample.1")
            for place in range(3):
                rest = rest.replace(f"layer.{place}.convolution", f"conv{place + 1}")
                rest = rest.replace(f"layer.{place}.normalization", f"bn{place + 1}")
            name = f"layer{int(stage) + 1}.{index}.{rest}"
        name = name.replace("resnet.embedder.embedder.convolution", "conv1")
        name = name.replace("resnet.embedder.embedder.normalization", "bn1")
        other[name.replace("classifier.1", "fc")] = value
    first, second = small(), small()
    load_weights(first, weights)
    load_weights(second, other)
    load_weights(second, second.state_dict())
    for name, value in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], value), name


def test_a_block_starts_as_its_shortcut():
    model = small()
    x = torch.randn(2, WIDTHS[1], 6, 5)
    assert torch.equal(model.stages[1][1](x), x.clamp(min=0))
