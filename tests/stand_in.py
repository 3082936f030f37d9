"""A tiny model and tiny data for tests of training, also as a command: stand_in.py ARGUMENTS.

The command is `stereo-tr train` after both are registered; it runs in processes of its own, so that
it can be multiplied.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

import stereo_tr
from stereo_tr import pretrained, stereo_data
from stereo_tr.datasets.sample import StereoSample
from stereo_tr.stereo.output import StereoOutput


class TinyModel(nn.Module):
    """Guesses disparity from both views with two convolutions; draws noise as a dropout would."""

    def __init__(self, channels: int = 3, noise: float = 0.1):
        super().__init__()
        self.first = nn.Conv2d(6, channels, 3, padding=1)
        self.norm = nn.GroupNorm(1, channels)
        self.regression = nn.Conv2d(channels, 1, 1)
        self.noise = noise

    def forward(self, left: Tensor, right: Tensor) -> StereoOutput:
        x = self.norm(self.first(torch.cat([left, right], 1)).relu())
        if self.training:
            x = nn.functional.dropout(x, self.noise)
        disparity = 10 * self.regression(x)[:, 0]
        return StereoOutput(disparity, disparity.sigmoid(), disparity.sigmoid(), None)

    def training_losses(self, sample: StereoSample) -> dict[str, Tensor]:
        output = self(sample.left, sample.right)
        error = (output.disparity - sample.disparity).abs()
        occlusion = nn.functional.mse_loss(output.occlusion, sample.occluded.float())
        return {"disparity": error.mean(), "occlusion": 0.1 * occlusion}


class TinyPairs(Dataset[StereoSample]):
    """Pair `index` is drawn from (seed, index); its disparity follows from its brightness.

    What is in `happen` under an index happens when a run with seed 0 reads that pair.
    """

    happen: dict[int, Callable[[], None]] = {}  # noqa: RUF012
    bad = -1
    """index of a pair whose disparity is infinite"""

    def __init__(self, height: int, width: int, seed: int):
        self.size, self.seed = (height, width), seed

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, index: int) -> StereoSample:
        if self.seed == 0:
            self.happen.get(index, lambda: None)()
        draw = torch.Generator().manual_seed(self.seed % 1000 * 100_000 + index)
        left = torch.rand(3, *self.size, generator=draw)
        right = torch.rand(3, *self.size, generator=draw)
        disparity = 4 * left[0] + 2 * right[1]
        if index == self.bad:
            disparity = disparity / 0
        everywhere = torch.ones(self.size, dtype=torch.bool)
        nowhere = ~everywhere
        return StereoSample(
            left,
            right,
            disparity,
            everywhere,
            nowhere,
            disparity,
            nowhere,
            nowhere,
            f"tiny {index}",
        )


def create(name: str, **overrides: float) -> nn.Module:
    if name != "tiny":
        raise ValueError(f"unknown model {name!r}")
    return TinyModel(**overrides)


def register(patch: pytest.MonkeyPatch) -> None:
    """Let the command find both, and nothing happen until a test says what."""
    patch.setattr(pretrained, "create_model", create)
    patch.setitem(stereo_data.DATA, "tiny", TinyPairs)
    patch.setattr(TinyPairs, "happen", {})
    patch.setattr(TinyPairs, "bad", -1)
    # Curves and pictures have a test of their own; importing them takes seconds.
    patch.setitem(sys.modules, "torch.utils.tensorboard", None)


def environment() -> dict[str, str]:
    """For processes that run this file: the package under test, installed or not, and one thread.

    Start them elsewhere than in a checkout, which is no installed package.
    """
    paths = [Path(stereo_tr.__file__).parent.parent, Path(__file__).parent.parent]
    return os.environ | {"PYTHONPATH": ":".join(map(str, paths)), "OMP_NUM_THREADS": "1"}


if __name__ == "__main__":
    from stereo_tr.scripts import train

    with pytest.MonkeyPatch.context() as patch:
        register(patch)
        if index := os.environ.get("STEREO_TR_DIES_AT"):
            # The process that reads this pair is killed.
            TinyPairs.happen = {int(index): lambda: os.kill(os.getpid(), signal.SIGKILL)}
        train.main(sys.argv[1:])
