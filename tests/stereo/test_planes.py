"""Planes on blank walls: made from known planes, in views whose blank parts are known."""

import numpy as np
import pytest
import torch

from stereo_tr.geometry import fill_from_background
from stereo_tr.stereo.planes import SURE, blank_regions, complete, fit_plane

HEIGHT, WIDTH = 90, 140
WALL = (slice(10, 80), slice(30, 110))
"""the blank part of the view; its rest is textured"""
INSIDE = (slice(14, 76), slice(34, 106))
"""where the texture around isn't felt any more"""


def scene(seed=0):
    """A view with a blank wall, and the wall's plane everywhere, rising to the lower right."""
    rng = np.random.default_rng(seed)
    view = rng.random((1, 3, HEIGHT, WIDTH), np.float32)
    view[(..., *WALL)] = 0.6
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    plane = 12 + 0.03 * x - 0.02 * y
    return torch.from_numpy(view), torch.from_numpy(plane)[None]


def maps(plane):
    """Sure of everything, which is seen by both cameras."""
    return plane.clone(), torch.full_like(plane, 0.95), torch.ones_like(plane, dtype=torch.bool)


def test_what_is_unsure_on_a_blank_wall_takes_its_plane():
    left, plane = scene()
    found, confidence, visible = maps(plane)
    guess = (0, slice(30, 60), slice(50, 90))
    found[guess], confidence[guess] = 31.0, 0.3
    sure = (0, slice(65, 70), slice(50, 60))  # something on the wall that was found for sure
    found[sure] = 20.0
    expected = plane.clone()
    expected[sure] = 20.0
    completed = complete(found, confidence, visible, left)
    assert torch.allclose(completed.disparity, expected, atol=1e-3)
    surer = confidence.clone()
    surer[guess] = SURE  # as sure as what keeps what was found
    torch.testing.assert_close(completed.confidence, surer)


def test_a_textured_part_keeps_what_was_found():
    left, plane = scene()
    found, confidence, visible = maps(plane)
    guess = (0, slice(0, 7), slice(20, 120))
    found[guess], confidence[guess] = 31.0, 0.3
    assert torch.equal(complete(found, confidence, visible, left).disparity, found)


@pytest.mark.parametrize("share", [0.3, 0.5])
def test_a_region_that_is_no_plane_stays(share):
    """Two halves at different distances: neither has the majority, unless one is much larger."""
    left, plane = scene()
    found, confidence, visible = maps(plane)
    rows = 10 + round(70 * share)
    found[0, 10:rows, 30:110] = 40.0
    confidence[0, 10:rows, 30:110] = 0.8
    confidence[0, rows:80, 30:110] = 0.8
    completed = complete(found, confidence, visible, left).disparity
    if share == 0.5:
        assert torch.equal(completed, found)
    else:
        assert torch.allclose(completed[:, *INSIDE], plane[:, *INSIDE], atol=1e-3)


def pieces_of_a_wall(colour=0.6):
    """A blank wall behind a textured post: the left piece, of which 45 % is known, and the right.

    Whatever else is found on the left piece is of no plane.
    """
    left, plane = scene()
    left[..., 10:80, 58:66] = torch.from_numpy(
        np.random.default_rng(4).random((3, 70, 8), np.float32)
    )
    left[..., 10:80, 66:110] = colour
    found, confidence, visible = maps(plane)
    rng = np.random.default_rng(5)
    guess = np.zeros(plane.shape, bool)
    guess[0, 10:80, 30:58] = rng.random((70, 28)) > 0.45
    found[torch.from_numpy(guess)] = torch.from_numpy(rng.uniform(20, 60, guess.sum())).float()
    confidence[0, 10:80, 30:58] = 0.5
    return left, plane, found, confidence, visible


PIECE = (0, slice(14, 76), slice(34, 54))
"""inside the left one"""


def test_a_piece_takes_the_plane_of_a_wall_that_goes_on_elsewhere():
    left, plane, *found = pieces_of_a_wall()
    assert torch.allclose(complete(*found, left).disparity[PIECE], plane[PIECE], atol=1e-3)


def test_most_of_a_wall_outvotes_a_piece_and_a_spot():
    """The piece has a plane of its own, a wrong one, on which a spot elsewhere lies as well."""
    left, plane, found, confidence, visible = pieces_of_a_wall()
    rng = np.random.default_rng(6)
    wrong = np.zeros(plane.shape, bool)
    wrong[0, 10:80, 30:58] = rng.random((70, 28)) < 0.65
    found = torch.where(torch.from_numpy(wrong), torch.tensor(40.0), plane)
    spot = (0, slice(20, 34), slice(118, 134))
    left[..., 20:34, 118:134] = 0.6
    found[spot] = 40.0
    completed = complete(found, confidence, visible, left).disparity
    assert torch.allclose(completed[PIECE], plane[PIECE], atol=1e-3)


