"""CSTR, STTR and STTR-light as published, quirks included.

Where the original code mixes the pairs of a batch, or fails, a batch here gives what its pairs
give alone, and any image of at least 2 pixels works.

Letters  B batch, H W image in pixels, h w token grid
Source   Li et al. 2021, "Revisiting Stereo Depth Estimation From a Sequence-to-Sequence
         Perspective with Transformers" (STTR), https://arxiv.org/abs/2011.02910;
         Guo et al. 2022, "Context-Enhanced Stereo Transformer" (CSTR), https://arxiv.org/abs/2210.11719
Tests    tests/stereo/test_published.py: outputs, losses, gradients of the original code
"""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from stereo_tr.attention.memory import joined, pieces
from stereo_tr.datasets.sample import StereoSample

from ...attention.precision import full_precision
from ..matching import optimal_transport
from ..output import StereoOutput, scores_kept
from .features import Backbone, PairNorm, QuarterTokens, SampledTokens
from .losses import PublishedDetails, at_tokens, published_losses
from .regression import ContextAdjustment, ConvexUpsampling, TokenDisparity, nearest, regress
from .transformer import PublishedTransformer
from .translation import translate

SINKHORN_ITERATIONS = 10

FEATURE_BYTES = 208
"""of working memory that features and tokens of a view need for a pixel: 16 channels at 1/2, and
the last dense block's 192 at 1/4 three times over, in float32"""
MATCHING_TABLES = 9
"""numbers for each pair of tokens in a row while they are matched: both offset products (twice as
wide), scores, kernel, plan and its exponential"""


