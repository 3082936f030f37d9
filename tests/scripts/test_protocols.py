"""Each protocol against its figures worked out by hand from the pixels of two or three images."""

import math

import numpy as np
import pytest
from test_scores import row, sample

from stereo_tr.scripts import protocols
from stereo_tr.scripts.score_tables import remarks
from stereo_tr.scripts.scores import AREAS, METRICS


def figures(name, *rows):
    (result,) = protocols.apply([name], rows)
    return result.figures


def two_images(**second):
    """2 pixels, 4 px off; 6 pixels, of which one is occluded and 2 px off, and one 9 px off."""
    small = row(
        [[14.0, 14.0]], sample([[10.0, 10.0]], name="s/small"), objects=np.array([[True, False]])
    )
    occluded = [[True, False, False, False, False, False]]
    pair = sample([[100.0] * 6], occluded, name="s/large")
    found = [[102.0, 109.0, 100.0, 100.0, 100.0, 104.0]]
    objects = np.array([[True, True, True, False, False, False]])
    return small, row(found, pair, objects=objects, **second)


def test_kitti_2015_is_over_pixels_and_needs_5_percent():
    found = figures("kitti2015", *two_images())
    # wrong: 2 small pixels, and that of 9 px; 4 px of 100 are but 4 %
    assert found["D1-all"] == pytest.approx(100 * 3 / 8)
    assert found["D1-fg"] == pytest.approx(100 * 2 / 4)
    assert found["D1-bg"] == pytest.approx(100 * 1 / 4)
    assert found["D1-all noc"] == pytest.approx(100 * 3 / 7)
    assert found["D1-fg noc"] == pytest.approx(100 * 2 / 3)


def test_kitti_2012_is_over_images_without_5_percent():
    found = figures("kitti2012", *two_images())
    assert found["Out-3px all"] == pytest.approx((100 + 100 * 2 / 6) / 2)
    assert found["Out-3px noc"] == pytest.approx((100 + 100 * 2 / 5) / 2)
    assert found["Out-5px all"] == pytest.approx((0 + 100 * 1 / 6) / 2)
    assert found["Avg noc"] == pytest.approx((4 + 13 / 5) / 2)


def test_middlebury_counts_hard_scenes_half():
    hard = row([[13.0]], sample([[10.0]], name="trainingF/Playtable"))
    easy = row([[10.0]], sample([[10.0]], name="trainingF/PlaytableP"))
    assert figures("middlebury_v3", hard, easy)["avgerr all"] == pytest.approx(0.5 * 3 / 1.5)
    assert figures("middlebury_v3", hard, easy)["bad-2 noc"] == pytest.approx(100 * 0.5 / 1.5)
    for plain in ("eth3d", "nerf_supervised"):
        name = {"eth3d": "bad-2 noc", "nerf_supervised": "> 2 px noc"}[plain]
        assert figures(plain, hard, easy)[name] == pytest.approx(50)
    assert sum(protocols.PROTOCOLS["middlebury_v3"].weights.values()) == 5 * 0.5


def test_sceneflow_with_and_without_the_cut():
    far = row([[10.0, 200.0]], sample([[12.0, 192.0]]))
    near = row([[10.0] * 3], sample([[10.0] * 3], name="b"))
    whole, cut = (figures(name, far, near) for name in ("sceneflow", "sceneflow_192"))
    assert whole["EPE (images)"] == pytest.approx((5 + 0) / 2)
    assert whole["EPE (pixels)"] == pytest.approx(10 / 5)
    assert whole["> 3 px"] == pytest.approx(100 / 5)
    assert cut["EPE (images)"] == pytest.approx((2 + 0) / 2)
    assert cut["EPE (pixels)"] == pytest.approx(2 / 4)
    assert (cut["> 1 px"], cut["> 3 px"]) == (pytest.approx(100 / 4), 0)


def test_sttr_and_cstr_mix_both_means():
    rows = two_images(said=[[True, True, False, False, False, False]])
    for name in ("sttr", "cstr"):
        found = figures(name, *rows)
        assert found["> 3 px noc"] == pytest.approx(100 * 4 / 7)
        assert found["EPE noc"] == pytest.approx((4 + 13 / 5) / 2)
        # small: everything seen and called so; large: 5 of 6 right
        assert found["occlusion IoU (both classes)"] == pytest.approx((1 + 5 / 7) / 2)
    assert figures("cstr", *rows)["> 1 px noc"] == pytest.approx(100 * 4 / 7)


def test_what_no_image_tells_is_not_known():
    untold = row([[10.0]], sample([[10.0]]), known=False)
    found = figures("kitti2015", untold)
    assert found["D1-all"] == 0
    assert all(math.isnan(value) for name, value in found.items() if name != "D1-all")


def test_figures_of_fewer_images_than_their_row_are_told():
    small, large = two_images()
    street = row([[10.0]], sample([[10.0]], name="s/street"), objects=np.array([[False]]))
    assert remarks(protocols.apply(["kitti2015"], [small, large, street])) == []
    untold = row([[10.0]], sample([[10.0]], name="s/untold"))
    found = remarks(protocols.apply(["kitti2015"], [small, large, untold]))
    assert found == [
        "a: from only 2 of 3 images, as the others don't tell: D1-bg, D1-fg, D1-bg noc, D1-fg noc"
    ]


def test_groups_and_methods_are_scored_apart_and_counted():
    rows = [row([[10.0 + n]], sample([[10.0]], name=f"{n}"), group="ab"[n // 2]) for n in range(3)]
    results = protocols.apply(["eth3d", "kitti2012"], rows)
    assert [(r.protocol, r.group, r.images) for r in results] == [
        (name, *group)
        for name in ("eth3d", "kitti2012")
        for group in (("a", 2), ("b", 1), ("all", 3))
    ]
    assert [r.figures["avgerr all"] for r in results[:3]] == [0.5, 2, 1]
    assert results[0].published_images == (27,)


@pytest.mark.parametrize("name", protocols.PROTOCOLS)
def test_every_protocol_is_described_and_uses_what_is_there(name):
    protocol = protocols.PROTOCOLS[name]
    text = protocols.describe([name])
    assert text.startswith(f"{name}: on ")
    assert "Maximal disparity" in text
    assert "Source" in text
    names = [figure.name for figure in protocol.figures]
    assert len(set(names)) == len(names)
    scored = row([[10.0]], sample([[10.0]]))
    for figure in protocol.figures:
        scored.score(figure.area, figure.metric)
        assert figure.area in AREAS or figure.area == "occlusion"
        assert figure.metric in METRICS or figure.area == "occlusion"


def test_an_unknown_name_is_told():
    with pytest.raises(ValueError, match=r"unknown protocol 'ethd3d'; did you mean eth3d"):
        protocols.check(["kitti2012", "ethd3d"], "eth3d")


def test_quarter_size_is_not_what_middlebury_scores():
    with pytest.warns(UserWarning, match="pixels of the full size, which middlebury_v3_q doesn't"):
        protocols.check(["middlebury_v3"], "middlebury_v3_q")
    protocols.check(["middlebury_v3", "nerf_supervised"], "middlebury_v3_f")
