"""What every vision model has in common: images in, class scores or a pyramid of maps out.

A model names its parts and says how they follow each other (`embedding`, `features`); what comes
before (checks, normalisation) and after (the linear classifier) is here.

Letters  B batch, C channels, H W image, h w a map, K classes
Source   drop path growing with depth: https://arxiv.org/abs/1603.09382; a pyramid from one map:
         ViTDet, https://arxiv.org/abs/2203.16527 (without its learned layers)
Tests    tests/vision/test_classifier.py: every model by name, on its shapes and its switches
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..convolution import statistics_kept
from ..datasets.image_folder import LabelledImage

STRIDES = (4, 8, 16, 32)
"""image pixels between neighbouring places of a pyramid's maps"""

CLASSES = 1000
"""of ImageNet, which published weights were trained on"""

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""mean and standard deviation of ImageNet's colours"""

CENTRED = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""mean and standard deviation that bring [0, 1] to [-1, 1]"""

Colours = tuple[Sequence[float], Sequence[float]]


class Classifier(nn.Module, ABC):
    """Base of the vision models.

    `channels` is the width of the vector that is classified, `pyramid` the channels of each of the
    four maps. `num_classes=0` leaves the classifier out; `in_channels` other than 3 are normalised
    with the average of `colours` (mean and standard deviation of the channels).
    `checkpointing` recomputes blocks in the backward pass instead of keeping what they computed;
    running statistics count a batch once.
    """

    classifies_with: ClassVar[tuple[str, ...]] = ("head",)
    """parts that `features` doesn't need"""

    def __init__(
        self,
        channels: int,
        pyramid: Sequence[int],
        *,
        num_classes: int = CLASSES,
        in_channels: int = 3,
        colours: Colours = IMAGENET,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if num_classes < 0 or in_channels < 1:
            raise ValueError(
                f"num_classes={num_classes}, in_channels={in_channels}: at least 0 classes "
                "(0 leaves the classifier out) and 1 channel"
            )
        self.in_channels, self.checkpointing = in_channels, checkpointing
        self.feature_channels = dict(zip(STRIDES, pyramid, strict=True))
        for name, values in zip(("mean", "deviation"), colours, strict=True):
            value = torch.tensor(values)
            if in_channels != len(values):
                value = value.mean().expand(in_channels).clone()
            self.register_buffer(name, value[:, None, None], persistent=False)
        self.head = nn.Linear(channels, num_classes) if num_classes else nn.Identity()

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K"]:
        """Score each class for images in [0, 1] of any size; the highest score wins.

        Raises ValueError for another number of channels than `in_channels`.
        """
        return self.head(self.embedding(x))

    def training_losses(self, batch: LabelledImage) -> dict[str, Tensor]:
        """Cross-entropy of a batch's labels, by name: what the training loop calls."""
        return {"cross_entropy": F.cross_entropy(self(batch.image), batch.label)}

    @abstractmethod
    def embedding(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2"]:
        """One vector for each image in [0, 1]: what the classifier looks at."""

    @abstractmethod
    def features(self, x: Float[Tensor, "B C H W"]) -> dict[int, Float[Tensor, "B _ _ _"]]:
        """Maps of images in [0, 1] by stride: 4, 8, 16, 32.

        The map of stride s is [B, feature_channels[s], ceil(H / s), ceil(W / s)].
        """

    def drop_classifier(self) -> None:
        """Take off what only `forward` and `embedding` need, for use as an encoder: `features`."""
        for part in self.classifies_with:
            setattr(self, part, nn.Identity())

    def normalised(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Bring images in [0, 1] to mean 0 and deviation 1, after a look at their shape."""
        if x.shape[1] != self.in_channels or 0 in x.shape:
            raise ValueError(
                f"images {list(x.shape)} for a model of {self.in_channels} channels; give "
                f"[images, {self.in_channels}, height, width], or make the model with "
                f"in_channels={x.shape[1]}"
            )
        return (x - self.mean) / self.deviation

    def through(self, blocks: nn.ModuleList | nn.Sequential, x: Tensor) -> Tensor:
        """Run one block after the other, keeping activations unless `checkpointing`."""
        for block in blocks:
            if self.checkpointing and torch.is_grad_enabled():
                once = partial(_first_and_again, block)
                x = checkpoint(block, x, use_reentrant=False, context_fn=once)
            else:
                x = block(x)
        return x


def _first_and_again(
    block: nn.Module,
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What is around a block as it runs, and as it runs again for its gradient."""
    return nullcontext(), statistics_kept(block)


def rising(rate: int | float, depth: int) -> list[float]:
    """Drop-path rates of `depth` blocks: from 0 for the first evenly up to `rate` for the last."""
    return [rate * index / max(depth - 1, 1) for index in range(depth)]


def pyramid_of_one(
    x: Float[Tensor, "B h w C"], patch: int, height: int, width: int
) -> dict[int, Float[Tensor, "B _ _ _"]]:
    """Resize a map of stride `patch` to the pyramid of an image of `height` x `width`.

    Finer maps are interpolated (bilinear), coarser ones averaged. The map may reach beyond the
    image at the bottom and the right.
    """
    x = x.permute(0, 3, 1, 2)
    maps = {}
    for stride in STRIDES:
        size = [-(-places * patch // stride) for places in x.shape[-2:]]
        if size == list(x.shape[-2:]):
            resized = x
        elif stride > patch:
            resized = F.adaptive_avg_pool2d(x, size)
        else:
            resized = F.interpolate(x, size, mode="bilinear", align_corners=False)
        maps[stride] = resized[..., : -(-height // stride), : -(-width // stride)]
    return maps


def initialise(module: nn.Module) -> None:
    """Start a layer as vision transformers do (`model.apply(initialise)`): 0.02, zero biases."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
