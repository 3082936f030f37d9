"""torch.compile takes each family as one graph, which gives what the model gives.

In a process of its own, where nobody checks shapes: that isn't for compilers.
"""

import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent.parent
PROGRAM = """
import graphs
import torch

torch.set_num_threads(1)


def compared(name, dynamic, sizes, backend="eager"):
    model = graphs.tiny(name)
    if backend != "eager":
        del model.blocks[1:]
    torch._dynamo.reset()
    # "eager" is Dynamo's graph, run as it is: what a compiler would be given.
    compiled = torch.compile(model, backend=backend, fullgraph=True, dynamic=dynamic)
    for size in sizes:
        given = [torch.rand(size)]
        if name.endswith("_clip"):
            given.append(torch.randint(1, 20, (4, 5)))
        with torch.inference_mode():
            expected, found = model(*given), compiled(*given)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)
    print(name, dynamic, flush=True)


for name in graphs.VISION:
    compared(name, False, [(2, 3, 81, 122)])
with torch._dynamo.config.patch(error_on_recompile=True):
    for name in ("resnet50", "vit_tiny_patch16_224"):  # others: a minute of reasoning about sizes
        compared(name, True, [(2, 3, 81, 122), (3, 3, 64, 96)])
    # Arithmetic of sizes is only written out beyond Dynamo.
    compared("vit_tiny_patch16_224", True, [(2, 3, 81, 122), (3, 3, 64, 96)], "aot_eager")
"""


def test_each_family_is_one_graph_and_some_are_one_for_any_size():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=TESTS.parent,
        env={"PYTHONPATH": f"{TESTS}:{TESTS.parent}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.split()) == 2 * (8 + 3)
