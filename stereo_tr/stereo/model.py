"""`cstr_small`: two rectified views in, disparity, occlusion and confidence of the left one out.

Read `ContextStereoTransformer.forward`: features of both views, layers of matching with context,
optimal transport, context adjustment, refinement. It works on any image size, and no statistic is
shared between samples or views. What a look at a smaller scale found can guide the matching.

Letters  B pairs, H W image size in pixels, h w tokens (1/4)
Source   CSTR, https://arxiv.org/abs/2210.11719, and STTR, https://arxiv.org/abs/2011.02910; the
         published models themselves are in published/
Tests    tests/stereo/test_model.py
"""

import sys
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..attention import Dense
from ..attention.memory import joined, pieces
from ..attention.precision import full_precision
from ..datasets.sample import StereoSample
from ..vision.classifier import Classifier
from . import losses
from .context import LAYOUTS, ContextLayer
from .encoder import EncoderFeatures
from .expectation import Expectation, TokenExpectation, disagreement, of_tokens
from .features import STRIDE, Features
from .matching import RawMatch, optimal_transport, read_matches
from .output import Candidates, StereoOutput, scores_kept
from .refinement import Adjusted, ContextAdjustment, DetailRefinement, Refined
from .scales import Scales, look

DESCRIPTOR = 16
"""channels that the refinement compares: as few as that, because it does so at half the size"""

MATCHING_TABLES = 4
"""numbers a view for each pair of tokens in a row while they are matched: scores, what guides them,
plan and its exponential"""


class Details(NamedTuple):
    """Every stage on the way, for the losses and for people who want to look inside."""

    log_assignment: Float[Tensor, "B h w+1 w+1"] | None
    """log of the optimal transport from left to right tokens, with dustbins; None if not kept"""
    match: RawMatch
    """disparity in tokens"""
    adjusted: Adjusted
    refined: Refined
    size: tuple[int, int]
    """H and W before padding"""


