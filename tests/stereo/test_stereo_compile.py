"""torch.compile takes each stereo model as one graph for any size; it gives what the model gives.

In a process of its own, where nobody checks shapes: that isn't for compilers.
"""

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
PROGRAM = """
import sys

import graphs
import torch

from stereo_tr.stereo.expectation import Expectation

torch.set_num_threads(1)
name, *guided = sys.argv[1].split()
model = graphs.tiny(name)
# Dynamo's graph, run as it is: what a compiler would be given.
compiled = torch.compile(model, backend="eager", fullgraph=True, dynamic=True)
# From 128 px on; below, the cells that the published models pool are as large as the map.
for size in ((2, 3, 131, 150), (3, 3, 140, 137)):
    views = [torch.rand(size) for _ in range(2)]
    if guided:
        batch, _, *sides = size
        views.append(Expectation(30 * torch.rand(batch, *sides), torch.rand(batch, *sides)))
    with torch.inference_mode(), torch._dynamo.config.patch(error_on_recompile=True):
        expected, found = model(*views), compiled(*views)
    # Disparities of random weights span 100 px.
    torch.testing.assert_close(found.disparity, expected.disparity, rtol=0, atol=0.01)
    torch.testing.assert_close(found[1:3], expected[1:3], rtol=0, atol=1e-5)
    print(size)
"""


# sttr_light is of their parts
@pytest.mark.parametrize("name", ["cstr_small", "cstr_small guided", "cstr", "sttr"])
def test_one_graph_for_any_size(name):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, name],
        cwd=TESTS.parent,
        env={"PYTHONPATH": f"{TESTS}:{TESTS.parent}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == 2
