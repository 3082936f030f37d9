"""Where kernels of our own (Triton) stand in for torch's operations: at inference on a GPU.

Triton comes with torch's CUDA builds on Linux and compiles a kernel when it is first needed, for
which it wants a C compiler. Where anything of that is missing, torch's operations serve.

Tests  tests/attention/test_attend_kernel.py, tests/stereo/test_transport_kernel.py: the kernels, in
       Triton's interpreter, against torch's operations
"""

from contextlib import AbstractContextManager
from contextvars import ContextVar
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from .held import held
from .tracing import graph_is_recorded

AMPERE = (8, 0)
"""compute capability from which matrix units take bfloat16"""

_allowed: ContextVar[bool] = ContextVar("kernels of our own", default=True)


def without_kernels() -> AbstractContextManager[None]:
    """Let torch's operations compute what runs inside, on a GPU too: to compare, or to count."""
    return held(_allowed, False)


def kernels_serve(x: Tensor) -> bool:
    """Whether kernels can be asked for what is computed of `x` here and now."""
    return (
        x.is_cuda
        and _allowed.get()
        and not torch.is_grad_enabled()
        and not graph_is_recorded()
        and _they_run(x.device)
    )


@cache
def _they_run(device: torch.device) -> bool:
    if find_spec("triton") is None or torch.cuda.get_device_capability(device) < AMPERE:
        return False
    from .attend_kernel import attend_with_offsets

    tokens = torch.zeros(1, 1, 2, 16, device=device)
    try:
        attend_with_offsets(tokens, tokens, tokens, tokens.new_zeros(1, 3, 16), None)
    except Exception:  # whatever a compiler can lack; torch's operations give the same result
        return False
    return True
