"""What a pair of some size needs in memory, and what a budget leaves for working.

A stereo model keeps some maps as long as it runs; they grow with the image and can't be cut. What
is only needed in between goes in pieces (attention/memory.py) that fit what a budget leaves.

Letters  H W image height and width in pixels
Tests    tests/test_memory_need.py; predicted beside measured: stereo-tr benchmark --memory
"""

import math
import re
import resource
import sys
from pathlib import Path

import torch
from torch import nn

from .attention.memory import DEFAULT
from .stereo.scales import Scales, largest_factor

LEAST = 16 * 2**20
"""bytes of working memory below which pieces would be single rows of wide images"""
ON_GPU = 2**30
"""bytes of working memory on a GPU, where small pieces leave most of it idle"""

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}


def in_bytes(size: str | int) -> int:
    """Return a size such as 2GB, 800MB or 1.5 GB in bytes; ValueError for any other text."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]?B)?\s*", str(size), re.IGNORECASE)
    number = float(found[1]) * _UNITS[(found[2] or "").upper()] if found else 0
    if found is None or number < 1:
        raise ValueError(f"{size!r} is no amount of memory; give it like 2GB or 800MB")
    return int(number)


def memory_in_use(device: torch.device) -> int:
    """Return the bytes that this process holds now: on a GPU of tensors, else all of it."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    status = Path("/proc/self/statm")
    if status.is_file():
        return int(status.read_text().split()[1]) * resource.getpagesize()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def kept_memory(model: nn.Module, scales: Scales, height: int, width: int) -> int | None:
    """Return the bytes of the maps that `model` keeps while it matches; None where it can't say."""
    each = getattr(model, "pixel_bytes", None)
    return each and int(each * height * width * largest_factor(scales, height, width) ** 2)


def working_size(
    model: nn.Module,
    scales: Scales,
    height: int,
    width: int,
    max_memory: int | None,
    device: torch.device,
) -> int:
    """Return how many bytes pieces may take, so that the process stays below `max_memory` bytes.

    Raises MemoryError where the maps alone need more.
    """
    usual = ON_GPU if device.type == "cuda" else DEFAULT
    kept = kept_memory(model, scales, height, width)
    if max_memory is None or kept is None:
        return usual
    left = max_memory - memory_in_use(device) - kept
    if left < LEAST:
        least = math.ceil((max_memory - left + LEAST) / 1e8) / 10  # what is told would do
        raise MemoryError(
            f"{width}x{height} px need about {least:.1f} GB, more than the "
            f"{max_memory / 1e9:.2f} GB allowed; allow more, or give a smaller image"
        )
    return min(left, usual)
