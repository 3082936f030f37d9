"""The tools of the translations; whole layouts are tested with their models."""

import torch

from stereo_tr.attention import resize_map
from stereo_tr.vision.translation import FUSED, as_map, fitted_table, renamed, resize_offsets


def test_own_names_pass_and_unknown_ones_stay():
    weights = {"norm.weight": torch.ones(2), "other.norm1": torch.zeros(3)}
    result = renamed(weights, [(r"norm\.", "wrong."), ("norm1", "norm2")], {"norm.weight"})
    assert list(result) == ["norm.weight", "other.norm2"]


def test_fused_projections_are_taken_apart_in_order():
    fused = torch.arange(12.0).reshape(6, 2)
    result = renamed({"a.qkv.weight": fused}, [(r"\.qkv\.", FUSED)], ())
    assert torch.equal(result["a.to_query.weight"], fused[:2])
    assert torch.equal(result["a.to_key.weight"], fused[2:4])
    assert torch.equal(result["a.to_value.weight"], fused[4:])


def test_tables_that_fit_are_kept_and_others_taken_for_squares():
    table = torch.randn(12, 3)
    assert torch.equal(as_map(table, 2, 6).flatten(0, 1), table)
    assert as_map(table, 2, 5) is None
    assert as_map(torch.ones(9, 4), 2, 5).shape == (2, 5, 4)
    torch.testing.assert_close(as_map(torch.ones(9, 4), 2, 5), torch.ones(2, 5, 4))


def test_published_squares_are_resized_for_maps_of_as_many_places():
    square = torch.randn(4, 4, 3)
    flat = square.flatten(0, 1)
    expected = resize_map(square, 2, 8)
    torch.testing.assert_close(fitted_table(flat[None], 2, 8, ours=False), expected)
    assert torch.equal(fitted_table(flat[None], 4, 4, ours=False), square)
    ours = flat.unflatten(0, (2, 8))  # a map already, so its shape is known
    assert torch.equal(fitted_table(ours, 2, 8, ours=True), ours)


def test_offsets_of_no_window_stay_for_the_comparison_to_report():
    assert resize_offsets(torch.ones(24, 2), 3, 3).shape == (24, 2)
    assert resize_offsets(torch.ones(25, 2), 2, 4).shape == (3 * 7, 2)
