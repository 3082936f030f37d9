"""Parameters and multiply-accumulates as published, counted without computing anything."""

from functools import cache

import pytest
import torch
from golden_vision import parameters_and_operations
from torch.utils.flop_counter import FlopCounterMode

from stereo_tr.mask.decoder import MaskDecoder

HEIGHT, WIDTH = 800, 1200

KMAX = {  # millions of parameters, billions of multiply-accumulates at 1200 x 800
    "kmax_resnet50": (56.58, 166.8),
    "kmax_max_s": (74.42, 238.0),
    "kmax_convnext_tiny": (60.94, 172.3),
    "kmax_convnext_small": (82.57, 253.2),
    "kmax_convnext_base": (121.51, 382.1),
    "kmax_convnext_large": (231.84, 748.4),
}
COUNTED = ("kmax_resnet50", "kmax_max_s")  # each takes seconds

INTERACTIONS = {  # the lecture's table
    ("kmax_resnet50", "cross"): (55.3, 163.9),
    ("kmax_resnet50", "dual_cross"): (57.4, 174.0),
    ("kmax_resnet50", "kmeans"): (56.6, 166.8),
    ("kmax_resnet50", "dual_kmeans"): (58.6, 176.9),
    ("kmax_max_s", "cross"): (73.2, 237),
    ("kmax_max_s", "dual_cross"): (75.2, 247),
    ("kmax_max_s", "kmeans"): (74.4, 240),
    ("kmax_max_s", "dual_kmeans"): (76.5, 248),
}

MAX = {  # at 641 x 641, without the semantic branch; with it, 15.86 million more
    "max_deeplab_s": (61.90, 127.7),
    "max_deeplab_l": (450.87, 1458.1),
}


@cache
def counted(name):
    return parameters_and_operations(name, (1, 3, HEIGHT, WIDTH))


@cache
def of_decoder(interaction):
    with torch.device("meta"):
        widths = (2048, 1024, 512, 256)
        decoder = MaskDecoder(widths, num_classes=133, num_queries=128, interaction=interaction)
        maps = [
            torch.zeros(1, width, -(-HEIGHT // stride), -(-WIDTH // stride))
            for width, stride in zip(widths, (32, 16, 8, 4), strict=True)
        ]
        with FlopCounterMode(display=False) as counter:
            decoder.eval()(maps)
    parameters = sum(x.numel() for x in decoder.parameters())
    return parameters, counter.get_total_flops() // 2


@pytest.mark.parametrize("name", MAX)
def test_max(name):
    parameters, cost = MAX[name]
    count, operations = parameters_and_operations(name, (1, 3, 641, 641))
    assert count / 1e6 == pytest.approx(parameters, rel=0.005)
    assert operations / 1e9 == pytest.approx(cost, rel=0.015)


@pytest.mark.parametrize(
    ("name", "parameters"), [("max_deeplab_s", 77.76), ("kmax_resnet50", 72.44)]
)
def test_with_the_semantic_branch(name, parameters):
    count, _ = parameters_and_operations(name, semantic=True)
    assert count / 1e6 == pytest.approx(parameters, rel=0.005)


@pytest.mark.parametrize("name", KMAX)
def test_kmax(name):
    parameters, cost = KMAX[name]
    count, operations = counted(name) if name in COUNTED else parameters_and_operations(name)
    assert count / 1e6 == pytest.approx(parameters, rel=0.005)
    if operations:
        assert operations / 1e9 == pytest.approx(cost, rel=0.015)


@pytest.mark.parametrize(("name", "interaction"), INTERACTIONS)
def test_the_interaction_table(name, interaction):
    """The models differ in the decoder alone."""
    parts = zip(counted(name), of_decoder("kmeans"), of_decoder(interaction), strict=True)
    count, operations = (whole - kmeans + this for whole, kmeans, this in parts)
    parameters, cost = INTERACTIONS[name, interaction]
    assert count / 1e6 == pytest.approx(parameters, rel=0.005)
    assert operations / 1e9 == pytest.approx(cost, rel=0.015)
