"""Reads ../shared/golden/vision for the tests of the vision models."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from stereo_tr.pretrained import create_model

FOLDER = Path(__file__).resolve().parents[2] / "../shared/golden/vision"


class Golden(NamedTuple):
    """One file: how the reference was made, its weights, what went in and came out."""

    config: dict[str, Any]
    weights: dict[str, Tensor]
    tensors: dict[str, Tensor]
    """by full name: "in/x", "out/logits", ..."""


def golden(name: str) -> Golden:
    """Read a file, or skip the test where the files aren't there."""
    path = FOLDER / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"needs {path}")
    with np.load(path) as file:
        held = {key: file[key] for key in file.files}
    config = json.loads(str(held.pop("config")))
    tensors = {key: torch.from_numpy(value) for key, value in held.items()}
    weights = {key[2:]: value for key, value in tensors.items() if key.startswith("w/")}
    return Golden(config, weights, tensors)


def parameters_and_operations(
    name: str, shape: tuple[int, ...] | None = None, **overrides: Any
) -> tuple[int, int | None]:
    """Count a model's parameters and, for an input of `shape`, its multiply-accumulates.

    Both without computing a number: on the meta device.
    """
    with torch.device("meta"):
        model = create_model(name, **overrides).eval()
        x = None if shape is None else torch.zeros(shape)
    parameters = sum(x.numel() for x in model.parameters())
    if x is None:
        return parameters, None
    with FlopCounterMode(display=False) as counter:
        model(x)
    return parameters, counter.get_total_flops() // 2
