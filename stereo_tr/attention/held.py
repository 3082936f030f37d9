"""A value that a context variable has inside a `with` block, and in its thread alone.

Tests  tests/attention/test_memory.py, tests/stereo/test_textbook.py: blocks around models
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def held(variable: ContextVar[T], value: T) -> Iterator[None]:
    """Let `variable` be `value` inside, and what it was afterwards, however the block ends."""
    before = variable.set(value)
    try:
        yield
    finally:
        variable.reset(before)
