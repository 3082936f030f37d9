"""Files of weights, read without running code.

    .safetensors              names, arrays, metadata
    .pth .pth.tar .pt .ckpt   torch.save of a state dict or of a checkpoint around one
    .npz                      NumPy's archive, one array a name

Tests  tests/test_pretrained.py: damaged files, a pickle that holds code
"""

import argparse
import warnings
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

SUFFIXES = (".safetensors", ".pth", ".pth.tar", ".pt", ".ckpt", ".npz")

_DATA_TYPES = [
    # What published checkpoints keep beside their weights (best score, settings): plain data.
    argparse.Namespace,
    np.dtype,
    *{type(np.dtype(kind)) for kind in (np.float32, np.float64, np.int32, np.int64, np.bool_)},
    (np.float64(0).__reduce__()[0], "numpy.core.multiarray.scalar"),
    (np.float64(0).__reduce__()[0], "numpy._core.multiarray.scalar"),
]


def read_weights(path: Path) -> tuple[Any, dict[str, str]]:
    """Return what a weights file holds (arrays by name, perhaps nested) and its metadata.

    Raises FileNotFoundError, other OSError (no permission, a folder), and ValueError for an unknown
    ending, a damaged file, or a pickle that holds more than data.
    """
    if not path.name.endswith(SUFFIXES):
        raise ValueError(f"{path} is no weights file; known endings: {' '.join(SUFFIXES)}")
    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise ValueError(f"{path} is empty")
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"there is no file {path}; give weights that exist ({' '.join(SUFFIXES)})"
        ) from error
    try:
        if path.name.endswith(".safetensors"):
            with safe_open(path, "pt") as tensors:
                # Such a file is no dictionary: it has names to ask for, but can't be iterated.
                names = list(tensors.keys())
                return {name: tensors.get_tensor(name) for name in names}, tensors.metadata() or {}
        if path.name.endswith(".npz"):
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return dict(arrays), {}
        with torch.serialization.safe_globals(_DATA_TYPES), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols; the error says what matters
            return torch.load(path, map_location="cpu", weights_only=True), {}
    except UnpicklingError as error:
        raise ValueError(
            f"{path} is damaged, or holds code that would run on loading; nothing was run. "
            "Save the state dict alone with torch.save, or as safetensors"
        ) from error
    except OSError:
        raise
    except Exception as error:  # damaged bytes make these readers fail in every way there is
        raise ValueError(f"{path} can't be read: damaged, cut short or no weights file") from error
