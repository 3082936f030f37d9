import inspect
from functools import partial

import pytest

from stereo_tr.datasets.indexed import IndexedPairs
from stereo_tr.datasets.registry import DATASETS, open_dataset


@pytest.mark.parametrize("name", DATASETS)
def test_every_name_opens_a_data_set_or_says_what_is_missing(name, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"give the folder that holds|no folder"):
        open_dataset(name, tmp_path)


@pytest.mark.parametrize("name", DATASETS)
def test_every_data_set_is_drawn_and_described(name):
    constructor = DATASETS[name]
    loader = constructor.func if isinstance(constructor, partial) else constructor
    assert issubclass(loader, IndexedPairs)
    assert "root/" in inspect.getmodule(loader).__doc__
    assert "Tests" in inspect.getmodule(loader).__doc__


def test_an_unknown_name_is_told_its_neighbours(tmp_path):
    with pytest.raises(ValueError, match=r"unknown data set 'kitti15'; did you mean kitti2015"):
        open_dataset("kitti15", tmp_path)
    with pytest.raises(ValueError, match=r"known: sceneflow, "):
        open_dataset("xyz", tmp_path)
