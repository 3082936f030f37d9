import math

import pytest
import torch

from stereo_tr.stereo.metrics import (
    bad_n,
    d1,
    epe,
    near_depth_edges,
    occlusion_pixels,
)


def test_epe_is_the_mean_error_of_the_counted_pixels():
    truth = torch.tensor([[10.0, 20.0, 30.0, math.inf], [40.0, 50.0, 60.0, math.inf]])
    guess = torch.tensor([[11.0, 18.0, 30.0, 7.0], [40.5, 99.0, 60.0, math.nan]])
    counted = torch.tensor([[True, True, True, False], [True, False, False, False]])
    assert epe(guess, truth, counted).item() == pytest.approx((1 + 2 + 0 + 0.5) / 4)


def test_bad_n_is_strict_and_in_percent():
    truth = torch.zeros(1, 5)
    guess = torch.tensor([[0.0, 1.0, 1.5, 2.0, 9.0]])
    counted = torch.ones(1, 5, dtype=torch.bool)
    wrong = {0: 80, 0.5: 80, 1: 60, 1.75: 40, 2: 20, 3: 20, 9: 0}
    for n, percent in wrong.items():
        assert bad_n(guess, truth, counted, n).item() == pytest.approx(percent)


def test_d1_needs_three_pixels_and_five_percent():
    truth = torch.tensor([[10.0, 100.0, 10.0, 200.0]])
    guess = truth - torch.tensor([[4.0, 4.0, 2.0, 11.0]])  # 40 %; 4 %; under 3 px; 5.5 %
    counted = torch.ones(1, 4, dtype=torch.bool)
    assert d1(guess, truth, counted).item() == pytest.approx(50)
    assert bad_n(guess, truth, counted, 3).item() == pytest.approx(75)


def test_a_guess_that_is_no_number_is_wrong():
    truth = torch.full((1, 4), 5.0)
    guess = torch.tensor([[5.0, math.nan, math.inf, 5.0]])
    counted = torch.ones(1, 4, dtype=torch.bool)
    assert bad_n(guess, truth, counted, 3).item() == d1(guess, truth, counted).item() == 50
    assert not epe(guess, truth, counted).isfinite()


def test_an_empty_mask_has_no_score():
    image, nothing = torch.ones(2, 3), torch.zeros(2, 3, dtype=torch.bool)
    for value in (
        epe(image, image, nothing),
        bad_n(image, image, nothing, 1),
        d1(image, image, nothing),
        occlusion_pixels(~nothing, ~nothing, nothing).iou(),
        occlusion_pixels(~nothing, ~nothing, nothing).f1(),
    ):
        assert value.isnan()


def test_occlusion_scores_count_within_the_mask():
    guess = torch.tensor([[True, True, True, False, False, True]])
    truth = torch.tensor([[True, True, False, True, False, False]])
    known = torch.tensor([[True, True, True, True, True, False]])
    counted = occlusion_pixels(guess, truth, known)
    assert [count.item() for count in counted] == [5, 3, 3, 2]
    assert counted.iou().item() == pytest.approx(2 / 4)
    assert counted.f1().item() == pytest.approx(2 * 2 / (3 + 3))
    # seen and called so: 1 pixel; seen or called so: 3
    assert counted.iou_of_both_classes().item() == pytest.approx((2 + 1) / (4 + 3))


def test_nothing_occluded_and_nothing_said_to_be_is_no_score():
    nothing, known = torch.zeros(3, 2, dtype=torch.bool), torch.ones(3, 2, dtype=torch.bool)
    assert occlusion_pixels(nothing, nothing, known).iou().isnan()
    assert occlusion_pixels(nothing, nothing, known).iou_of_both_classes().item() == 1
    assert occlusion_pixels(known, nothing, known).iou().item() == 0


def test_each_image_of_a_batch_is_scored_alone():
    torch.manual_seed(0)
    guess, truth = 90 * torch.rand(2, 3, 5, 7), 90 * torch.rand(2, 3, 5, 7)
    counted = torch.rand(2, 3, 5, 7) > 0.4
    for b in range(2):
        for c in range(3):
            errors = [
                (abs(g - t), t)
                for g, t, m in zip(
                    guess[b, c].flatten().tolist(),
                    truth[b, c].flatten().tolist(),
                    counted[b, c].flatten().tolist(),
                    strict=True,
                )
                if m
            ]
            mean = sum(e for e, _ in errors) / len(errors)
            outliers = sum(e > 3 and e > t / 20 for e, t in errors) / len(errors)
            beyond_20 = sum(e > 20 for e, _ in errors) / len(errors)
            assert epe(guess, truth, counted)[b, c].item() == pytest.approx(mean, rel=1e-5)
            assert d1(guess, truth, counted)[b, c].item() == pytest.approx(100 * outliers)
            assert bad_n(guess, truth, counted, 20)[b, c].item() == pytest.approx(100 * beyond_20)


def test_near_a_depth_edge_is_four_pixels_on_both_sides():
    disparity = torch.full((12, 30), 5.0)
    disparity[:, 16:] = 8.0  # a step of 3 px between columns 15 and 16
    everywhere = torch.ones(12, 30, dtype=torch.bool)
    near = near_depth_edges(disparity, everywhere)
    expected = torch.zeros(12, 30, dtype=torch.bool)
    expected[:, 15 - 4 : 16 + 5] = True
    assert torch.equal(near, expected)
    assert torch.equal(near_depth_edges(disparity.T, everywhere.T), expected.T)
    disparity[:, 16:] = 7.0  # 2 px is not more than 2 px
    assert not near_depth_edges(disparity, everywhere).any()


def test_holes_as_wide_as_the_step_hide_an_edge_and_wide_ones_hide_a_slope():
    columns = torch.arange(40.0)
    step = torch.where(columns < 20, 4.0, 14.0).expand(7, 40)
    for hole, found in ((10, True), (18, True), (19, False)):  # distance 11, 19, 20; step 10
        known = (columns < 15) | (columns >= 15 + hole)
        near = near_depth_edges(step, known.expand(7, 40))
        assert near.any() == found
    every_sixth = (columns % 6 == 0).expand(7, 40)
    assert not near_depth_edges((0.4 * columns).expand(7, 40), every_sixth).any()


def test_no_known_pixel_has_no_edge():
    nothing = torch.zeros(5, 9, dtype=torch.bool)
    assert not near_depth_edges(torch.rand(5, 9), nothing).any()
