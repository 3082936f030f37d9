"""The training data as one endless numbered sequence, and who gets which part of it.

Step s of a run with B pairs a step learns from the samples s B to s B + B - 1. Process r of n
takes the r-th n-th of them. So neither the number of processes, nor that of helpers, nor a stop in
between changes what a step sees.

Tests  tests/test_training.py
"""

import signal
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import resource_tracker

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from .datasets.generated import GeneratedScenes
from .datasets.naming import closest
from .datasets.sample import StereoSample
from .recipe import TrainingSettings

VALIDATION_SEED = 2**31 - 1
"""seed of the scenes for validation, the same for every run so that runs can be compared"""


def _generated(height: int, width: int, seed: int) -> Dataset[StereoSample]:
    return GeneratedScenes(height, width, seed=seed)


DATA: dict[str, Callable[[int, int, int], Dataset[StereoSample]]] = {"generated": _generated}
"""name -> function of height, width and seed. The data set takes every index from 0 on; a sample
depends on the seed and its index alone and is a pair of height x width pixels"""


def open_data(settings: TrainingSettings) -> Dataset[StereoSample]:
    """Open the data of the settings. Raises ValueError for a name that isn't known."""
    for name in settings.data:
        if name not in DATA:
            raise ValueError(f"unknown data {name!r}; {closest(name, DATA)}")
    if len(settings.data) != 1:
        raise ValueError(f"--data takes one name for now, not {' '.join(settings.data) or 'none'}")
    if settings.seed == VALIDATION_SEED:
        raise ValueError(f"seed {VALIDATION_SEED} is kept for validation; take another one")
    return DATA[settings.data[0]](settings.height, settings.width, settings.seed)


def open_validation(settings: TrainingSettings) -> Dataset[StereoSample]:
    """Open the pairs that a validation scores: of the same kind, never trained on."""
    return DATA[settings.data[0]](settings.height, settings.width, VALIDATION_SEED)


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
    dataset: Dataset[StereoSample], batches: StepBatches, workers: int
) -> DataLoader[StereoSample]:
    """Load the batches in their order, with helpers that work ahead of the training."""
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        # A forked helper would hang on the threads that OpenCV and torch have started here.
        multiprocessing_context="spawn" if workers else None,
        worker_init_fn=_start_worker,
        prefetch_factor=4 if workers else None,
        collate_fn=collate,
    )


def read(loader: DataLoader[StereoSample]) -> Iterator[StereoSample]:
    """Go through the batches, with helpers that leave stopping to the training process.

    SIGINT and SIGTERM reach the whole process group, but the training process needs its helpers to
    finish a step. They are started with both blocked, and end when it ends, also after SIGKILL.
    """
    if loader.num_workers:
        resource_tracker.ensure_running()  # its first start would unblock the signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        batches = iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    yield from batches


def _start_worker(_: int) -> None:
    """Keep a helper to one thread."""
    import cv2  # only the helpers need it, and importing it takes a while

    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def collate(samples: Sequence[StereoSample]) -> StereoSample:
    """Make a batch: every tensor with a leading B, and the list of names."""
    return StereoSample(*default_collate(samples)[:-1], name=[sample.name for sample in samples])


def to_device(sample: StereoSample, device: torch.device) -> StereoSample:
    """Move the tensors of a sample or a batch to `device`."""
    return StereoSample(*(x.to(device) if isinstance(x, Tensor) else x for x in sample))


def pick(sample: StereoSample, index: int) -> StereoSample:
    """Return the batch of one that holds sample `index` of a batch."""
    tensors = (x[index : index + 1] for x in sample if isinstance(x, Tensor))
    return StereoSample(*tensors, name=[sample.name[index]])
