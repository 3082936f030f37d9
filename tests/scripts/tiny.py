"""A model without weights for tests of commands that match pairs, and a pair of views.

As a program, `tiny.py COMMAND ARGUMENTS` is `stereo-tr COMMAND ARGUMENTS` with that model; it runs
in processes of its own, so that it can be multiplied.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

import stereo_tr
from stereo_tr.matcher import StereoMatcher
from stereo_tr.stereo.output import StereoOutput


class RampModel(nn.Module):
    """Disparity 20 everywhere, but 400 in row 1 and 0 in row 2; occluded in the first 4 columns."""

    def forward(self, left, right):
        disparity = torch.full_like(left[:, 0], 20)
        disparity[:, 1], disparity[:, 2] = 400, 0
        occlusion = torch.zeros_like(disparity)
        occlusion[..., :4] = 0.75
        return StereoOutput(disparity, occlusion, 1 - occlusion, None)


def use_it(monkeypatch) -> None:
    """Let `stereo-tr estimate` find this model in place of the packaged one."""

    def from_pretrained(
        weights=None, model=None, device="cpu", precision="float32", *limits, **more
    ):
        return StereoMatcher(RampModel(), device, precision=precision)

    monkeypatch.setattr(StereoMatcher, "from_pretrained", from_pretrained)


def write_views(folder: Path, left="left.png", right="right.png", height=40, width=56):
    """Two views, 20 px apart."""
    noise = np.random.default_rng(0).random((height // 4, width // 4 + 5, 3), np.float32)
    wide = (cv2.resize(noise, (width + 20, height)) * 255).astype(np.uint8)
    for name, view in ((left, wide[:, :width]), (right, wide[:, 20:])):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), view)
    return [str(folder / left), str(folder / right)]


def run_in_processes(count: int, arguments: list[str]) -> str:
    """Run this file in `count` processes, as torchrun does; return what they print."""
    path = os.pathsep.join([str(Path(stereo_tr.__file__).parents[1]), *filter(None, sys.path)])
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    told = {"MASTER_ADDR": "localhost", "MASTER_PORT": f"{port}", "WORLD_SIZE": f"{count}"}
    started = [
        subprocess.Popen(
            [sys.executable, __file__, *arguments],
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "RANK": f"{rank}"}
            | told,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    said = ""
    for process in started:
        output, error = process.communicate(timeout=600)  # ends a hang
        assert process.returncode == 0, error
        said += output
    return said


if __name__ == "__main__":
    from stereo_tr.scripts.main import main

    with pytest.MonkeyPatch.context() as patch:
        use_it(patch)
        main(sys.argv[1:])
