"""TransUNet: a segmentation network with a transformer at the bottom of its U.

A convolutional trunk down to stride 16 (or patches alone, in the plain form), transformer blocks
among all places there, and a decoder that climbs back, joining the trunk's maps on its way.

Letters  B batch, C channels, H W image, h w map, K classes
Source   Chen et al. 2021, https://arxiv.org/abs/2102.04306; trunk of the ViT paper's hybrids
         (weight standardisation: https://arxiv.org/abs/1903.10520); Dice with squared
         denominators: V-Net, https://arxiv.org/abs/1606.04797
Tests    tests/vision/test_transunet.py: the authors' golden output and loss, parameter counts
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..attention import (
    Attention,
    Everything,
    FeedForward,
    LayoutAttention,
    LearnedMap,
    Residual,
)
from ..datasets.image_folder import LabelledImage
from .classifier import STRIDES, Classifier, initialise, pyramid_of_one, rising
from .patches import missing
from .translation import GOOGLE, fitted_table, renamed
from .transunet_layouts import RENAMED, from_google_hybrid

STRIDE = 16
"""image pixels between tokens"""

ENTRY = 512
"""width in which the decoder starts"""

SMOOTHING = 1e-5
"""added to Dice's numerator and denominator, for classes that appear nowhere"""

UNCHANGED = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
"""mean and standard deviation: the authors' slices enter as they are, in [0, 1]"""

LayerNorm = partial(nn.LayerNorm, eps=1e-6)


class ChannelGroupNorm(nn.GroupNorm):
    """Group norm also of a single number, which it brings to zero: torch's layer refuses it.

    A group of one channel has no more on a map of one place, at the bottom of a small image.
    """

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Normalise; the numbers are torch's."""
        cudnn = torch.backends.cudnn.enabled
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps, cudnn)


GroupNorm = partial(ChannelGroupNorm, 32, eps=1e-6)


