"""Freed memory that stays with the process, so that the next map takes it without new pages.

glibc gives large blocks back to the system as soon as they are freed. The next map of that size
then gets pages that the system must clear first: 10 to 20 % of a match or a training step on a CPU
(measured, 640x480). Commands call this at their start; in a program of your own it is your choice,
because it holds for everything in the process.

Tests  tests/test_heap.py
"""

import ctypes
import sys

LARGEST = 64 * 2**20
"""bytes: as the pieces in which work is done (attention/memory.py); larger blocks, whole maps of
large images, go back as ever, so that holes don't add up"""

_TRIM_THRESHOLD, _MAP_THRESHOLD = -1, -3
"""parameters of glibc's mallopt"""
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let this process keep what it frees; False where the C library offers no such choice.

    Results don't change; what the process holds stays near its peak.
    """
    if sys.platform != "linux":
        return False
    choose = getattr(ctypes.CDLL(None), "mallopt", None)
    if choose is None:  # musl
        return False
    return bool(choose(_MAP_THRESHOLD, LARGEST) and choose(_TRIM_THRESHOLD, _NEVER))
