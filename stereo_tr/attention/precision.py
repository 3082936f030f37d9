"""What stays in float32 while products and convolutions around it take fewer bits.

Tests  tests/test_precision.py
"""

from contextlib import AbstractContextManager, nullcontext

import torch


def full_precision(device: torch.device) -> AbstractContextManager:
    """Return the context in which autocast is off; an empty one where it is off already.

    In a file of torch.export a context is a graph within the graph, which can't be given fractions
    of sizes.
    """
    if not torch.is_autocast_enabled(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