class StandardisedConvolution(nn.Conv2d):
    """Convolution whose filters are brought to mean 0 and variance 1 before use; no bias."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, kernel // 2, bias=False)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 h w"]:
        """Convolve with the standardised filters."""
        variance, mean = torch.var_mean(self.weight, (1, 2, 3), correction=0, keepdim=True)
        weight = (self.weight - mean) / (variance + 1e-5).sqrt()
        return F.conv2d(x, weight, None, self.stride, self.padding)


class Unit(nn.Module):
    """Bottleneck of three convolutions around a shortcut; the middle one may have a stride."""

    def __init__(self, inputs: int, middle: int, *, stride: int = 1) -> None:
        super().__init__()
        outputs = 4 * middle
        self.branch = nn.Sequential(
            StandardisedConvolution(inputs, middle, 1),
            GroupNorm(middle),
            nn.ReLU(),
            StandardisedConvolution(middle, middle, 3, stride=stride),
            GroupNorm(middle),
            nn.ReLU(),
            StandardisedConvolution(middle, outputs, 1),
            GroupNorm(outputs),
        )
        self.shortcut = (
            nn.Identity()
            if stride == 1 and inputs == outputs
            else nn.Sequential(
                StandardisedConvolution(inputs, outputs, 1, stride=stride),
                ChannelGroupNorm(outputs, outputs),  # a group is one channel
            )
        )

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 h w"]:
        """Branch plus shortcut, activated."""
        return F.relu(self.shortcut(x) + self.branch(x))


class Trunk(nn.Module):
    """Stem and three stages of units: maps of strides 2, 4, 8 and 16 of sizes divisible by 16."""

    def __init__(self, inputs: int, width: int, units: Sequence[int]) -> None:
        super().__init__()
        self.root = nn.Sequential(
            StandardisedConvolution(inputs, width, 7, stride=2), GroupNorm(width), nn.ReLU()
        )
        self.stages = nn.ModuleList()
        reached = width
        for stage, count in enumerate(units):
            middle = width * 2**stage
            blocks = [Unit(reached, middle, stride=2 if stage else 1)]
            reached = 4 * middle
            blocks += [Unit(reached, middle) for _ in range(count - 1)]
            self.stages.append(nn.ModuleList(blocks))
        self.widths = (width, 4 * width, 8 * width, reached)


class Upward(nn.Module):
    """One step of the decoder: enlarge twofold, join a map of the trunk, two convolutions."""

    def __init__(self, inputs: int, skip: int, outputs: int) -> None:
        super().__init__()
        self.first = _activated(inputs + skip, outputs)
        self.second = _activated(outputs, outputs)

    def forward(
        self, x: Float[Tensor, "B C h w"], skip: Float[Tensor, "B C2 H W"] | None
    ) -> Float[Tensor, "B C3 H W"]:
        """Corners stay on corners when enlarging, as published."""
        x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)
        if skip is not None:
            x = torch.cat((x, skip), dim=1)
        return self.second(self.first(x))


def _activated(inputs: int, outputs: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


class TransUNet(Classifier):
    """Class scores for every pixel of images of any size.

    Images of one channel are taken for three equal ones where the model has three. Sizes that
    aren't multiples of 16 are padded with zeros at the bottom and the right; the scores are cut
    back.
    """

    classifies_with = ("entry", "steps", "head")

    def __init__(
        self,
        *,
        channels: int = 768,
        depth: int = 12,
        heads: int = 12,
        hidden: int = 3072,
        width: int = 64,
        units: Sequence[int] | None = (3, 4, 9),
        decoder: Sequence[int] = (256, 128, 64, 16),
        skips: int = 3,
        image_size: int | tuple[int, int] = 224,
        num_classes: int = 9,
        in_channels: int = 3,
        dropout: int | float = 0.1,
        drop_path: int | float = 0.0,
        checkpointing: bool = False,
    ) -> None:
        """Make the network.

        Args:
            channels: width of the transformer
            depth: its blocks
            heads: of their attention
            hidden: width inside their feed-forward
            width: of the trunk's stem
            units: of the trunk's three stages; None for the plain form, with patches for a trunk
            decoder: widths of the four steps up
            skips: maps of the trunk that the decoder joins, the coarsest first; 0 to 3
            image_size: one number, or height and width, that the position table is learned for;
                it is resized for others in every call
            num_classes: at least 1; the default is Synapse's, with background
            in_channels: of the image
            dropout: of tokens and in the feed-forward
            drop_path: rate of the last transformer block; it grows from 0
            checkpointing: compute a block's activations again for its gradient

        Raises:
            ValueError: `skips` or `num_classes` out of range

        """
        if num_classes < 1:
            raise ValueError(f"num_classes={num_classes}: segmentation needs at least 1")
        if not 0 <= skips <= 3:
            raise ValueError(f"skips={skips}: the trunk has 3 maps to join")
        trunk = None if units is None else Trunk(in_channels, width, units)
        pyramid = [channels] * 4 if trunk is None else [*trunk.widths[1:3], channels, channels]
        super().__init__(
            channels,
            pyramid,
            num_classes=0,
            in_channels=in_channels,
            colours=UNCHANGED,
            checkpointing=checkpointing,
        )
        self.trunk = trunk
        self.to_tokens = (
            nn.Conv2d(in_channels, channels, STRIDE, STRIDE)
            if trunk is None
            else nn.Conv2d(trunk.widths[-1], channels, 1)
        )
        high, wide = (image_size, image_size) if isinstance(image_size, int) else image_size
        self.position = LearnedMap(-(-high // STRIDE), -(-wide // STRIDE), channels)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                Residual(
                    LayoutAttention(Everything(), Attention(channels, heads)),
                    channels,
                    make_norm=LayerNorm,
                    drop_path=rate,
                ),
                Residual(
                    nn.Sequential(
                        FeedForward(
                            channels, hidden, lambda: nn.Sequential(nn.GELU(), nn.Dropout(dropout))
                        ),
                        nn.Dropout(dropout),
                    ),
                    channels,
                    make_norm=LayerNorm,
                    drop_path=rate,
                ),
            )
            for rate in rising(drop_path, depth)
        )
        self.norm = LayerNorm(channels)
        self.entry = _activated(channels, ENTRY)
        joined = [] if trunk is None else list(reversed(trunk.widths[:3]))[:skips]
        self.joined = len(joined)
        self.steps = nn.ModuleList(
            Upward(inputs, skip, outputs)
            for inputs, skip, outputs in zip(
                (ENTRY, *decoder),
                joined + [0] * (len(decoder) - len(joined)),
                decoder,
                strict=False,  # the last width is the classifier's
            )
        )
        self.blocks.apply(initialise)
        self.head = nn.Conv2d(decoder[-1], num_classes, 3, padding=1)

    def tokens(
        self, x: Float[Tensor, "B C H W"]
    ) -> tuple[list[Float[Tensor, "B _ _ _"]], Float[Tensor, "B h w C2"]]:
        """Return the trunk's maps of strides 8, 4 and 2 (none in the plain form), and the tokens.

        Of the image padded to multiples of 16.
        """
        if x.shape[1] == 1 and self.in_channels == 3:
            x = x.expand(-1, 3, -1, -1)
        x = self.normalised(x)
        height, width = x.shape[-2:]
        x = F.pad(x, (0, missing(width, STRIDE), 0, missing(height, STRIDE)))
        maps = []
        if self.trunk is not None:
            height, width = x.shape[-2:]
            x = self.trunk.root(x)
            maps.append(x)
            x = F.max_pool2d(x, 3, 2)  # without padding: it loses a row and a column
            for stride, blocks in zip((4, 8, 16), self.trunk.stages, strict=True):
                x = self.through(blocks, x)
                lost = (0, width // stride - x.shape[-1], 0, height // stride - x.shape[-2])
                maps.append(F.pad(x, lost))  # for the decoder alone: the trunk goes on without
            maps.pop()
        map_ = self.to_tokens(x).permute(0, 2, 3, 1)
        map_ = self.dropout(map_ + self.position(*map_.shape[1:3]))
        return maps[::-1], self.norm(self.through(self.blocks, map_))

    def embedding(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H W"]:
        """One vector for each pixel: what the classifier looks at."""
        maps, tokens = self.tokens(x)
        decoded = self.entry(tokens.permute(0, 3, 1, 2))
        for index, step in enumerate(self.steps):
            decoded = step(decoded, maps[index] if index < self.joined else None)
        return decoded[..., : x.shape[-2], : x.shape[-1]]

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K H W"]:
        """Score each class for each pixel of images in [0, 1].

        Raises ValueError for another number of channels than `in_channels`, or 1 for 3.
        """
        return self.head(self.embedding(x))

    def training_losses(self, batch: LabelledImage) -> dict[str, Tensor]:
        """Cross-entropy and Dice of a batch whose labels are maps, by name."""
        return {"segmentation": segmentation_loss(self(batch.image), batch.label)}

    def features(self, x: Float[Tensor, "B C H W"]) -> dict[int, Float[Tensor, "B _ _ _"]]:
        """See Classifier.features: of the trunk and of the transformer, before the decoder."""
        maps, tokens = self.tokens(x)
        height, width = x.shape[-2:]
        pyramid = pyramid_of_one(tokens, STRIDE, height, width)
        for stride, map_ in zip((8, 4), maps, strict=False):  # none in the plain form
            pyramid[stride] = map_[..., : -(-height // stride), : -(-width // stride)]
        return {stride: pyramid[stride] for stride in STRIDES}

    def translate_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the authors' weights, or Google's of ViT and R50+ViT, under our names.

        Ours pass as they are. Google's have no decoder: `load_weights` them with
        keep=["entry", "steps", "head"], as the authors start.
        """
        if GOOGLE in weights:
            weights = from_google_hybrid(weights)
        units = 0 if self.trunk is None else max(len(blocks) for blocks in self.trunk.stages)
        numbers = [(rf"\.unit{i + 1}\.", f".{i}.") for i in range(units)]
        result = renamed(weights, [*RENAMED, *numbers], self.state_dict())
        table = result.get("position.table")
        if table is not None:
            size, ours = self.position.table.shape[:2], "position.table" in weights
            result["position.table"] = fitted_table(table, *size, ours=ours)
        return result


def segmentation_loss(
    scores: Float[Tensor, "B K H W"], labels: Int[Tensor, "B H W"]
) -> Float[Tensor, ""]:
    """Half cross-entropy, half Dice loss; `labels` are classes 0 ... K-1.

    Dice is taken for each class over the whole batch, and averaged over all classes, background
    among them. Raises ValueError for a label that is no class.
    """
    classes = scores.shape[1]
    if labels.numel() and not (labels.min() >= 0 and labels.max() < classes):
        raise ValueError(
            f"labels from {int(labels.min())} to {int(labels.max())}, but the model has the "
            f"{classes} classes 0 ... {classes - 1}"
        )
    shares = scores.softmax(1)
    truth = F.one_hot(labels.long(), classes).permute(0, 3, 1, 2).to(shares)
    overlap, predicted, there = (
        x.sum((0, 2, 3)) for x in (shares * truth, shares.square(), truth.square())
    )
    dice = (2 * overlap + SMOOTHING) / (predicted + there + SMOOTHING)
    return 0.5 * F.cross_entropy(scores, labels.long()) + 0.5 * (1 - dice).mean()


transunet_r50_vit_b16 = partial(TransUNet)
transunet_vit_b16 = partial(TransUNet, units=None)