class PublishedStereo(nn.Module):
    """One of the published models; use `cstr`, `sttr` or `sttr_light` to make it.

    `disparity` can be slightly negative and reach beyond the image, as the original's. `confidence`
    is the matched mass of the token a pixel belongs to: the best match and its two neighbours.
    """

    def __init__(
        self,
        backbone: Backbone,
        tokenizer: QuarterTokens,
        transformer: PublishedTransformer,
        upsampling: ConvexUpsampling | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("mean", _channels(0.485, 0.456, 0.406), persistent=False)
        self.register_buffer("std", _channels(0.229, 0.224, 0.225), persistent=False)
        self.backbone = backbone
        self.tokenizer = tokenizer
        self.pixel_bytes = tokenizer.pixel_bytes
        self.transformer = transformer
        self.dustbin = nn.Parameter(torch.zeros(()))
        self.upsampling = upsampling
        self.adjustment = ContextAdjustment()

    def forward(
        self,
        left: Float[Tensor, "B 3 H W"],
        right: Float[Tensor, "B 3 _ _"],
        occluded: Bool[Tensor, "B H W"] | None = None,
    ) -> StereoOutput:
        """Match two rectified views, RGB in [0, 1].

        `occluded`, the true occlusion, is for training and for reproducing published numbers only:
        the original code reads it while it regresses (see `regress`). Never give it for inference.
        Raises ValueError for views that differ in size or have fewer than 2 pixels.
        """
        if left.shape != right.shape or left.ndim != 4 or left.shape[1] != 3:
            raise ValueError(
                f"the views are {tuple(left.shape)} and {tuple(right.shape)}; "
                "both must be [batch, 3, height, width] and of one size"
            )
        height, width = left.shape[-2:]
        if height * width < 2:
            raise ValueError(f"views of {width}x{height} pixels can't be matched; give 2 or more")
        images = torch.cat([left, right]).sub_(self.mean).div_(self.std)
        tokens = self._tokens(images)
        distance, scale = self.tokenizer.distance(width), self.tokenizer.scale(width)
        seen = self.transformer.before_scores(tokens, distance)
        tokens = tokens[: left.shape[0]]

        rows = self.tokenizer.centres(height).to(left.device)
        columns = self.tokenizer.centres(width).to(left.device)
        token_occluded = None if occluded is None else at_tokens(occluded, rows, columns)
        # What is exponentiated, and the disparity itself, in float32 under any autocast.
        with full_precision(left.device):
            seen = (each.to(self.dustbin.dtype) for each in seen)
            found, scores, log_assignment = self.match(*seen, distance, token_occluded)
        token_disparity = found.disparity * scale

        size = (height, width)
        upsampled = token_disparity
        if self.upsampling is not None:
            upsampled = self.upsampling(token_disparity, tokens)
        image = images[: left.shape[0]]
        # Channels last: convolutions of few channels run up to three times as fast on a CPU, their
        # way back half again as fast (measured, Zen 5). Not so before the matching: ties that
        # rounding decides would fall otherwise.
        image = image.contiguous(memory_format=torch.channels_last)
        with full_precision(left.device):
            disparity, occlusion = self.adjustment(
                nearest(upsampled, size), nearest(found.occlusion, size), image
            )
        details = PublishedDetails(
            token_disparity, found.occlusion, scores, log_assignment, rows, columns, scale
        )
        return StereoOutput(disparity, occlusion, nearest(found.matched, size), details)

    def _tokens(self, images: Float[Tensor, "V 3 H W"]) -> Float[Tensor, "V C h w"]:
        """Tokens of all views: one view after the other where memory asks and no norm forbids."""
        apart = not any(isinstance(m, PairNorm) for m in self.modules()) and not self.training
        each = FEATURE_BYTES * images.shape[-2] * images.shape[-1]
        parts = pieces(images.shape[0], each) if apart else [slice(None)]
        tokens = [self.tokenizer(self.backbone(images[part]), images[part]) for part in parts]
        return tokens[0] if len(parts) == 1 else torch.cat(tokens)

    def match(
        self,
        left_seen: Float[Tensor, "B h w C"],
        right_seen: Float[Tensor, "B h w C"],
        distance: float,
        occluded: Bool[Tensor, "B h w"] | None = None,
    ) -> tuple[
        TokenDisparity, Float[Tensor, "B h w w"] | None, Float[Tensor, "B h w+1 w+1"] | None
    ]:
        """Read disparities off the transport plan; rows are matched a few at a time.

        Also return scores and logarithms of the plan, unless they aren't to be kept (`maps_only`).
        """
        batch, height, width = left_seen.shape[:3]
        each = batch * MATCHING_TABLES * width**2 * left_seen.element_size()
        found, scores, plans = [], [], []
        for part in pieces(height, each, cached=not left_seen.is_cuda):
            raw = self.transformer.scores(left_seen[:, part], right_seen[:, part], distance)
            plan = optimal_transport(raw, self.dustbin, SINKHORN_ITERATIONS)
            told = None if occluded is None else occluded[:, part]
            found.append(regress(plan[..., :-1, :-1].exp(), told))
            if scores_kept():
                scores.append(raw)
                plans.append(plan)
        maps = TokenDisparity(*(joined(maps, 1) for maps in zip(*found, strict=True)))
        return maps, joined(scores, 1), joined(plans, 1)

    def losses(self, output: StereoOutput, sample: StereoSample) -> dict[str, Tensor]:
        """Return the published losses of a batch, weighted; see `published_losses`."""
        return published_losses(output, sample)

    def training_losses(self, sample: StereoSample) -> dict[str, Tensor]:
        """Match a batch as the original does in training, and return its losses."""
        return self.losses(self(sample.left, sample.right, sample.occluded), sample)

    def translate_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return `weights` in this model's layout; they may be in it or in the published one."""
        return translate(weights, self.state_dict().keys())


def cstr(layers: int = 6, heads: int = 4) -> PublishedStereo:
    """Make the Context-Enhanced Stereo Transformer (ECCV 2022) with random weights."""
    return _initialised(
        PublishedStereo(
            Backbone(nn.BatchNorm2d),
            QuarterTokens(nn.BatchNorm2d),
            PublishedTransformer(layers, heads, context=True),
            ConvexUpsampling(),
        )
    )


def sttr(layers: int = 6, heads: int = 8) -> PublishedStereo:
    """Make the Stereo Transformer (ICCV 2021) with random weights."""
    return _initialised(
        PublishedStereo(
            Backbone(PairNorm),
            SampledTokens(PairNorm),
            PublishedTransformer(layers, heads, context=False),
        )
    )


def sttr_light(layers: int = 6, heads: int = 4) -> PublishedStereo:
    """Make the light Stereo Transformer, whose tokens stand at 1/4 of the image, random weights."""
    return _initialised(
        PublishedStereo(
            Backbone(PairNorm),
            QuarterTokens(PairNorm),
            PublishedTransformer(layers, heads, context=False),
        )
    )


def _channels(*values: float) -> Tensor:
    return torch.tensor(values)[:, None, None]


def _initialised(model: PublishedStereo) -> PublishedStereo:
    """Draw the weights as the reference does, so that training from scratch starts alike."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    layers = zip(model.transformer.within, model.transformer.across, strict=True)
    first = None
    for layer in layers:
        attentions = [m for half in layer for m in half.modules() if hasattr(m, "to_query")]
        for attention in attentions:
            # Xavier's bound for the three projections as one matrix [3C, C].
            for linear in (attention.to_query, attention.to_key, attention.to_value):
                channels = linear.in_features
                bound = (6 / (4 * channels)) ** 0.5
                nn.init.uniform_(linear.weight, -bound, bound)
                nn.init.zeros_(linear.bias)
            nn.init.zeros_(attention.to_out.bias)
        # All layers start as copies of the first.
        if first is None:
            first = attentions
        for copy, original in zip(attentions, first, strict=True):
            copy.load_state_dict(original.state_dict())
    return model
