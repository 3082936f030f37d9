"""Masks: closed borders, sizes as asked for, areas known from geometry."""

import numpy as np
import pytest
from scipy import ndimage

from stereo_tr.datasets.shapes import (
    BORDER,
    SHAPES,
    blank_canvas,
    fill,
    finished,
    ring,
    stick,
)

DRAWN = {**SHAPES, "ring": ring, "stick": stick}


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("half", [(3.0, 3.0), (21.5, 8.0), (9.0, 34.3)])
def test_every_shape_fits_and_is_closed(name, half):
    for seed in range(6):
        mask = DRAWN[name](np.random.default_rng(seed), half)
        assert mask.dtype == np.uint8
        assert mask.shape == tuple(2 * int(np.ceil(h)) + 1 + 2 * BORDER for h in (half[1], half[0]))
        assert not mask[[0, -1]].any()
        assert not mask[:, [0, -1]].any()
    assert mask.any()


def test_fill_is_antialiased_to_a_fraction_of_a_pixel():
    canvas = blank_canvas(20, 30)
    corners = np.array([[4.3, 5.3], [22.7, 5.3], [22.7, 14.7], [4.3, 14.7]])
    fill(canvas, corners)
    mask = finished(canvas)
    assert mask.shape == (20, 30)
    assert abs(mask.sum() / 255 - 18.4 * 9.4) < 0.05 * 18.4 * 9.4
    exists = mask > 127
    # pixel centres inside the rectangle: columns 5 to 22, rows 6 to 14
    assert np.flatnonzero(exists[10]).tolist() == list(range(5, 23))
    assert np.flatnonzero(exists[:, 10]).tolist() == list(range(6, 15))


@pytest.mark.parametrize("half", [(40.0, 25.0), (15.5, 31.0)])
def test_a_ring_encloses_a_gap_and_a_stick_doesnt(half):
    for seed in range(6):
        rng = np.random.default_rng(seed)
        masks = {"ring": ring(rng, half), "stick": stick(rng, half)}
        # of what isn't there: the outside is one, and an opening another
        pieces = {name: ndimage.label(mask < 128)[1] for name, mask in masks.items()}
        assert pieces == {"ring": 2, "stick": 1}
        # an opening takes a quarter to 85 % of the whole ellipse
        area = np.count_nonzero(masks["ring"] > 127) / (np.pi * half[0] * half[1])
        assert 0.1 < area < 0.8
        # a stick is as long as the diagonal and at most 9 px wide; tips may be cut off
        length = 2 * np.hypot(*half)
        assert 1.2 * (length - 10) < np.count_nonzero(masks["stick"] > 127) < 9.5 * length