def test_a_clear_piece_keeps_its_plane():
    """Two walls of one colour; a sixth of the smaller one was found on the plane of the larger."""
    left, plane, found, confidence, visible = pieces_of_a_wall()
    found = plane.clone()
    found[0, 10:80, 30:58] += 6
    found[0, 10:22, 30:58] -= 6  # a sixth
    completed = complete(found, confidence, visible, left).disparity
    assert torch.allclose(completed[PIECE], plane[PIECE] + 6, atol=1e-3)


@pytest.mark.parametrize("alone", ["other colour", "other plane", "nothing known"])
def test_a_piece_of_another_wall_stays(alone):
    left, _, found, confidence, visible = pieces_of_a_wall(0.9 if alone == "other colour" else 0.6)
    if alone == "other plane":
        found[0, 10:80, 66:110] += 5
    if alone == "nothing known":
        visible[0, 10:80, 66:110] = False
    completed = complete(found, confidence, visible, left).disparity
    assert torch.equal(completed[PIECE], found[PIECE])


@pytest.mark.parametrize(("nearer", "planes"), [(True, False), (False, True)])
def test_what_is_hidden_takes_the_farther_of_plane_and_background(nearer, planes):
    """Beside something farther than the wall it isn't the wall that is hidden."""
    left, plane = scene()
    found, confidence, visible = maps(plane)
    hidden = (0, slice(10, 80), slice(30, 45))
    found[0, :, :30] = 2.0 if nearer else 50.0  # beside the hidden part
    confidence[hidden], visible[hidden] = 0.1, False
    completed = complete(found, confidence, visible, left).disparity
    filled = fill_from_background(found, visible)
    if planes:
        inside = (0, slice(14, 76), slice(34, 45))
        assert torch.allclose(completed[inside], plane[inside], atol=1e-3)
        assert (completed[inside] - filled[inside]).abs().max() > 0.1
    else:
        assert torch.equal(completed[hidden], filled[hidden])


def test_views_of_a_batch_are_apart():
    left, plane = scene()
    found, confidence, visible = maps(plane)
    found[0, 30:60, 50:90], confidence[0, 30:60, 50:90] = 31.0, 0.3
    alone = complete(found, confidence, visible, left).disparity
    other = scene(seed=1)[0].flip(-1)
    both = complete(
        torch.cat((found, found + 3)),
        torch.cat((confidence, confidence)),
        torch.cat((visible, visible)),
        torch.cat((left, other)),
    ).disparity
    assert torch.equal(both[:1], alone)


def test_blank_regions_are_found_in_noise():
    """Two walls beside a dark bar, with the noise of a camera; a small blank spot is none."""
    rng = np.random.default_rng(2)
    view = np.full((100, 160), 0.7, np.float32)
    view[:, 60:70] = 0.1
    view[:8] = rng.random((8, 160))
    view += rng.normal(0, 1 / 255, view.shape).astype(np.float32)
    found = sorted(blank_regions(view), key=lambda region: region[0][1].start)
    assert len(found) == 2
    for (place, region), (first, last) in zip(found, ((0, 60), (70, 160)), strict=True):
        assert abs(place[1].start - first) <= 5 and abs(place[1].stop - last) <= 5
        assert region.mean() > 0.9


def test_a_plane_is_fitted_through_outliers():
    """A third of the weight lies elsewhere; float64 least squares of the rest alone."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:40, :57]
    disparity = (5 + 0.1 * x + 0.05 * y + rng.normal(0, 0.1, x.shape)).astype(np.float32)
    weight = rng.uniform(0.5, 1, x.shape).astype(np.float32)
    wrong = rng.random(x.shape) < 0.33
    disparity[wrong] = rng.uniform(0, 60, wrong.sum())
    weight[~wrong & (rng.random(x.shape) < 0.1)] = 0  # not known
    plane = fit_plane(disparity, weight)
    good = (weight > 0) & (np.abs(disparity - (5 + 0.1 * x + 0.05 * y)) < 1)
    points = np.stack((np.ones(good.sum()), x[good], y[good]), 1) * np.sqrt(weight[good])[:, None]
    expected = np.linalg.lstsq(points, disparity[good] * np.sqrt(weight[good]))[0]
    assert np.allclose(plane, expected, atol=2e-3)


@pytest.mark.parametrize("known", [np.zeros((9, 11)), np.eye(9, 11), np.eye(9, 11)[::-1] > 2])
def test_too_little_makes_no_plane(known):
    """Nothing, or points on one line."""
    assert fit_plane(np.ones((9, 11), np.float32), known.astype(np.float32)) is None


def test_all_that_fits_may_end_up_on_a_line():
    """A column, and two faint pixels beside it that fit the plane tried first and no better one."""
    disparity, weight = (np.zeros((6, 3), np.float32) for _ in range(2))
    disparity[:, 1], weight[:, 1] = (10.0, 11.0, 9.8, 9.9, 10.0, 9.9), 1.0
    disparity[1, ::2], weight[1, ::2] = 11.4, 0.2
    a, b, c = fit_plane(disparity, weight)
    off = np.abs(a + b + c * np.arange(6) - disparity[:, 1])
    assert (off < 1).sum() >= 5
