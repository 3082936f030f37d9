"""ViTamin: convolution in the early stages, attention in the last.

A stem, two stages of inverted bottlenecks (with one norm in front instead of one after each
convolution), a third stage of transformer blocks whose feed-forward is gated.

Letters  B batch, C channels, H W image, h w map of stride 16
Source   Chen et al. 2024, https://arxiv.org/abs/2404.02132; gated feed-forward:
         https://arxiv.org/abs/2002.05202
Tests    tests/vision/test_vitamin.py: timm's golden output and names, parameter counts
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..attention import (
    Attention,
    Everything,
    FeedForward,
    LayoutAttention,
    LearnedMap,
    Residual,
)
from ..convolution import ChannelNorm, InvertedBottleneck, PaddedConvolution
from .classifier import CLASSES, Classifier, Colours, initialise, pyramid_of_one, rising
from .translation import FUSED, fitted_table, renamed

STRIDE = 16
"""image pixels between tokens"""

GATED = 2
"""width inside the gated feed-forward, in widths of the model"""

CLIP_COLOURS = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
"""mean and standard deviation of the colours that CLIP was trained on"""

LayerNorm = partial(nn.LayerNorm, eps=1e-6)
MapNorm = partial(ChannelNorm, eps=1e-6)


class ViTamin(Classifier):
    """Two convolutional stages and `depth` transformer blocks over a map of stride 16."""

    classifies_with = ("norm", "head")

    def __init__(
        self,
        *,
        stem: int,
        channels: int,
        depth: int,
        heads: int,
        convolutions: Sequence[int] = (2, 4),
        image_size: int | tuple[int, int] = 224,
        positions: bool = True,
        num_classes: int = CLASSES,
        in_channels: int = 3,
        colours: Colours = CLIP_COLOURS,
        drop_path: int | float = 0.0,
        checkpointing: bool = False,
    ) -> None:
        """Make the network.

        Args:
            stem: width of the stem and of the first stage; the second has twice as many
            channels: width of the transformer
            depth: transformer blocks
            heads: of their attention
            convolutions: blocks of the first two stages
            image_size: one number, or height and width, that the position table is learned for;
                it is resized for others in every call
            positions: whether there is such a table
            num_classes: width of the last layer; 0 for none
            in_channels: of the image
            colours: mean and standard deviation of the channels
            drop_path: rate of the last transformer block; it grows from 0
            checkpointing: compute a block's activations again for its gradient

        """
        widths = (stem, 2 * stem)
        super().__init__(
            channels,
            (*widths, channels, channels),
            num_classes=num_classes,
            in_channels=in_channels,
            colours=colours,
            checkpointing=checkpointing,
        )
        self.stem = nn.Sequential(
            PaddedConvolution(in_channels, stem, stride=2),
            MapNorm(stem),
            nn.GELU(),
            PaddedConvolution(stem, stem),
        )
        self.stages = nn.ModuleList(
            nn.ModuleList(
                InvertedBottleneck(
                    width if index else inputs, width, stride=1 if index else 2, norm=MapNorm
                )
                for index in range(blocks)
            )
            for inputs, width, blocks in zip((stem, stem), widths, convolutions, strict=True)
        )
        self.to_tokens = nn.Sequential(
            MapNorm(widths[-1]), PaddedConvolution(widths[-1], channels, stride=2)
        )
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        self.position = (
            LearnedMap(-(-height // STRIDE), -(-width // STRIDE), channels) if positions else None
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(
                Residual(
                    LayoutAttention(Everything(), Attention(channels, heads)),
                    channels,
                    make_norm=LayerNorm,
                    drop_path=rate,
                ),
                Residual(
                    # a second norm straight after the branch's own, as published
                    nn.Sequential(
                        LayerNorm(channels), FeedForward(channels, GATED * channels, gated=True)
                    ),
                    channels,
                    make_norm=LayerNorm,
                    drop_path=rate,
                ),
            )
            for rate in rising(drop_path, depth)
        )
        self.norm = LayerNorm(channels)
        self.apply(initialise)

    def stages_of(
        self, x: Float[Tensor, "B C H W"]
    ) -> tuple[list[Float[Tensor, "B _ _ _"]], Float[Tensor, "B h w C2"]]:
        """Return the convolutional stages' maps (strides 4 and 8) and the tokens (stride 16)."""
        x = self.stem(self.normalised(x))
        maps = []
        for blocks in self.stages:
            x = self.through(blocks, x)
            maps.append(x)
        tokens = self.to_tokens(x).permute(0, 2, 3, 1)
        if self.position is not None:
            tokens = tokens + self.position(*tokens.shape[1:3])
        return maps, self.through(self.blocks, tokens)

    def embedding(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2"]:
        """Mean of the tokens, normalised."""
        return self.norm(self.stages_of(x)[1].mean((1, 2)))

    def features(self, x: Float[Tensor, "B C H W"]) -> dict[int, Float[Tensor, "B _ _ _"]]:
        """See Classifier.features; the map of stride 32 is the tokens' average."""
        maps, tokens = self.stages_of(x)
        pyramid = pyramid_of_one(tokens, STRIDE, *x.shape[-2:])
        return {4: maps[0], 8: maps[1], 16: pyramid[16], 32: pyramid[32]}

    def translate_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return timm's weights under our names; ours as they are."""
        result = renamed(weights, _RENAMED, self.state_dict())
        for name in [name for name in result if ".gate." in name]:
            activated = name.replace(".gate.", ".widen.")
            if activated in result:
                result[activated] = torch.cat((result[activated], result.pop(name)))
        table = result.get("position.table")
        if self.position is not None and table is not None:
            size, ours = self.position.table.shape[:2], "position.table" in weights
            result["position.table"] = fitted_table(table, *size, ours=ours)
        return result


_RENAMED = (
    (r"^patch_embed\.backbone\.stem\.conv1\.", "stem.0."),
    (r"^patch_embed\.backbone\.stem\.norm1\.", "stem.1."),
    (r"^patch_embed\.backbone\.stem\.conv2\.", "stem.3."),
    (r"^patch_embed\.backbone\.pool\.norm\.", "to_tokens.0."),
    (r"^patch_embed\.backbone\.pool\.proj\.", "to_tokens.1."),
    (r"^patch_embed\.backbone\.stages\.", "stages."),
    (r"^(stages\.\d+\.\d+)\.pre_norm\.", r"\1.norm."),
    (r"^(stages\.\d+\.\d+)\.conv1_1x1\.", r"\1.widen."),
    (r"^(stages\.\d+\.\d+)\.conv2_kxk\.", r"\1.mix."),
    (r"^(stages\.\d+\.\d+)\.conv3_1x1\.", r"\1.narrow."),
    (r"^(stages\.\d+\.\d+)\.shortcut\.expand\.", r"\1.shortcut."),
    (r"^pos_embed$", "position.table"),
    (r"^(blocks\.\d+)\.norm1\.", r"\1.0.norm."),
    (r"^(blocks\.\d+)\.attn\.qkv\.", rf"\1.0.branch.attention{FUSED}"),
    (r"^(blocks\.\d+)\.attn\.proj\.", r"\1.0.branch.attention.to_out."),
    (r"^(blocks\.\d+)\.norm2\.", r"\1.1.norm."),
    (r"^(blocks\.\d+)\.mlp\.norm\.", r"\1.1.branch.0."),
    (r"^(blocks\.\d+)\.mlp\.w0\.", r"\1.1.branch.1.widen."),
    (r"^(blocks\.\d+)\.mlp\.w1\.", r"\1.1.branch.1.gate."),
    (r"^(blocks\.\d+)\.mlp\.w2\.", r"\1.1.branch.1.narrow."),
    (r"^fc_norm\.", "norm."),
)
"""timm's names; what it keeps apart as a gate is the second half of our widening layer"""

vitamin_small_224 = partial(ViTamin, stem=64, channels=384, depth=14, heads=6)
vitamin_base_224 = partial(ViTamin, stem=128, channels=768, depth=14, heads=12)
vitamin_large_224 = partial(ViTamin, stem=160, channels=1024, depth=31, heads=16)
vitamin_large2_224 = vitamin_large_224
vitamin_xlarge_256 = partial(
    ViTamin, stem=192, channels=1152, depth=32, heads=16, image_size=256, positions=False
)
