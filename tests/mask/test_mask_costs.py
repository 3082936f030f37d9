"""Parameters and multiply-accumulates as published, counted without computing anything."""

import pytest
from golden_vision import parameters_and_operations

SIZE = (1, 3, 800, 1200)

KMAX = {  # millions of parameters, billions of multiply-accumulates at 1200 x 800
    "kmax_resnet50": (56.58, 166.8),
    "kmax_max_s": (74.42, 238.0),
    "kmax_convnext_tiny": (60.94, 172.3),
    "kmax_convnext_small": (82.57, 253.2),
    "kmax_convnext_base": (121.51, 382.1),
    "kmax_convnext_large": (231.84, 748.4),
}

INTERACTIONS = {  # of ResNet-50 and MaX-S: the lecture's table
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
    "max_deeplab_s": (61.90, 127.7, 77.76),
    "max_deeplab_l": (450.87, 1458.1, None),
}


@pytest.mark.parametrize("name", MAX)
def test_max(name):
    parameters, cost, with_semantic = MAX[name]
    count, operations = parameters_and_operations(name, (1, 3, 641, 641))
    assert count / 1e6 == pytest.approx(parameters, rel=0.005)
    assert operations / 1e9 == pytest.approx(cost, rel=0.015)
    if with_semantic:
        count, _ = parameters_and_operations(name, semantic=True)
        assert count / 1e6 == pytest.approx(with_semantic, rel=0.005)


@pytest.mark.parametrize("name", KMAX)
def test_kmax(name):
    parameters, cost = KMAX[name]
    count, operations = parameters_and_operations(name, SIZE)
    assert count / 1e6 == pytest.approx(parameters, rel=0.005)
    assert operations / 1e9 == pytest.approx(cost, rel=0.015)


@pytest.mark.parametrize(("name", "interaction"), INTERACTIONS)
def test_the_interaction_table(name, interaction):
    parameters, cost = INTERACTIONS[name, interaction]
    count, operations = parameters_and_operations(name, SIZE, interaction=interaction)
    assert count / 1e6 == pytest.approx(parameters, rel=0.005)
    assert operations / 1e9 == pytest.approx(cost, rel=0.015)
