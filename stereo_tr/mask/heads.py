"""Heads: one class and one mask for every query, and the auxiliary semantic branch.

A mask is where a pixel's feature, of length 1, points the same way as a query's kernel.

Letters  B batch, Q queries, K = num_classes + 1 (the last is void), C channels, h w size of a map
Source   MaX-DeepLab, section 3.3 and appendix, https://arxiv.org/abs/2012.00759; semantic branch:
         Panoptic-DeepLab, https://arxiv.org/abs/1911.10194 (its decoder), over DeepLab's atrous
         pyramid, https://arxiv.org/abs/1706.05587
Tests    tests/mask/test_heads.py: the authors' heads (TensorFlow and PyTorch)
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..attention.normalised import BatchNorm
from .blocks import Activation, ConvolutionNorm, DepthwiseSeparable, corners_stay, resized
from .output import MaskPrediction

FEATURES = 128
"""channels of a pixel's feature and of a query's kernel"""

HIDDEN = 256
"""channels between"""

VOID_PRIOR = 0.9
"""probability that a fresh head gives to "no object\""""

SCALE = 0.1
"""that the norm of the mask logits starts with, as published: it grows by about the learning rate a
step, and masks stay undecided for thousands of steps until it is about 2"""


class Prediction(NamedTuple):
    """What a head says, and the pixel features that it read the masks off."""

    masks: MaskPrediction
    features: Float[Tensor, "B C h w"]

    def plus(self, logits: Float[Tensor, "B Q _ _"]) -> "Prediction":
        """The same with these mask logits, of any size, added."""
        own = self.masks.mask_logits
        total = own + resized(logits, own, corners=corners_stay(logits))
        return self._replace(masks=self.masks._replace(mask_logits=total))


class MaskHead(nn.Module):
    """Class logits from the queries, mask logits from queries and pixels."""

    def __init__(
        self,
        pixels: int,
        queries: int,
        num_classes: int,
        *,
        activation: Activation = nn.GELU,
        hidden: int = HIDDEN,
        features: int = FEATURES,
        scale: int | float = SCALE,
    ) -> None:
        super().__init__()
        self.pixels = DepthwiseSeparable(pixels, hidden, activation)
        self.feature = ConvolutionNorm(hidden, features, bias=True)
        nn.init.trunc_normal_(self.feature.conv.weight, std=0.01)
        self.kernel = ConvolutionNorm(queries, features)
        self.classes = nn.Conv2d(queries, num_classes + 1, 1)
        nn.init.trunc_normal_(self.classes.weight, std=0.01)
        nn.init.zeros_(self.classes.bias)
        self.mask_norm = BatchNorm(1)
        nn.init.constant_(self.mask_norm.weight, scale)
        void = torch.zeros(num_classes + 1)
        void[-1] = math.log(num_classes * VOID_PRIOR / (1 - VOID_PRIOR))
        self.register_buffer("void", void, persistent=False)

    def forward(
        self,
        pixels: Float[Tensor, "B C h w"],
        of_masks: Float[Tensor, "B C2 1 Q"],
        of_classes: Float[Tensor, "B C2 1 Q"],
    ) -> Prediction:
        """Predict, from activated pixels and queries (for a mask and for a class)."""
        return self.predict(self.pixel_features(pixels), of_masks, of_classes)

    def pixel_features(self, pixels: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C2 h w"]:
        """Features of length 1, which masks are read off."""
        return F.normalize(self.feature(self.pixels(pixels)), dim=1)

    def predict(
        self,
        features: Float[Tensor, "B C h w"],
        of_masks: Float[Tensor, "B C2 1 Q"],
        of_classes: Float[Tensor, "B C2 1 Q"],
    ) -> Prediction:
        """Predict from `pixel_features`."""
        class_logits = self.classes(of_classes)[:, :, 0].transpose(1, 2) + self.void
        kernel = self.kernel(of_masks)[:, :, 0].transpose(1, 2)
        similarity = (kernel @ features.flatten(2)).unflatten(2, features.shape[2:])
        mask_logits = self.mask_norm(similarity[:, None].flatten(2, 3)).view_as(similarity)
        return Prediction(MaskPrediction(class_logits, mask_logits), features)


class AtrousPyramid(nn.Module):
    """Context at several distances: 1x1, 3x3 with holes, and the mean of the map."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        activation: Activation,
        rates: tuple[int, ...] = (6, 12, 18),
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList([ConvolutionNorm(inputs, outputs, activation=activation)])
        for rate in rates:
            self.branches.append(
                ConvolutionNorm(inputs, outputs, 3, dilation=rate, activation=activation)
            )
        self.mean = ConvolutionNorm(inputs, outputs, activation=activation)
        parts = len(self.branches) + 1
        self.join = ConvolutionNorm(parts * outputs, outputs, activation=activation)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C2 h w"]:
        """Look near and far."""
        mean = self.mean(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])
        parts = [branch(x) for branch in self.branches]
        return self.dropout(self.join(torch.cat((*parts, mean), dim=1)))


class SemanticBranch(nn.Module):
    """A class for every pixel, read off the encoder; it helps to train and is left out afterwards.

    Takes maps of stride 32 (or 16), 8 and 4 with `channels` each; logits at stride 4.
    """

    def __init__(
        self,
        channels: tuple[int, int, int],
        classes: int,
        *,
        activation: Activation = nn.GELU,
        hidden: int = HIDDEN,
        low_level: tuple[int, int] = (64, 32),
    ) -> None:
        super().__init__()
        coarse, *fine = channels
        self.pyramid = AtrousPyramid(coarse, hidden, activation)
        self.project = nn.ModuleList(
            ConvolutionNorm(inputs, outputs, activation=activation)
            for inputs, outputs in zip(fine, low_level, strict=True)
        )
        self.fuse = nn.ModuleList(
            DepthwiseSeparable(hidden + extra, hidden, activation) for extra in low_level
        )
        self.head = nn.Sequential(
            DepthwiseSeparable(hidden, hidden, activation), nn.Conv2d(hidden, classes, 1)
        )
        nn.init.trunc_normal_(self.head[1].weight, std=0.01)
        nn.init.zeros_(self.head[1].bias)

    def forward(
        self,
        coarse: Float[Tensor, "B _ _ _"],
        middle: Float[Tensor, "B _ _ _"],
        fine: Float[Tensor, "B _ h w"],
    ) -> Float[Tensor, "B S h w"]:
        """Logits of S classes."""
        corners = corners_stay(coarse)
        x = self.pyramid(coarse)
        for project, fuse, low in zip(self.project, self.fuse, (middle, fine), strict=True):
            low = project(low)
            x = fuse(torch.cat((resized(x, low, corners=corners), low), dim=1))
        return self.head(x)
