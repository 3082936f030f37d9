import numpy as np
import torch

from stereo_tr.mask.panoptic import Panoptic, Segment
from stereo_tr.panoptic_pictures import (
    GAP,
    TITLE,
    assignment_picture,
    labelled_overlay,
    number_colours,
    overlay,
    side_by_side,
)


def test_each_number_has_a_colour_of_its_own_and_void_is_black():
    colours = number_colours(np.arange(60).reshape(6, 10))
    assert len(np.unique(colours.reshape(-1, 3), axis=0)) == 60
    assert not colours[0, 0].any()


def test_an_overlay_tints_segments_keeps_void_and_draws_borders():
    picture = np.full((5, 8, 3), 90, np.uint8)
    numbers = torch.zeros(5, 8, dtype=torch.int32)
    numbers[:, 4:] = 2
    shown = overlay(picture, numbers)
    assert (shown[:, :3] == 90).all()
    assert (shown[:, 3] == 255).all()
    expected = 0.45 * 90 + 0.55 * number_colours(np.array([2]))[0]
    assert np.abs(shown[:, 4:] - expected).max() <= 0.5


def test_names_are_written_where_there_is_room():
    picture = np.full((60, 80, 3), 90, np.uint8)
    numbers = torch.zeros(60, 80, dtype=torch.int32)
    numbers[:50], numbers[55:58, 3:6] = 1, 2
    segments = (Segment(1, 0, False, 0.9, 4000, 3), Segment(2, 1, True, 0.8, 9, 4))
    named = labelled_overlay(picture, Panoptic(numbers, segments), ["sky", "a very long name"])
    changed = (named != overlay(picture, numbers)).any(-1)
    assert changed[:50].any() and not changed[50:].any()


def test_assignments_show_the_layer_s_own_pixels():
    assignment = torch.zeros(3, 2, 4)
    assignment[1, 0], assignment[2, 1] = 0.6, 1.0
    shown = assignment_picture(assignment, (6, 12))
    assert shown.shape == (6, 12, 3)
    assert (shown[:3] == number_colours(np.array([2]))).all()
    assert (shown[3:] == number_colours(np.array([3]))).all()


def test_pictures_stand_in_rows_of_four():
    pictures = {f"layer {n}": np.full((10, 20, 3), n, np.uint8) for n in range(6)}
    sheet = side_by_side(pictures)
    assert sheet.shape == (2 * (10 + TITLE + GAP) - GAP, 4 * (20 + GAP) - GAP, 3)
    row, column = 10 + TITLE + GAP, 20 + GAP
    for n in range(6):
        y, x = n // 4 * row + TITLE, n % 4 * column
        assert (sheet[y : y + 10, x : x + 20] == n).all()
