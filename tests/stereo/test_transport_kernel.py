"""The kernel that a GPU runs, here in Triton's interpreter, which needs none."""

import os

import pytest
import torch

pytest.importorskip("triton", reason="the kernels are Triton's, which isn't installed")
if "TRITON_INTERPRET" not in os.environ:
    reason = "with a GPU kernels are compiled, and these tests hold tensors of the CPU"
    pytest.skip(reason, allow_module_level=True)

from stereo_tr.stereo.transport_kernel import transport_on_gpu


def by_steps(scores, dustbin, iterations):
    """Rows and columns of exp(scores) scaled in turn to their masses, in float64."""
    tokens, keys = scores.shape[-2:]
    full = torch.full((*scores.shape[:-2], tokens + 1, keys + 1), dustbin, dtype=torch.float64)
    full[..., :-1, :-1] = scores
    mass = full.exp()
    row_mass = torch.ones(tokens + 1, dtype=torch.float64)
    column_mass = torch.ones(keys + 1, dtype=torch.float64)
    row_mass[-1], column_mass[-1] = keys, tokens
    for _ in range(iterations):
        mass = mass * (column_mass / mass.sum(-2))[..., None, :]
        mass = mass * (row_mass / mass.sum(-1))[..., None]
    return mass.log()


@pytest.mark.parametrize(
    ("tokens", "keys", "iterations"), [(37, 29, 4), (5, 3, 1), (16, 31, 10), (3, 600, 2)]
)
def test_it_is_sinkhorns_iteration(tokens, keys, iterations):
    torch.manual_seed(tokens)
    scores = 4 * torch.randn(2, 3, tokens, keys)
    found = transport_on_gpu(scores, torch.tensor(0.7), iterations)
    expected = by_steps(scores, 0.7, iterations)
    torch.testing.assert_close(found.double(), expected, atol=5e-5, rtol=1e-5)
    rows = found[..., :-1, :].exp().sum(-1)
    torch.testing.assert_close(rows, torch.ones_like(rows), atol=1e-4, rtol=0)


def test_pairs_that_must_not_meet_get_nothing():
    """Whole columns of -inf, and scores that float32 couldn't hold as exponentials."""
    torch.manual_seed(5)
    scores = 60 * torch.randn(4, 19, 23)
    scores = scores.masked_fill(torch.ones(19, 23, dtype=torch.bool).triu(1), -torch.inf)
    found = transport_on_gpu(scores, torch.tensor(-0.3), 3)
    expected = by_steps(scores, -0.3, 3)
    forbidden = torch.nn.functional.pad(scores, (0, 1, 0, 1)).isneginf()
    assert (found.isneginf() == forbidden).all()
    finite = expected.isfinite()
    torch.testing.assert_close(found[finite].double(), expected[finite], atol=1e-3, rtol=1e-4)
