"""Endless data sets made of finite ones: shuffled again in each epoch, and mixed by weight.

Item i follows from (seed, i) alone, so that a resumed run, any helper and any process finds it
without having counted what came before.

Tests  tests/test_mixing.py: every sample once an epoch, shares exact, nothing skipped
"""

import sys
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

STREAM = 0x5FF1E
"""keeps these random numbers apart from others of the same seed"""


class Shuffled(Dataset[Any]):
    """Samples of a finite data set, epoch after epoch, each epoch in an order of its own.

    Raises ValueError for a data set without samples.
    """

    def __init__(self, dataset: Dataset[Any], seed: int) -> None:
        if not len(dataset):
            raise ValueError("an empty data set can't be trained on")
        self.dataset, self.seed = dataset, seed

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, index: int) -> Any:
        epoch, place = divmod(index, len(self.dataset))
        return self.dataset[int(_order(len(self.dataset), self.seed, epoch)[place])]


@lru_cache(maxsize=8)
def _order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """A permutation; kept, because the next samples mostly need the same one."""
    return np.random.default_rng((seed, epoch, STREAM)).permutation(count)


class Mixture(Dataset[Any]):
    """Several endless data sets, each giving its share of every stretch of samples.

    Shares are exact, not drawn: of the first n samples, a data set with weight w of a total W gives
    n w / W, give or take one; and it gives its own samples in order, none left out.

    Raises ValueError where a weight isn't positive, or the data sets are none.
    """

    def __init__(self, datasets: Sequence[Dataset[Any]], weights: Sequence[Fraction]) -> None:
        if not datasets or len(datasets) != len(weights) or min(weights) <= 0:
            raise ValueError(
                f"a mixture needs data sets with a positive weight each, not {len(datasets)} data "
                f"sets with weights {', '.join(map(str, weights)) or 'none'}"
            )
        self.datasets = list(datasets)
        self.shares: list[Fraction] = []
        """of each data set, among itself and those after it"""
        rest = sum(weights, Fraction(0))
        for weight in weights:
            self.shares.append(weight / rest)
            rest -= weight

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, index: int) -> Any:
        source, index = self.place(index)
        return self.datasets[source][index]

    def place(self, index: int) -> tuple[int, int]:
        """Return which data set gives sample `index`, and which of its own samples that is."""
        for source, share in enumerate(self.shares):
            before = int(index * share)  # samples before this one that come from `source`
            if int((index + 1) * share) > before:
                return source, before
            index -= before  # among the data sets after `source`
        raise AssertionError("the last share is 1, so somebody gave the sample")
