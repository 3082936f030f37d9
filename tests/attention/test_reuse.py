"""The README's example of someone else's model on the core."""

import re
from pathlib import Path

import torch

README = Path(__file__).resolve().parents[2] / "README.md"

EXAMPLE = """\
import torch

import stereo_tr.attention as core


def axial_block(channels: int, heads: int) -> torch.nn.Sequential:
    branches = [
        core.LayoutAttention(layout, core.Attention(channels, heads, position=core.Rotary()))
        for layout in (core.Rows(), core.Columns())  # which tokens meet
    ]
    branches.append(core.FeedForward(channels, 4 * channels))
    return torch.nn.Sequential(*(core.Residual(branch, channels) for branch in branches))


model = torch.nn.Sequential(*(axial_block(64, heads=4) for _ in range(3)))
tokens = model(torch.rand(2, 30, 40, 64))  # maps of tokens, channels last, of any size
"""


def test_the_example_runs_and_connects_everything():
    held = {}
    exec(EXAMPLE, held)
    assert held["tokens"].shape == (2, 30, 40, 64)
    x = torch.rand(1, 5, 7, 64, requires_grad=True)
    held["model"](x)[0, 1, 2].sum().backward()
    assert (x.grad.abs().sum(-1) > 0).all()  # two layers reach every place from every other


def test_the_readme_shows_the_same():
    """Where it shows one: the block that imports the core."""
    for block in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL):
        if "stereo_tr.attention" in block:
            assert block == EXAMPLE
