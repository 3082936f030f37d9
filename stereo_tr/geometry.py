"""What disparity means: depth, the other view, consistency, points in space.

Letters  B batch, C channels, H W image height and width in pixels
Units    disparity, focal length, principal point, its offset: pixels; depth, baseline: metres
Frame    camera coordinates: x to the right, y down, z along the line of sight
Source   Hartley and Zisserman, Multiple View Geometry, 2004, section 11.12; the offset `doffs`:
         https://vision.middlebury.edu/stereo/data/scenes2014/#description
Tests    tests/test_geometry.py
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def disparity_to_depth(
    disparity: Float[Tensor, "*size"],
    focal_length: float,
    baseline: float,
    principal_offset: float = 0.0,
) -> Float[Tensor, "*size"]:
    """Depth = baseline * focal_length / (disparity + principal_offset), in metres.

    `principal_offset` is the right principal point's x less the left one's, 0 for most rectified
    pairs. Depth is inf where the sum is 0 or less: the point is at infinity, or the match wrong.
    Raises ValueError unless focal length and baseline are positive.
    """
    _check_positive(focal_length, baseline)
    shifted = disparity + principal_offset
    return torch.where(shifted > 0, baseline * focal_length / shifted, torch.inf)


def depth_to_disparity(
    depth: Float[Tensor, "*size"],
    focal_length: float,
    baseline: float,
    principal_offset: float = 0.0,
) -> Float[Tensor, "*size"]:
    """Turn `disparity_to_depth` round; inf becomes -principal_offset. `depth` is positive."""
    _check_positive(focal_length, baseline)
    return baseline * focal_length / depth - principal_offset


def warp_right_to_left(
    right: Float[Tensor, "B C H W"], disparity: Float[Tensor, "B H W"]
) -> tuple[Float[Tensor, "B C H W"], Bool[Tensor, "B H W"]]:
    """The left view as the right one shows it: right(x - disparity), linear between two columns.

    Also says where x - disparity lies within the right view; outside, the nearest column is taken.
    Linear interpolation is gathered here rather than taken from `grid_sample`, whose coordinates
    scaled to [-1, 1] lose 1e-4 px on wide images.
    """
    nearer, farther, share, inside = _partners(right, disparity)
    return nearer * (1 - share) + farther * share, inside


def fill_from_background(
    disparity: Float[Tensor, "B H W"], known: Bool[Tensor, "B H W"]
) -> Float[Tensor, "B H W"]:
    """Give unknown pixels the smaller of the nearest known disparities left and right of them.

    What a nearer surface hides from the right camera lies behind it, on the smaller disparity. At
    the ends of a row there is only one of the two; a row without any known pixel stays as it is.
    """
    width = disparity.shape[-1]
    columns = torch.arange(width, device=disparity.device).expand_as(disparity)
    before = torch.where(known, columns, -1).cummax(-1).values
    behind = torch.where(known, columns, width).flip(-1).cummin(-1).values.flip(-1)
    to_left = disparity.gather(-1, before.clamp(min=0))
    to_right = disparity.gather(-1, behind.clamp(max=width - 1))
    background = torch.minimum(
        to_left.masked_fill(before < 0, torch.inf), to_right.masked_fill(behind == width, torch.inf)
    )
    return torch.where(known | background.isinf(), disparity, background)


def consistent(
    disparity: Float[Tensor, "B H W"],
    right_disparity: Float[Tensor, "B H W"],
    tolerance: float = 1.0,
) -> Bool[Tensor, "B H W"]:
    """Left-right check: True where a left pixel and its partner name each other.

    The partner of (x, y) is at x - disparity; its own disparity must agree to `tolerance` px in one
    of the two columns around that point (never blended: at an edge the blend belongs to nothing).
    Pixels whose partner lies outside are inconsistent. What fails is occluded, or wrong. For the
    right view's check flip both maps left to right and exchange them.
    """
    nearer, farther, _, inside = _partners(right_disparity[:, None], disparity)
    error = torch.minimum((nearer[:, 0] - disparity).abs(), (farther[:, 0] - disparity).abs())
    return inside & (error <= tolerance)


def point_cloud(
    depth: Float[Tensor, "B H W"], focal_length: float, principal_point: tuple[float, float]
) -> Float[Tensor, "B H W 3"]:
    """Camera coordinates in metres of every pixel; not finite where depth is inf.

    `principal_point` is (x, y) with (0, 0) at the centre of the top left pixel.
    """
    height, width = depth.shape[-2:]
    x = torch.arange(width, device=depth.device) - principal_point[0]
    y = torch.arange(height, device=depth.device) - principal_point[1]
    return torch.stack([depth * x / focal_length, depth * y[:, None] / focal_length, depth], dim=-1)


def _partners(
    right: Float[Tensor, "B C H W"], disparity: Float[Tensor, "B H W"]
) -> tuple[
    Float[Tensor, "B C H W"],
    Float[Tensor, "B C H W"],
    Float[Tensor, "B 1 H W"],
    Bool[Tensor, "B H W"],
]:
    """The two columns around x - disparity, the share of the second, and whether both exist."""
    width = disparity.shape[-1]
    # Whole columns and the fraction are kept apart, so that x doesn't eat the fraction's bits.
    column = torch.arange(width, device=disparity.device) - disparity.ceil().long()
    share = disparity.ceil() - disparity
    inside = (column >= 0) & (column + (share > 0).long() <= width - 1)

    def gather(columns: Tensor) -> Tensor:
        index = columns.clamp(0, width - 1)[:, None].expand(-1, right.shape[1], -1, -1)
        return right.gather(-1, index)

    return gather(column), gather(column + 1), share[:, None], inside


def _check_positive(focal_length: float, baseline: float) -> None:
    if not (focal_length > 0 and baseline > 0):
        raise ValueError(
            f"focal length {focal_length:g} px and baseline {baseline:g} m: both must be positive"
        )