class ContextStereoTransformer(nn.Module):
    """Context-enhanced stereo transformer without the faults of the published code.

    Confidence is the probability that the disparity is wrong by less than one pixel.
    """

    pixel_bytes = 520
    """of memory that a pair takes for a pixel, whatever goes in pieces (measured, 880x660 to 1080p;
    4K takes 400)"""
    scales = Scales(least_pixels=580_000, coarse=0.4, guided=True)
    """for the matcher; a 640x480 pair is matched enlarged to 880x660, and before that coarsely.
    Chosen on the pairs of docs/accuracy.md, which shows what it gains"""

    def __init__(
        self,
        widths: Sequence[int] = (24, 64, 96, 128),
        blocks: Sequence[int] = (2, 1, 1),
        layers: int = 3,
        heads: int = 2,
        context_heads: int = 4,
        sinkhorn_iterations: int = 4,
        window: int = 1,
        adjustment_width: int = 48,
        refinement_width: int = 24,
        refinement_reach: int = 2,
        context: Sequence[str] = tuple(LAYOUTS),
        adjusts: bool = True,
        encoder: Classifier | None = None,
    ) -> None:
        """Sizes of the model; the defaults are `cstr_small`.

        Args:
            widths: channels at strides 2, 4, 8 and 16; main path at 4, context path at 16
            blocks: residual blocks of the features at strides 4, 8 and 16
            layers: layers of matching and context
            heads: attention heads on the main path
            context_heads: attention heads on the context path
            sinkhorn_iterations: of the optimal transport; 0: a softmax in its place
            window: right tokens on each side of the best one that take part in a disparity
            adjustment_width: channels of the context adjustment (1/4)
            refinement_width: channels of the refinement (1/2)
            refinement_reach: half-size pixels that the refinement looks to either side
            context: where the context path looks, see context.LAYOUTS; nowhere: there is none
            adjusts: whether what can't be trusted is filled in before the refinement
            encoder: vision model that the features come from (`create_model` takes its name);
                None: residual blocks

        """
        _require(0, layers=layers, sinkhorn_iterations=sinkhorn_iterations, window=window)
        _require(0, refinement_reach=refinement_reach, blocks=min(blocks))
        _require(1, adjustment_width=adjustment_width, refinement_width=refinement_width)
        _require(1, widths=min(widths))
        super().__init__()
        half, quarter, _, sixteenth = widths
        self.sinkhorn_iterations = sinkhorn_iterations
        self.window = window
        self.features = (
            Features(widths, blocks) if encoder is None else EncoderFeatures(encoder, widths)
        )
        self.layers = nn.ModuleList(
            ContextLayer(quarter, heads, sixteenth, context_heads, context) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(quarter)
        self.to_descriptor = Dense(quarter, quarter)
        self.temperature = nn.Parameter(torch.tensor(0.0))
        self.dustbin = nn.Parameter(torch.tensor(0.0))
        self.adjustment = ContextAdjustment(quarter, adjustment_width, adjusts)
        self.refinement = DetailRefinement(
            half, adjustment_width, refinement_width, DESCRIPTOR, refinement_reach
        )

    def forward(
        self,
        left: Float[Tensor, "B 3 H W"],
        right: Float[Tensor, "B 3 H W"],
        expected: Expectation | None = None,
    ) -> StereoOutput:
        """Match `left` to `right`, RGB in [0, 1], of any size; `details` is a `Details`.

        `expected` is what a look at another scale found, see expectation.py.
        """
        height, width = left.shape[-2:]
        left_half, right_half, main, context = self._features(left, right)
        for layer in self.layers:
            main, context = layer(main, context)
        main = self.norm(main)

        guide = None
        if expected is not None:
            guide = of_tokens(expected, *main.shape[1:3], losses.TOKEN)
        found, plans = [], []
        each = main.shape[0] * MATCHING_TABLES * main.shape[2] ** 2 * 4
        for rows in pieces(main.shape[1], each, cached=not main.is_cuda):
            here = guide and TokenExpectation(*(map_[:, rows] for map_ in guide))
            plan = self.match(main[:, rows], here)
            found.append(read_matches(plan.exp(), self.window))
            if scores_kept():
                plans.append(plan)
        log_assignment = joined(plans, 1)
        match = RawMatch(*(joined(maps, 1) for maps in zip(*found, strict=True)))
        # What finishes is about parts of a pixel, whose gradients bfloat16 rounds away: in training
        # it computes in float32, for a tenth of a step's time (docs/accuracy.md).
        kind = main.device.type
        reduced = torch.is_autocast_enabled(kind)
        if reduced and self.training:
            main, left_half, right_half = main.float(), left_half.float(), right_half.float()
        with torch.autocast(kind, enabled=reduced and not self.training):
            adjusted = self.adjustment(main.chunk(2)[0], match)
            del main, context  # room for what follows
            refined = self.refinement(left_half, right_half, adjusted)

        details = Details(log_assignment, match, adjusted, refined, (height, width))
        return StereoOutput(
            disparity=refined.disparity[..., :height, :width].clamp(min=0),
            occlusion=refined.occlusion_logits[..., :height, :width].sigmoid(),
            confidence=refined.confidence_logits[..., :height, :width].sigmoid(),
            details=details,
            candidates=None if self.training else _of_pixels(match, height, width),
        )

    def _features(
        self, left: Float[Tensor, "B 3 H W"], right: Float[Tensor, "B 3 H W"]
    ) -> tuple[
        Float[Tensor, "B C2 H2 W2"],
        Float[Tensor, "B C2 H2 W2"],
        Float[Tensor, "views h w C4"],
        Float[Tensor, "views h16 w16 C16"],
    ]:
        """Maps at 1/2 of the left and the right view, tokens of both paths, lefts first.

        One view after the other, whatever memory there is: two at once are rounded otherwise, and
        what there is mustn't change a result. Nothing of them is kept but that.
        """
        found = []
        for part in pieces(2, sys.maxsize):
            views = _pad(_standardise(torch.cat((left, right)[part])))
            # A tenth faster on a CPU (measured), and tokens need no copy.
            found.append(self.features(views.contiguous(memory_format=torch.channels_last)))
        each_half = 2 // len(found)
        left_half, right_half = (half for maps in found for half in maps.half.chunk(each_half))
        tokens = (joined([pyramid[scale] for pyramid in found], 0) for scale in (1, 2))
        return left_half, right_half, *(map_.permute(0, 2, 3, 1) for map_ in tokens)

    def match(
        self, tokens: Float[Tensor, "views h w C"], expected: TokenExpectation | None = None
    ) -> Float[Tensor, "B h w+1 w+1"]:
        """Optimal transport from left to right tokens of each row; disparities are >= 0.

        In float32 whatever the layers before compute in: its exponentials would blow rounding up.
        """
        left, right = self.to_descriptor(tokens).to(self.dustbin.dtype).chunk(2)
        with full_precision(tokens.device):
            left = left * (self.temperature.exp() * left.shape[-1] ** -0.5)
            scores = left @ right.transpose(-1, -2)
            if expected is not None:
                scores = scores.sub_(disagreement(expected, scores.shape[-1]))
            behind = torch.ones_like(scores[0, 0], dtype=torch.bool).triu(1)
            scores = scores.masked_fill_(behind, -torch.inf)
            return optimal_transport(scores, self.dustbin, self.sinkhorn_iterations)

    def losses(self, output: StereoOutput, sample: StereoSample) -> dict[str, Tensor]:
        """Weighted losses of a batch, whose sum is to be lowered."""
        return losses.staged_losses(output.details, sample)

    def training_losses(self, sample: StereoSample) -> dict[str, Tensor]:
        """Match a batch and return its weighted losses: what the training loop calls.

        Half of the pairs are guided by a coarse look, as at inference; the others stand for the
        coarse look itself, which nothing guides.
        """
        with torch.no_grad():
            coarse = look(self, sample.left, sample.right, self.scales.coarse).maps
        guided = _coin(sample.left)[:, None, None]
        expected = Expectation(coarse.disparity, coarse.confidence * guided)
        return self.losses(self(sample.left, sample.right, expected), sample)


def _require(least: int, **sizes: int) -> None:
    """Raise ValueError for a size that is less: torch would fail later, or range() be empty."""
    for name, size in sizes.items():
        if size < least:
            raise ValueError(f"{name} is {size}; take {least} or more")


def _coin(images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, " B"]:
    """0 or 1 for each image, by its pixels: the same on every process and after every resume."""
    return (images.contiguous().flatten(1).view(torch.int32).sum(1) % 2).to(images.dtype)


def _of_pixels(match: RawMatch, height: int, width: int) -> Candidates:
    """Give every pixel what the nearest token was matched to; they lie on pixels 0, 4, 8, ..."""
    maps = torch.stack((match.disparity * losses.TOKEN, match.confidence), dim=1)
    maps = F.pad(maps, (0, 1, 0, 1), mode="replicate")  # the last one may be nearest beyond it
    maps = F.interpolate(maps, scale_factor=losses.TOKEN, mode="nearest")
    first = losses.TOKEN // 2
    maps = maps[..., first : first + height, first : first + width]
    return Candidates(*maps.unbind(1))


def _standardise(images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
    """Take away each image's own mean and contrast, so that exposure doesn't matter."""
    centred = images - images.mean((2, 3), keepdim=True)
    spread = (
        centred.square().mean((2, 3), keepdim=True).sqrt()
    )  # torch.std takes four times as long
    return centred / (spread + 0.02)  # 5 grey levels: the noise of a blank wall stays small


def _pad(images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H2 W2"]:
    """Repeat the last row and column up to the next multiple of the pyramid's stride."""
    height, width = images.shape[-2:]
    rows, columns = ((side + STRIDE - 1) // STRIDE * STRIDE for side in (height, width))
    return F.pad(images, (0, columns - width, 0, rows - height), mode="replicate")
