"""What a machine can do at most, and what work asks of it: arithmetic and memory traffic.

Tests  tests/scripts/test_benchmark.py
"""

import time
from collections.abc import Callable
from typing import Any

RATE_SIDE, GPU_RATE_SIDE, RATE_RUNS = 2048, 8192, 5
"""matrices whose product is the measure of a machine: large enough to keep all of it busy"""
COPIED = 2**31
"""bytes that are copied on a GPU to measure how fast its memory is: far more than its cache"""


def multiply_accumulates(work: Callable[[], Any]) -> int:
    """Count the multiplications in matrix products, convolutions and attention while `work` runs.

    Fused attention is counted in its written-out form, because torch's counter doesn't know the
    fused kernel of a CPU.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from stereo_tr.attention.kernels import without_kernels

    counter = FlopCounterMode(display=False)
    with torch.no_grad(), without_kernels(), sdpa_kernel(SDPBackend.MATH), counter:
        work()
    return counter.get_total_flops() // 2  # a multiplication and an addition each


def bytes_moved(work: Callable[[], Any]) -> int:
    """Add up the sizes of what torch's operations read and write while `work` runs.

    Each tensor counts once for each operation that takes or makes it; views move nothing.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    total = 0

    class Traffic(TorchDispatchMode):
        def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
            nonlocal total
            found = operation(*args, **(kwargs or {}))
            if not operation.is_view:
                tensors = tree_leaves((args, kwargs, found))
                total += sum(t.nbytes for t in tensors if isinstance(t, torch.Tensor))
            return found

    with Traffic():
        work()
    return total


def matrix_product_rate(threads: int | None, device: str, precision: str = "float32") -> float:
    """Measure multiply-accumulates a second in products of large matrices: the ceiling.

    On a CPU that is float32 in the faster of torch's libraries (attention/dense.py), on a GPU the
    precision that the models take.
    """
    import torch

    from stereo_tr.attention.dense import dense
    from stereo_tr.devices import TYPES

    if threads is not None:
        torch.set_num_threads(threads)
    on_cpu = torch.device(device).type == "cpu"
    side, kind = (RATE_SIDE, torch.float32) if on_cpu else (GPU_RATE_SIDE, TYPES[precision])
    a, b = torch.rand(2, side, side, device=device).to(kind)
    products = [torch.matmul, dense] if on_cpu else [torch.matmul]
    return side**3 / min(
        _seconds(lambda product=product: product(a, b)[0, 0].item())
        for product in products * RATE_RUNS
    )


def copy_rate(device: str) -> float:
    """Measure the bytes a second that a GPU's memory reads and writes while it copies."""
    import torch

    source = torch.rand(COPIED // 4, device=device)
    copy = torch.empty_like(source)
    return (
        2 * COPIED / min(_seconds(lambda: copy.copy_(source)[0].item()) for _ in range(RATE_RUNS))
    )


def _seconds(work: Callable[[], Any]) -> float:
    import torch

    start = time.perf_counter()
    with torch.inference_mode():
        work()
    return time.perf_counter() - start
