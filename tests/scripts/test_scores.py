"""Rows and means against numbers worked out by hand; tables hold what the rows hold."""

import math

import numpy as np
import pytest
import torch

from stereo_tr.datasets.sample import StereoSample
from stereo_tr.scripts.score_tables import as_markdown
from stereo_tr.scripts.scores import Scores, mean, pooled, score, summarize


def sample(truth, occluded=None, valid=None, name="a/one"):
    truth = torch.tensor(truth, dtype=torch.float32)
    nowhere = torch.zeros_like(truth, dtype=torch.bool)
    view = torch.zeros(3, *truth.shape)
    valid = ~nowhere if valid is None else torch.tensor(valid)
    occluded = nowhere if occluded is None else torch.tensor(occluded)
    return StereoSample(view, view, truth, valid, occluded, truth, nowhere, nowhere, name)


def row(found, pair, known=True, said=None, objects=None, seconds=1.0, group="a"):
    found = np.array(found, np.float32)
    said = np.zeros(found.shape, bool) if said is None else np.array(said)
    return score(found, said, pair, known, "ours", group, seconds, objects)


def test_every_threshold_is_strict():
    errors = (0, 0.5, 1, 2, 3, 4, 5, 6)
    scored = row([[50 + e for e in errors]], sample([[50.0] * 8])).all
    assert scored["epe"] == pytest.approx(21.5 / 8)
    wrong = {"bad_0.5": 6, "bad_1": 5, "bad_2": 4, "bad_3": 3, "bad_4": 2, "bad_5": 1, "d1": 3}
    assert {name: scored[name] for name in wrong} == {
        name: pytest.approx(100 * count / 8) for name, count in wrong.items()
    }


def test_areas_are_counted_apart():
    truth = [[10.0, 10.0, 10.0, 200.0, 191.9, 10.0]]
    occluded = [[False, True, False, False, False, False]]
    valid = [[True, True, True, True, True, False]]
    objects = np.array([[True, True, False, False, False, True]])
    found = [[11.0, 14.0, 16.0, 210.0, 191.9, 99.0]]  # 1, 4, 6, 10, 0 px off; not known
    scored = row(found, sample(truth, occluded, valid), objects=objects)
    expected = {  # area -> pixels, EPE
        "all": (5, 21 / 5),
        "non_occluded": (4, 17 / 4),
        "occluded": (1, 4),
        "foreground": (2, 5 / 2),
        "background": (3, 16 / 3),
        "foreground_non_occluded": (1, 1),
        "background_non_occluded": (3, 16 / 3),
        "all_below_192": (4, 11 / 4),
        "non_occluded_below_192": (3, 7 / 3),
        "near_edges": (5, 21 / 5),  # the step lies in the middle
    }
    for area, (pixels, epe) in expected.items():
        assert (scored.pixels[area], scored.score(area, "epe")) == (pixels, pytest.approx(epe))
    # 10 px off at 200 px is 5 %, which isn't more than 5 %.
    assert scored.all["d1"] == pytest.approx(100 * 2 / 5)
    untold = row(found, sample(truth, occluded, valid), known=False)
    assert untold.pixels["foreground"] == untold.pixels["background"] == 0
    assert untold.pixels["non_occluded"] == untold.pixels["occluded"] == 0
    assert math.isnan(untold.non_occluded["epe"])


def test_the_two_means_differ_where_images_differ_in_size():
    small = row([[12.0] * 2], sample([[10.0] * 2]), said=[[True, False]])
    occluded = [[True] * 3 + [False] * 5]
    large = row([[15.0] * 8], sample([[10.0] * 8], occluded, name="a/two"), said=occluded)
    unknown = row([[10.0] * 4], sample([[10.0] * 4], name="a/three"), known=False, seconds=9.0)
    rows = (small, large, unknown)
    by_image, by_pixel = mean(rows, "a"), pooled(rows, "a")
    assert (by_image.mean_over, by_pixel.mean_over) == ("images", "pixels")
    assert by_image.all["epe"] == pytest.approx((2 + 5 + 0) / 3)
    assert by_pixel.all["epe"] == pytest.approx((2 * 2 + 8 * 5 + 4 * 0) / 14)
    assert by_pixel.non_occluded["bad_4"] == pytest.approx(100 * 5 / 7)
    assert by_image.occlusion_iou == pytest.approx((0 + 1) / 2)
    assert by_pixel.occlusion_iou == pytest.approx(3 / 4)
    assert by_pixel.occlusion_f1 == pytest.approx(2 * 3 / (3 + 4))
    # both classes: right at 1 + 8 of 10 pixels, each wrong one stands in both unions
    assert by_pixel.occlusion_iou_of_both_classes == pytest.approx(9 / 11)
    assert (by_image.images, by_image.images_with_occlusion) == (3, 2)
    assert by_image.seconds == by_pixel.seconds == 1


def test_markdown_has_the_numbers_of_the_rows():
    rows = [
        row([[12.0] * 2], sample([[10.0] * 2])),
        row([[15.0] * 8], sample([[10.0] * 8], name="b")),
    ]
    means, by_pixel = summarize(rows, ["ours"])
    found = Scores(
        tuple(rows), tuple(means), tuple(by_pixel), (), {"data": "x"}, {"torch": "2"}, "EPE."
    )
    lines = as_markdown(found).splitlines()
    tables = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if "|" in line]
    assert tables[0][:3] == ["scene", "method", "all EPE"]
    by_name = {cells[0]: cells for cells in tables}
    assert by_name["mean of 2 in a"][2] == "3.50"
    assert by_name["pixels of 2 in a"][2] == "4.40"
    assert by_name["b"][2:5] == ["5.00", "100.00", "100.00"]
    assert len({len(cells) for cells in tables}) == 1
    assert "Settings: data x" in lines
    assert not [line for line in lines if line.lstrip().startswith(">")]
