"""Training on one process or on many: who am I, what do the others say, and when to stop.

`torchrun` starts the processes and tells each its rank through the environment; without it there
is one process and nothing here communicates. Tensors travel by gloo between CPUs, by nccl between
GPUs.

Tests  tests/test_training.py: two processes equal one; SIGTERM saves
"""

import os
import random
import signal
from types import FrameType

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from .devices import usable_device


class Processes:
    """The processes of this run. Use as a context: it joins them, and parts when it ends."""

    def __init__(self, device: str) -> None:
        """Join the others where torchrun started several. Raises ValueError for a bad device."""
        self.rank = int(os.environ.get("RANK", "0"))
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self.device = _device(device, int(os.environ.get("LOCAL_RANK", "0")))
        if self.count > 1:
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo")

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *error: object) -> None:
        if self.count > 1:
            dist.destroy_process_group()

    @property
    def first(self) -> bool:
        """True for the one process that writes files and prints."""
        return self.rank == 0

    def wait(self) -> None:
        """Return when all processes have come here."""
        if self.count > 1:
            dist.barrier()

    def total(self, values: Tensor) -> Tensor:
        """Sum `values` over the processes, in place; every one gets the same result."""
        if self.count > 1:
            dist.all_reduce(values)
        return values

    def gather(self, texts: list[str]) -> list[str]:
        """Return the texts of all processes, in the order of their ranks."""
        if self.count == 1:
            return texts
        parts: list[list[str]] = [[] for _ in range(self.count)]
        dist.all_gather_object(parts, texts)
        return [text for part in parts for text in part]


def _device(name: str, local_rank: int) -> torch.device:
    """The device of this process: where torchrun started several, each gets a GPU of its own."""
    device = usable_device(name)
    if device.type == "cuda":
        device = torch.device("cuda", local_rank if device.index is None else device.index)
        torch.cuda.set_device(device)
    return device


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed every generator from (seed, step, rank): a resumed run draws what it would have drawn.

    Done before each step, this leaves no state of a generator to store, and validation can't
    disturb training. Different ranks draw different noise.
    """
    state = int(np.random.SeedSequence((seed, step, rank)).generate_state(1)[0])
    random.seed(state)
    np.random.seed(state)  # noqa: NPY002  what a model may use is numpy's global generator
    torch.manual_seed(state)


class StopSignal:
    """Turns the first SIGINT or SIGTERM into a flag, and lets the second one stop at once."""

    def __init__(self) -> None:
        self.received: int | None = None

    def __enter__(self) -> "StopSignal":
        self._before = {s: signal.signal(s, self._take) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
