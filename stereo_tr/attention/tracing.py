"""Whether a graph is being recorded: by torch.compile, torch.export, torch.jit.trace, for ONNX.

A recorded graph serves all sizes, so where it is made no decision may follow from a size, nothing
is cut to a memory budget, and compilers choose kernels themselves.

Tests  tests/stereo/test_stereo_compile.py, tests/test_export.py; tests/attention/test_by_offset.py
"""

import torch


def graph_is_recorded() -> bool:
    """Say whether what runs now is written into a graph that others will run later."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def transformed_by_torch_func() -> bool:
    """Say whether what runs now is inside a transform of torch.func: grad, vmap, jvp ...

    They know neither a way back of one's own nor memory that is written or read in another order.
    """
    # torch's own question, in torch.autograd.Function; there is no public one.
    return not graph_is_recorded() and torch._C._are_functorch_transforms_active()
