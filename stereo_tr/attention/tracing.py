"""Whether a graph is being recorded: by torch.compile, torch.export, torch.jit.trace, for ONNX.

A recorded graph serves all sizes, so where it is made no decision may follow from a size, nothing
is cut to a memory budget, and compilers choose kernels themselves.

Tests  tests/stereo/test_stereo_compile.py, tests/test_export.py
"""

import torch


def graph_is_recorded() -> bool:
    """Say whether what runs now is written into a graph that others will run later."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()
