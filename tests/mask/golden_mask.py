"""Reads ../shared/golden/vision for the tests of losses, merging and scores."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

FOLDER = Path(__file__).resolve().parents[2] / "../shared/golden/vision"


def read(name):
    """The file's options, and its tensors by full name; skips the test where it isn't there."""
    path = FOLDER / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"needs {path}")
    with np.load(path) as file:
        held = {key: file[key] for key in file.files}
    config = json.loads(str(held.pop("config")))
    texts = {key: str(held.pop(key)) for key in list(held) if held[key].dtype.kind == "U"}
    return config | texts, {key: torch.from_numpy(value) for key, value in held.items()}
