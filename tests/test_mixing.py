"""Endless data sets: every sample once an epoch, exact shares, nothing counted or skipped."""

from fractions import Fraction

import pytest
from torch.utils.data import Dataset

from stereo_tr.mixing import Mixture, Shuffled


class Count(Dataset):
    """first, first + 1, ..."""

    def __init__(self, length, first=0):
        self.length, self.first = length, first

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return self.first + index


def test_each_epoch_has_every_sample_once_in_an_order_of_its_own():
    shuffled = Shuffled(Count(7, 10), seed=3)
    epochs = [[shuffled[index] for index in range(7 * e, 7 * e + 7)] for e in range(5)]
    assert all(sorted(epoch) == list(range(10, 17)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 5
    again = Shuffled(Count(7, 10), seed=3)
    assert [again[30], again[2]] == [shuffled[30], shuffled[2]]  # wherever one begins
    other = Shuffled(Count(7, 10), seed=4)
    assert [other[index] for index in range(7)] != epochs[0]
    with pytest.raises(ValueError, match="an empty data set"):
        Shuffled(Count(0), seed=0)


@pytest.mark.parametrize("weights", [("0.7", "0.3"), ("1",), ("2", "5", "0.01"), ("1", "1", "1")])
def test_shares_are_exact_and_nothing_is_left_out(weights):
    weights = [Fraction(weight) for weight in weights]
    endless = Count(10**9)
    mixture = Mixture([endless] * len(weights), weights)
    given = [[] for _ in weights]
    for index in range(1500):
        source, inner = mixture.place(index)
        given[source].append(inner)
        for place, weight in enumerate(weights):
            expected = (index + 1) * weight / sum(weights)
            assert abs(len(given[place]) - expected) <= len(weights) - 1
    assert all(inner == list(range(len(inner))) for inner in given)
    assert mixture[10**15 + 7] == mixture.place(10**15 + 7)[1]


def test_a_mixture_needs_weights():
    for datasets, weights in ([], []), ([Count(3)], [Fraction(0)]), ([Count(3)], [Fraction(1)] * 2):
        with pytest.raises(ValueError, match="a mixture needs data sets with a positive weight"):
            Mixture(datasets, weights)
