"""Were left and right exchanged? Classical matching in both directions, on small pictures.

With the views in order every point lies further left in the right view, by its disparity >= 0.
Exchanged, it lies further right; a model that looks only to the left then finds something at the
zero end, and nobody notices. No model is asked here: small pictures are matched by normalised
cross-correlation to both sides, and the sure matches vote.

Letters  h w size of the small pictures, in pixels
Tests    tests/test_swapped.py; there every real pair of ../shared/data, in both orders
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

SMALL_WIDTH = 112
"""pixels: enough for a vote, and some 30 ms on one core"""
WINDOW = 7
"""pixels: side of the squares that are compared"""
SURE = 0.9
"""correlation of a sure match ..."""
RIVAL = 0.15
"""... and how far below it every other shift (but the neighbours) must stay"""
LEAST_CONTRAST = 0.02
"""standard deviation in a window, of values in [0, 1]: flat walls have no say"""
LEAST_VOTES = 0.01
"""share of all windows that must be sure for the vote to count"""
LEAST_BACKWARDS = 0.4
"""share of the sure matches that must point the wrong way (far points stay at shift 0) ..."""
MOST_FORWARDS = 0.1
"""... and how many at most, for each of these, may point the right way"""


def look_swapped(left: Float[Tensor, "3 H W"], right: Float[Tensor, "3 H W"]) -> bool:
    """Whether most points of `left` lie further right in `right`; RGB in [0, 1].

    False where too little can be matched to tell. Shifts up to a quarter of the width are tried.
    """
    sides = torch.stack([left, right]).mean(1, keepdim=True)
    height, width = sides.shape[-2:]
    small_width = min(width, SMALL_WIDTH)
    small_height = max(1, round(height * small_width / width))
    sides = F.interpolate(sides, (small_height, small_width), mode="area")
    if min(small_height, small_width) < 2 * WINDOW:
        return False
    shifts, scores, contrast = _correlations(sides[0, 0], sides[1, 0])
    best, index = scores.max(0)
    away = (shifts[:, None, None] - shifts[index]).abs() > 2  # nearer ones share its peak
    rival = scores.where(away, -1.0).amax(0)
    sure = (contrast > LEAST_CONTRAST) & (best > SURE) & (best - rival > RIVAL)
    votes = shifts[index][sure]
    if len(votes) < LEAST_VOTES * sure.numel():
        return False
    forwards, backwards = (votes >= 1).float().mean(), (votes <= -1).float().mean()
    return bool(backwards > LEAST_BACKWARDS and forwards < MOST_FORWARDS * backwards)


def _correlations(
    left: Float[Tensor, "h w"], right: Float[Tensor, "h w"]
) -> tuple[Tensor, Float[Tensor, "shifts y x"], Float[Tensor, "y x"]]:
    """Correlation of windows around left x and right x - shift; the left windows' deviation."""
    reach = left.shape[-1] // 4
    shifts = torch.arange(-reach, reach + 1)

    def windows(images: Tensor, step: int = 2) -> Tensor:
        return F.avg_pool2d(images[None], WINDOW, stride=(2, step))[0]

    def deviation(mean: Tensor, mean_of_squares: Tensor) -> Tensor:
        return (mean_of_squares - mean**2).clamp_min(1e-8).sqrt()

    def moved(map_: Tensor, columns: int, step: int) -> Tensor:  # by shift - reach
        return map_.unfold(-1, columns, 1)[:, : len(shifts), ::step].transpose(0, 1).flip(0)

    mean = windows(left[None])
    left_deviation = deviation(mean, windows(left[None] ** 2))
    # Windows of the right view are summed once, every column, and moved then.
    padded = F.pad(right[None], (reach, reach), mode="replicate")
    padded_mean = windows(padded, 1)
    padded_deviation = deviation(padded_mean, windows(padded**2, 1))
    columns = 2 * mean.shape[-1] - 1
    moved_mean, moved_deviation = (moved(x[0], columns, 2) for x in (padded_mean, padded_deviation))
    products = windows(left * moved(padded[0], left.shape[-1], 1))
    scores = (products - mean * moved_mean) / (left_deviation * moved_deviation)
    return shifts, scores, left_deviation[0]
