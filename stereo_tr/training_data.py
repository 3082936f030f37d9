"""The training data as one endless numbered sequence, and who gets which part of it.

Step s of a run with B samples a step learns from the samples s B to s B + B - 1. Process r of n
takes the r-th n-th of them. So neither the number of processes, nor that of helpers, nor a stop in
between changes what a step sees.

Tests  tests/test_training.py
"""

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing import resource_tracker
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

VALIDATION_SEED = 2**31 - 1
"""seed of samples for validation, the same for every run so that runs can be compared"""

Batch = TypeVar("Batch", bound=tuple)
"""a NamedTuple of tensors, and of what else belongs to a sample, with a leading B; `name` is one"""


class StepBatches(Sampler[list[int]]):
    """For each step from `start` up to `steps`, the indices of one process's samples."""

    def __init__(self, start: int, steps: int, batch: int, rank: int, count: int) -> None:
        if batch % count:
            raise ValueError(
                f"--batch {batch} can't be shared evenly by {count} processes; "
                f"take {batch - batch % count or count} or {batch - batch % count + count}"
            )
        self._steps, self._batch = range(start, steps), batch
        self._share, self._rank = batch // count, rank

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[list[int]]:
        for step in self._steps:
            first = step * self._batch + self._rank * self._share
            yield list(range(first, first + self._share))


def make_loader(
    dataset: Dataset[Any],
    batches: StepBatches,
    workers: int,
    collate: Callable[[Sequence[Any]], Batch],
    to_gpu: bool = False,
) -> DataLoader[Batch]:
    """Load the batches in their order, with helpers that work ahead of the training.

    `to_gpu`: leave them in memory from which a GPU takes them while it computes.
    """
    return DataLoader(
        _Careful(dataset),
        batch_sampler=batches,
        num_workers=workers,
        # A forked helper would hang on the threads that OpenCV and torch have started here.
        multiprocessing_context="spawn" if workers else None,
        worker_init_fn=_start_worker,
        prefetch_factor=4 if workers else None,
        collate_fn=partial(_collate_readable, collate),
        pin_memory=to_gpu,
    )


class DataError(ValueError):
    """A sample that can't be read; the message names it and says why."""


class HelperError(RuntimeError):
    """A helper that died while its batch was being taken over."""


class _Unreadable(NamedTuple):
    """What stands for such a sample, or its batch, on the way from the helper that met it."""

    reason: str


class _Careful(Dataset[Any]):
    """A data set whose broken files arrive as one sentence, not as a helper's traceback."""

    def __init__(self, dataset: Dataset[Any]) -> None:
        self.dataset = dataset

    def __getitem__(self, index: int) -> Any:
        try:
            return self.dataset[index]
        except (ValueError, OSError, EOFError, MemoryError) as error:
            return _Unreadable(f"sample {index} of the run can't be read: {error}")


def _collate_readable(collate: Callable[[Sequence[Any]], Any], samples: Sequence[Any]) -> Any:
    broken = [sample for sample in samples if isinstance(sample, _Unreadable)]
    return broken[0] if broken else collate(samples)


def read(loader: DataLoader[Batch]) -> Iterator[Batch]:
    """Go through the batches, with helpers that leave stopping to the training process.

    SIGINT and SIGTERM reach the whole process group, but the training process needs its helpers to
    finish a step. They are started with both blocked, and end when it ends, also after SIGKILL.
    Raises DataError for a sample that can't be read, and HelperError for a helper found dead by
    what it was sending; torch raises a RuntimeError itself, anywhere, once it hears of a death.
    """
    if loader.num_workers:
        resource_tracker.ensure_running()  # its first start would unblock the signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        batches = iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except (ConnectionError, EOFError) as error:
                raise HelperError(str(error) or type(error).__name__) from error
            if isinstance(batch, _Unreadable):
                raise DataError(batch.reason)
            yield batch
    finally:
        if loader.num_workers:
            # torch interrupts whatever runs when it hears that a helper died, also after the error
            # that told it; there is no public way to say that nobody reads any more. One that dies
            # only now is no error.
            with suppress(RuntimeError):
                batches._shutdown_workers()


def _start_worker(_: int) -> None:
    """Keep a helper to one thread."""
    import cv2  # only the helpers need it, and importing it takes a while

    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def collate(samples: Sequence[Batch]) -> Batch:
    """Make a batch of samples of equal sizes: tensors with a leading B, and the list of names."""
    names = [sample.name for sample in samples]
    return default_collate(list(samples))._replace(name=names)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Move the tensors of a batch to `device`, also those in lists (samples of unequal sizes)."""

    def move(value: Any) -> Any:
        if isinstance(value, list):
            return [move(part) for part in value]
        # Without waiting, where the memory allows that (make_loader); what computes waits itself.
        return value.to(device, non_blocking=True) if isinstance(value, Tensor) else value

    return type(batch)(*map(move, batch))


def pick(batch: Batch, first: int, count: int = 1) -> Batch:
    """Return the batch of `count` samples of a batch, from sample `first` on."""
    return type(batch)(*(value[first : first + count] for value in batch))
