"""Reads ../shared/golden/stereo for the tests of the published models."""

from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from stereo_tr.datasets.sample import StereoSample

FOLDER = Path(__file__).resolve().parents[2] / "../shared/golden/stereo"

MEAN = torch.tensor((0.485, 0.456, 0.406))[:, None, None]
STD = torch.tensor((0.229, 0.224, 0.225))[:, None, None]


@cache
def golden(name: str) -> dict[str, Tensor]:
    """Read one file of tensors, or skip the test where the files aren't there."""
    path = FOLDER / f"{name}.safetensors"
    if not path.is_file():
        pytest.skip(f"needs {path}")
    return load_file(path)


def pair(case: str) -> tuple[Tensor, Tensor]:
    """Return left and right in [0, 1]; the files hold them normalised."""
    inputs = golden("inputs")
    left, right = (inputs[f"{case}.{side}"] * STD + MEAN for side in ("left", "right"))
    return left, right


def sample(case: str) -> StereoSample:
    """Return the pair with its truth."""
    inputs = golden("inputs")
    left, right = pair(case)
    disparity = inputs[f"{case}.disp"]
    nothing = torch.zeros_like(disparity)
    return StereoSample(
        left,
        right,
        disparity,
        disparity > 0,
        inputs[f"{case}.occ_mask"].bool(),
        nothing,
        nothing.bool(),
        inputs[f"{case}.occ_mask_right"].bool(),
        [case],
    )
