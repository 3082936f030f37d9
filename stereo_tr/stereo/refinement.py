"""From raw matches to a full-size disparity map: context adjustment, then refinement in detail.

`ContextAdjustment` works on tokens (1/4): where a match is not to be trusted, its disparity is
taken from trusted tokens of the same surface in the same row and column; before training already
it leaves trusted matches alone. `DetailRefinement` works at 1/2: it compares both views around the
disparity so far and moves it by parts of a pixel.

Letters  B left views, C channels, h w size in tokens (1/4), H2 W2 size at 1/2
Source   context adjustment: STTR, https://arxiv.org/abs/2011.02910, section 3.4; propagation by
         attention: GMFlow, https://arxiv.org/abs/2111.13680; local comparison: RAFT-Stereo
Tests    tests/stereo/test_refinement.py
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..attention import Columns, Dense, PositionTables, Rows, attend
from ..attention.memory import pieces
from ..attention.precision import full_precision
from ..convolution import ResidualBlock, convolution
from .matching import RawMatch
from .upsampling import upsample

TRUST_SLOPE, TRUST_MIDDLE = 8.0, 0.4
"""before training, a match is trusted half at this confidence, and ever more above it"""
LEAST_TRUST = 1e-4
"""keeps logarithms of a trust finite: where nothing in a line is trusted, all of it counts alike"""


class Propagation(nn.Module):
    """Every token takes the disparity of trusted tokens that look alike.

    It looks along its row, then along its column. The result is a mean of disparities that were
    matched, so it can't invent one.
    """

    def __init__(self, channels: int, descriptor: int) -> None:
        super().__init__()
        self.to_query = Dense(channels, descriptor)
        self.to_key = Dense(channels, descriptor)

    def forward(
        self,
        tokens: Float[Tensor, "B h w C"],
        disparity: Float[Tensor, "B h w"],
        trust: Float[Tensor, "B h w"],
    ) -> Float[Tensor, "B h w"]:
        """Fill in along rows, and what that gives along columns.

        `disparity` and the result in tokens, `trust` in [0, 1]: the share a token keeps of its own.
        """
        _, height, width, _ = tokens.shape
        # Disparities are averaged here: in full precision, whatever the layers around compute in.
        kind = self.to_query.weight.dtype
        query, key = self.to_query(tokens).to(kind), self.to_key(tokens).to(kind)
        with full_precision(tokens.device):
            return self._spread(query, key, disparity, trust, height, width)

    @staticmethod
    def _spread(
        query: Tensor, key: Tensor, disparity: Tensor, trust: Tensor, height: int, width: int
    ) -> Tensor:
        for layout in (Rows(), Columns()):
            preference = (trust + LEAST_TRUST).log()[..., None]
            preference = layout.split(preference)[:, None, :, 0][:, :, None]
            maps = (query, key, disparity[..., None])
            lines = [layout.split(map_)[:, None] for map_ in maps]
            filled = _averaged(*lines, preference)
            filled = layout.merge(filled[:, 0], height, width)[..., 0]
            disparity = trust * disparity + (1 - trust) * filled
            trust = trust + (1 - trust) * 0.5  # by the second step every token has an opinion
        return disparity


def _averaged(
    query: Float[Tensor, "lines 1 N D"],
    key: Float[Tensor, "lines 1 N D"],
    disparity: Float[Tensor, "lines 1 N 1"],
    preference: Float[Tensor, "lines 1 1 N"],
) -> Float[Tensor, "lines 1 N 1"]:
    """Mean disparity of a line's tokens, for each of them: of those that look alike, and preferred.

    Values of one channel have no fused kernel, so scores and weights are made, a few lines at once.
    """
    count, _, length, _ = query.shape

    def of(part: slice) -> Tensor:
        bias = preference[part].expand(-1, -1, length, -1)
        position = PositionTables(bias=bias)
        return attend(query[part], key[part], disparity[part], position=position).tokens

    each = 2 * length**2 * query.element_size()
    parts = pieces(count, each, cached=not query.is_cuda)
    if len(parts) == 1:
        return of(parts[0])
    filled = torch.empty_like(disparity)  # at once: small results in between would split memory
    for part in parts:
        filled[part] = of(part)
    return filled


def _together(*maps: Float[Tensor, "B _ H W"]) -> Float[Tensor, "B C H W"]:
    """All channels in one map, channels last whatever `maps` are.

    Convolutions of so few channels take a third to two thirds of the time that way on a CPU.
    """
    return torch.cat([map_.permute(0, 2, 3, 1) for map_ in maps], dim=-1).permute(0, 3, 1, 2)


class Adjusted(NamedTuple):
    """Tokens and their disparity after context adjustment."""

    disparity: Float[Tensor, "B h w"]
    """tokens"""
    hidden: Float[Tensor, "B C h w"]
    """what the detail refinement may know of it"""


class ContextAdjustment(nn.Module):
    """Replace what can't be trusted, keep what can."""

    def __init__(self, channels: int, hidden: int, adjusts: bool = True) -> None:
        """Channels of the tokens and in here; `adjusts` False: matches stay as they are."""
        super().__init__()
        self.propagation = Propagation(channels, channels // 2) if adjusts else None
        self.inputs = convolution(channels + 5, hidden)
        self.blocks = nn.Sequential(ResidualBlock(hidden, hidden), ResidualBlock(hidden, hidden))
        if not adjusts:
            return
        self.outputs = nn.Conv2d(hidden, 2, 3, padding=1)
        nn.init.zeros_(self.outputs.weight)
        nn.init.zeros_(self.outputs.bias)

    def forward(self, tokens: Float[Tensor, "B h w C"], match: RawMatch) -> Adjusted:
        """Adjust the raw match of the left view.

        Disparities enter standardised, so that neither their range nor an offset matters.
        """
        spread, mean = torch.std_mean(match.disparity, dim=(1, 2), keepdim=True)
        spread = spread + 1.0  # token: a flat map isn't blown up to noise
        trust = torch.sigmoid(TRUST_SLOPE * (match.confidence - TRUST_MIDDLE))
        filled = match.disparity
        if self.propagation is not None:
            filled = self.propagation(tokens, match.disparity, trust)
        maps = (
            (match.disparity - mean) / spread,
            (filled - mean) / spread,
            match.confidence,
            match.unmatched,
            trust,
        )
        known = _together(tokens.permute(0, 3, 1, 2), *(map_[:, None] for map_ in maps))
        hidden = self.blocks(self.inputs(known))
        if self.propagation is None:
            return Adjusted(match.disparity, hidden)
        change, keep = self.outputs(hidden).unbind(1)
        keep = torch.sigmoid(torch.logit(trust, eps=LEAST_TRUST) + keep)
        replaced = filled + change * spread
        return Adjusted(keep * match.disparity + (1 - keep) * replaced, hidden)


class Refined(NamedTuple):
    """Full-size result of the left view."""

    disparity: Float[Tensor, "B H W"]
    """pixels"""
    half_disparity: tuple[Float[Tensor, "B H2 W2"], ...]
    """pixels of the half-size image, before and after the refinement"""
    occlusion_logits: Float[Tensor, "B H W"]
    confidence_logits: Float[Tensor, "B H W"]


class DetailRefinement(nn.Module):
    """Compare the views at 1/2 around the disparity so far, move it, enlarge it to full size."""

    def __init__(self, half: int, hidden: int, width: int, descriptor: int, reach: int) -> None:
        """Sizes: channels, and how far to look.

        Args:
            half: channels of the features at 1/2
            hidden: channels of what the adjustment hands over
            width: channels in here
            descriptor: channels that are compared
            reach: largest offset of the comparison, in half-size pixels

        """
        super().__init__()
        self.reach = reach
        self.to_descriptor = nn.Conv2d(half, descriptor, 1)
        self.to_enlarge = nn.Sequential(
            nn.Conv2d(hidden + 4 * half, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, 9 * 4, 1)
        )
        self.from_hidden = nn.Conv2d(hidden, width, 1)
        self.inputs = convolution(half + width + (2 * reach + 1) + 1, width)
        self.blocks = nn.Sequential(ResidualBlock(width, width), ResidualBlock(width, width))
        self.outputs = nn.Conv2d(width, 2 * reach + 1 + 3, 3, padding=1)
        self.to_full = nn.Conv2d(width, 9 * 4, 3, padding=1)

    def forward(
        self,
        left: Float[Tensor, "B C H2 W2"],
        right: Float[Tensor, "B C H2 W2"],
        adjusted: Adjusted,
    ) -> Refined:
        """Refine the adjusted disparity of the left view; H2 = 2 h, W2 = 2 w."""
        logits = self.to_enlarge(_together(adjusted.hidden, F.pixel_unshuffle(left, 2)))
        start = upsample(adjusted.disparity[:, None] * 2, logits, 2)
        cost = self.compare(left, right, start.detach())
        hidden = F.interpolate(
            self.from_hidden(adjusted.hidden), scale_factor=2, mode="bilinear", align_corners=False
        )
        relief = start - F.avg_pool2d(start, 5, stride=1, padding=2, count_include_pad=False)
        x = self.blocks(self.inputs(_together(left, hidden, cost, relief.detach())))
        offsets, gate, occlusion, confidence = (
            self.outputs(x)
            .to(self.outputs.weight.dtype)
            .split((2 * self.reach + 1, 1, 1, 1), dim=1)
        )
        steps = torch.arange(-self.reach, self.reach + 1, device=x.device, dtype=start.dtype)
        move = ((offsets + cost).softmax(1) * steps[:, None, None]).sum(1, keepdim=True)
        refined = (start + gate.sigmoid() * move).clamp(min=0)
        disparity = upsample(refined * 2, self.to_full(x), 2)[:, 0]
        logits = F.interpolate(
            torch.cat((occlusion, confidence), dim=1),
            scale_factor=2,
            mode="bilinear",
            align_corners=False,
        )
        return Refined(disparity, (start[:, 0], refined[:, 0]), logits[:, 0], logits[:, 1])

    def compare(
        self,
        left: Float[Tensor, "B C H2 W2"],
        right: Float[Tensor, "B C H2 W2"],
        disparity: Float[Tensor, "B 1 H2 W2"],
    ) -> Float[Tensor, "B offsets H2 W2"]:
        """Similarity of left pixel x and right pixel x - disparity - offset, for each offset.

        Offsets ascend from -reach to reach, all in half-size pixels; beyond the border the
        outermost column is compared.
        """
        # Places need float32, whatever the layers compute in: bfloat16 counts to 256.
        kind = self.to_descriptor.weight.dtype
        left, right = (
            self.to_descriptor(x).to(kind).permute(0, 2, 3, 1).flatten(1, 2) for x in (left, right)
        )
        batch, _, channels = left.shape
        height, width = disparity.shape[-2:]
        place = torch.arange(width, device=left.device) - disparity[:, 0].to(kind)
        # All offsets share a fraction: similarities to whole columns, then linear between two.
        whole = place.floor()
        share = (place - whole)[:, None]
        steps = torch.arange(self.reach + 1, -self.reach - 1, -1, device=left.device)
        columns = (whole.long()[..., None] + steps).clamp(0, width - 1)
        rows = torch.arange(batch * height, device=left.device).view(batch, height, 1, 1)
        seen = F.embedding((rows * width + columns).flatten(1, 2), right.flatten(0, 1))
        with full_precision(left.device):
            similar = (seen @ left[..., None]).view(batch, height, width, -1).permute(0, 3, 1, 2)
        between = similar[:, 1:] * (1 - share) + similar[:, :-1] * share
        return between * channels**-0.5
