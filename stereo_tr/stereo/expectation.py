"""What another look at the same pair found, and what it costs a match to disagree with it.

Seen small, a picture shows which of several alike places is meant, and where a blank wall lies; it
doesn't show detail. So a match may go anywhere between the disparities that a smaller look found
around its token, and beyond them its score is lowered by how sure that look was. Edges keep both
their surfaces, since both lie around them; and where the small look was unsure, nothing changes.

Letters  B left views, H W image size in pixels, h w its tokens (1/4), T S left and right tokens
Source   coarse to fine matching; a prior on scores: Geiger et al. 2010, ELAS, section 3
Tests    tests/stereo/test_expectation.py; what it gains on real pairs: docs/accuracy.md
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

STRENGTH = 8.0
"""what a match that a sure look excludes loses of its score, which is a logarithm"""
TOLERANCE = 1.5
"""tokens beyond the expected disparities that cost nothing; one more, and they cost all"""
REACH = 3
"""tokens to every side whose expectations count"""


class Expectation(NamedTuple):
    """What is known of a left view before it is matched."""

    disparity: Float[Tensor, "B H W"]
    """pixels of this view"""
    confidence: Float[Tensor, "B H W"]
    """in [0, 1]; 0: nothing is known here"""


class TokenExpectation(NamedTuple):
    """The same for tokens: a range, and how sure it is."""

    middle: Float[Tensor, "B h w"]
    """tokens"""
    reach: Float[Tensor, "B h w"]
    """tokens to either side of the middle that cost nothing"""
    cost: Float[Tensor, "B h w"]
    """of a match outside, in [0, STRENGTH]"""


def of_tokens(expected: Expectation, height: int, width: int, stride: int) -> TokenExpectation:
    """Expectations of `height` x `width` tokens; token (y, x) is centred on pixel `stride` (y, x).

    The range is that of the tokens around, the cost that of the least sure of them. Tokens beyond
    the image (it was padded) expect what the last ones within do.
    """
    maps = torch.stack(expected, dim=1)[..., ::stride, ::stride].float()
    beyond = (0, width - maps.shape[-1], 0, height - maps.shape[-2])
    disparity, confidence = F.pad(maps, beyond, mode="replicate").split(1, dim=1)

    def highest(x: Tensor) -> Tensor:
        return F.max_pool2d(x, 2 * REACH + 1, stride=1, padding=REACH)[:, 0]

    disparity = disparity / stride
    high, low, sure = highest(disparity), -highest(-disparity), -highest(-confidence)
    return TokenExpectation((high + low) / 2, (high - low) / 2 + TOLERANCE, STRENGTH * sure)


def disagreement(expected: TokenExpectation, right_tokens: int) -> Float[Tensor, "B h T S"]:
    """What to take off the score of each pair of a left and a right token of a row."""
    left, right = (
        torch.arange(count, device=expected.middle.device)
        for count in (expected.middle.shape[-1], right_tokens)
    )
    disparity = (left[:, None] - right).to(expected.middle.dtype)
    off = (disparity - expected.middle[..., None]).abs_()
    off = off.sub_(expected.reach[..., None]).clamp_(0, 1)
    return off.mul_(expected.cost[..., None])
