"""Hints for names that aren't known."""

from stereo_tr.datasets.naming import closest


def test_near_matches_are_named_best_first_and_otherwise_all_names():
    names = ["train", "trains", "scenes"]
    assert closest("trainn", names) == "did you mean train or trains?"
    assert closest("scene", names, show=repr) == "did you mean 'scenes'?"
    assert closest("xyz", names) == "known: train, trains, scenes"
