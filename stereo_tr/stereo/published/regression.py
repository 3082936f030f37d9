"""From an assignment to a disparity map, as the published models do it.

Letters  B batch, h w token grid, T = S = w tokens of a left and a right row, H W image in pixels
Source   Li et al. 2021, sections 3.3 and 3.4 (regression, context adjustment);
         convex upsampling after Teed & Deng 2020 (RAFT)
Tests    tests/stereo/test_published.py: the original code's outputs, hand-computed rows
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..strips import in_strips
from ..upsampling import upsample
from .features import TOKEN_CHANNELS

LEAST_MATCHED = 0.1
"""below this matched mass a token isn't renormalised: its disparity shrinks towards 0 instead"""

_STD_FLOOR = 1e-6
_ADJUSTMENT_CHANNELS = 16
_ADJUSTMENT_EXPANSION = 4
_ADJUSTMENT_BLOCKS = 8


class TokenDisparity(NamedTuple):
    """What regression makes of the assignment, one value a token of the left view."""

    disparity: Float[Tensor, "B h w"]
    """in tokens, >= 0"""
    occlusion: Float[Tensor, "B h w"]
    """1 - the mass that was divided by; exactly 0 where that was set to 1"""
    matched: Float[Tensor, "B h w"]
    """in [0, 1]: the mass of the best match and its two neighbours"""


def regress(
    assignment: Float[Tensor, "B h T S"], occluded: Bool[Tensor, "B h T"] | None = None
) -> TokenDisparity:
    """Average the disparity over the best match and its two neighbours.

    `occluded` is a compatibility switch for training and for published evaluation numbers: the
    reference reads the true occlusion there, divides by 1 at those tokens and by the matched mass,
    however small, at all others. Without it (inference) it divides by 1 where less than
    `LEAST_MATCHED` is matched. Either way those tokens report occlusion 0, the reference's quirk.
    """
    queries, keys = assignment.shape[-2:]
    neighbours = torch.arange(-1, 2, device=assignment.device)
    columns = assignment.argmax(-1, keepdim=True) + neighbours
    inside = (columns >= 0) & (columns < keys)
    weights = assignment.gather(-1, columns.clamp(0, keys - 1)) * inside
    matched = weights.sum(-1)
    replaced = matched < LEAST_MATCHED if occluded is None else occluded
    mass = matched.masked_fill(replaced, 1.0)
    own = torch.arange(queries, device=assignment.device)[:, None]
    distances = (own - columns).clamp(min=0)
    disparity = (weights / mass[..., None] * distances).sum(-1)
    return TokenDisparity(disparity, 1 - mass, matched.clamp(max=1.0))


class ConvexUpsampling(nn.Module):
    """Each of 4 x 4 new pixels is a convex mixture of the 3 x 3 tokens around it (CSTR)."""

    factor = 4

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Sequential(
            nn.Conv2d(TOKEN_CHANNELS, 2 * TOKEN_CHANNELS, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(2 * TOKEN_CHANNELS, 9 * self.factor**2, 1),
        )

    def forward(
        self, values: Float[Tensor, "B h w"], tokens: Float[Tensor, "B C h w"]
    ) -> Float[Tensor, "B 4*h 4*w"]:
        """Upsample with weights read from the left tokens; beyond the border values count as 0."""
        logits = self.weights(tokens)
        return upsample(values[:, None], logits, self.factor, padding="constant")[:, 0]


def nearest(values: Float[Tensor, "B _ _"], size: tuple[int, int]) -> Float[Tensor, "B H W"]:
    """Resize to (H, W) by taking source pixel floor(target * source size / target size)."""
    return F.interpolate(values[:, None], size, mode="nearest")[:, 0]


class WeightNormConvolution(nn.Module):
    """A 3x3 convolution whose filters are a length times a direction, one of each a channel."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        start = nn.Conv2d(in_channels, channels, 3)
        self.direction = nn.Parameter(start.weight.detach().clone())
        self.length = nn.Parameter(_lengths(self.direction).detach())
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Float[Tensor, "B _ H W"]) -> Float[Tensor, "B _ H W"]:
        """Convolve, keeping the size."""
        weight = self.direction * (self.length / _lengths(self.direction))
        return F.conv2d(x, weight, self.bias, padding=1)


class AdjustmentBlock(nn.Module):
    """A residual block that is shown the disparity again."""

    def __init__(self) -> None:
        super().__init__()
        hidden = _ADJUSTMENT_EXPANSION * _ADJUSTMENT_CHANNELS
        self.widen = WeightNormConvolution(_ADJUSTMENT_CHANNELS + 1, hidden)
        self.narrow = WeightNormConvolution(hidden, _ADJUSTMENT_CHANNELS)

    def forward(
        self, disparity: Float[Tensor, "B 1 H W"], x: Float[Tensor, "B C H W"]
    ) -> Float[Tensor, "B C H W"]:
        """Add narrow(relu(widen([disparity, x]))) to x."""
        hidden = len(self.widen.direction)
        floats = x.shape[0] * x.shape[-1] * (hidden + 3 * x.shape[1])
        return in_strips(self._add, disparity, x, halo=2, row_bytes=floats * x.element_size())

    def _add(self, disparity: Tensor, x: Tensor) -> Tensor:
        hidden = F.relu(self.widen(torch.cat([disparity, x], dim=1)), inplace=True)
        return self.narrow(hidden).add_(x)


class ContextAdjustment(nn.Module):
    """Correct disparity and occlusion at full resolution by looking at the left image."""

    def __init__(self) -> None:
        super().__init__()
        channels = _ADJUSTMENT_CHANNELS
        self.entry = nn.Conv2d(4, channels, 3, padding=1)
        self.blocks = nn.ModuleList(AdjustmentBlock() for _ in range(_ADJUSTMENT_BLOCKS))
        self.exit = nn.Conv2d(channels, 1, 3, padding=1)
        self.occlusion = nn.Sequential(
            *(WeightNormConvolution(4, channels), WeightNormConvolution(channels, channels)),
            nn.ReLU(),
            *(WeightNormConvolution(channels, channels), WeightNormConvolution(channels, channels)),
            nn.ReLU(),
            nn.Conv2d(channels, 1, 3, padding=1),
        )

    def forward(
        self,
        disparity: Float[Tensor, "B H W"],
        occlusion: Float[Tensor, "B H W"],
        image: Float[Tensor, "B 3 H W"],
    ) -> tuple[Float[Tensor, "B H W"], Float[Tensor, "B H W"]]:
        """Return the adjusted disparity (in the units given) and occlusion (in [0, 1]).

        The disparity is standardised by its own sample's mean and deviation, so that a batch gives
        what its samples give alone (the reference takes both over the whole batch).
        """
        mean = disparity.mean((1, 2), keepdim=True)
        std = disparity.std((1, 2), keepdim=True) + _STD_FLOOR
        # Channels last, as the image: a single channel can be either, and this one says which.
        standard = ((disparity - mean) / std)[..., None].permute(0, 3, 1, 2)
        x = self.entry(torch.cat([standard, image], dim=1))
        for block in self.blocks:
            x = block(standard, x)
        adjusted = (standard + self.exit(x))[:, 0] * std + mean
        centred = ((occlusion - 0.5) / 0.5)[..., None].permute(0, 3, 1, 2)
        logits = self.occlusion(torch.cat([centred, image], dim=1))
        return adjusted, torch.sigmoid(logits)[:, 0]


def _lengths(direction: Tensor) -> Tensor:
    return torch.linalg.vector_norm(direction, dim=(1, 2, 3), keepdim=True)
