import pytest
import torch

from stereo_tr.geometry import (
    consistent,
    depth_to_disparity,
    disparity_to_depth,
    fill_from_background,
    point_cloud,
    warp_right_to_left,
)


def test_depth_by_hand():
    disparity = torch.tensor([[10.0, 2.5, 0.0]])
    # 0.2 m * 500 px = 100 m px
    torch.testing.assert_close(
        disparity_to_depth(disparity, 500.0, 0.2), torch.tensor([[10.0, 40.0, torch.inf]])
    )
    # With the right principal point 10 px further right, zero disparity is 10 m away.
    torch.testing.assert_close(
        disparity_to_depth(disparity, 500.0, 0.2, 10.0), torch.tensor([[5.0, 8.0, 10.0]])
    )
    torch.testing.assert_close(
        disparity_to_depth(disparity, 500.0, 0.2, -2.5),
        torch.tensor([[100 / 7.5, torch.inf, torch.inf]]),
    )


def test_depth_and_disparity_are_inverse():
    disparity = torch.rand(2, 3, 5) * 60 + 0.5
    depth = disparity_to_depth(disparity, 721.5, 0.54, 3.0)
    torch.testing.assert_close(depth_to_disparity(depth, 721.5, 0.54, 3.0), disparity)


@pytest.mark.parametrize(("focal_length", "baseline"), [(0.0, 0.1), (500.0, -0.1)])
def test_depth_needs_positive_cameras(focal_length, baseline):
    with pytest.raises(ValueError, match="must be positive"):
        disparity_to_depth(torch.ones(2, 3), focal_length, baseline)


def warped_one_pixel_at_a_time(right, disparity):
    """The definition, in float64: linear between the two columns around x - d, clamped."""
    right, disparity = right.double(), disparity.double()
    out = torch.zeros_like(right)
    inside = torch.zeros(disparity.shape, dtype=torch.bool)
    width = right.shape[-1]
    for b, y, x in torch.cartesian_prod(*map(torch.arange, disparity.shape)):
        place = x.double() - disparity[b, y, x]
        inside[b, y, x] = 0 <= place <= width - 1
        first = place.floor().long()
        share = place - first
        a, c = first.clamp(0, width - 1), (first + 1).clamp(0, width - 1)
        out[b, :, y, x] = right[b, :, y, a] * (1 - share) + right[b, :, y, c] * share
    return out, inside


def test_warping_is_the_definition():
    right, disparity = torch.rand(2, 3, 4, 17), torch.rand(2, 4, 17) * 9 - 2
    disparity[0, 0] = 4  # whole pixels too
    warped, inside = warp_right_to_left(right, disparity)
    expected, expected_inside = warped_one_pixel_at_a_time(right, disparity)
    torch.testing.assert_close(warped.double(), expected, atol=1e-5, rtol=0)
    assert torch.equal(inside, expected_inside)


def test_warping_a_shifted_view_gives_the_left_one_back_exactly():
    left = torch.rand(1, 3, 5, 31)
    warped, inside = warp_right_to_left(left.roll(-7, dims=-1), torch.full((1, 5, 31), 7.0))
    assert torch.equal(inside[0, 0], torch.arange(31) >= 7)
    assert torch.equal(warped[..., 7:], left[..., 7:])


def test_warping_has_the_gradient_of_the_row():
    right = torch.arange(19.0).square().expand(1, 1, 2, 19)
    disparity = torch.full((1, 2, 19), 2.25, requires_grad=True)
    warp_right_to_left(right, disparity)[0][..., 8].sum().backward()
    # between columns 5 and 6 the row rises by 36 - 25
    torch.testing.assert_close(disparity.grad[0, :, 8], torch.tensor([-11.0, -11.0]))


def test_consistency_finds_what_a_near_square_hides():
    """A square 6 px wide at disparity 5 before a wall at 1: it hides 4 columns on its left."""
    left, right = torch.full((1, 3, 40), 1.0), torch.full((1, 3, 40), 1.0)
    left[:, :, 20:26] = 5
    right[:, :, 15:21] = 5
    seen = consistent(left, right)[0, 1]
    hidden = {x for x in range(40) if not seen[x]}
    assert hidden == {0, 16, 17, 18, 19}  # column 0 lies outside the right view
    # The right view is the mirror: there the square hides 4 columns on its right.
    mirrored = consistent(right.flip(-1), left.flip(-1)).flip(-1)[0, 1]
    assert {x for x in range(40) if not mirrored[x]} == {39, 21, 22, 23, 24}


def test_consistency_tolerates_what_it_says():
    left, right = torch.full((1, 2, 9), 2.0), torch.full((1, 2, 9), 2.75)
    assert consistent(left, right, tolerance=0.75)[..., 2:].all()
    assert not consistent(left, right, tolerance=0.74).any()


def test_point_cloud_by_hand():
    depth = torch.tensor([[[2.0, 4.0, torch.inf], [1.0, 1.0, 1.0]]])
    points = point_cloud(depth, focal_length=100.0, principal_point=(1.0, 0.5))
    torch.testing.assert_close(points[0, 0, 0], torch.tensor([-0.02, -0.01, 2.0]))
    torch.testing.assert_close(points[0, 0, 1], torch.tensor([0.0, -0.02, 4.0]))
    torch.testing.assert_close(points[0, 1, 2], torch.tensor([0.01, 0.005, 1.0]))
    assert not points[0, 0, 2].isfinite().all()


def test_unknown_pixels_are_filled_from_the_background():
    unknown = -1.0
    disparity = torch.tensor(
        [[[-1, 9, -1, -1, 4, -1], [-1, -1, -1, -1, -1, -1], [-1, -1, 2, -1, 7, 8]]]
    )
    filled = fill_from_background(disparity.float(), disparity != unknown)
    expected = [[[9, 9, 4, 4, 4, 4], [-1, -1, -1, -1, -1, -1], [2, 2, 2, 2, 7, 8]]]
    assert torch.equal(filled, torch.tensor(expected).float())
