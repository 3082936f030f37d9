"""With `pytest -n auto` there is a process for each core: each of them keeps to one thread.

Where there is no GPU, Triton's kernels are interpreted. Triton looks at that when it is imported.
Every module and every test begins with the same seed, so that a test draws the same alone, in any
order and in any process; `TEST_SEED=3 pytest` draws otherwise.
"""

import os

import pytest
import torch

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # for the processes that tests start

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"


def seed():
    torch.manual_seed(int(os.environ.get("TEST_SEED", "0")))


@pytest.fixture(autouse=True, scope="module")
def _seeded_for_its_fixtures():
    seed()


@pytest.fixture(autouse=True)
def _seeded(_seeded_for_its_fixtures):
    seed()
