"""kMaX-DeepLab: encoder, pixel decoder and a mask decoder that clusters pixels by k-means.

Letters  B batch, Q object queries, K classes, h w = H / 4, W / 4 rounded up
Source   Yu et al. 2022, https://arxiv.org/abs/2207.04044
Tests    tests/mask/test_kmax_deeplab.py; tests/mask/test_mask_costs.py: parameters and costs
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..attention.normalised import EPSILON, MOMENTUM
from ..datasets.generated_panoptic import COARSE_CLASSES
from ..datasets.panoptic_sample import PanopticSample
from ..vision.classifier import CENTRED
from ..vision.convnext import ConvNeXt, convnext_base, convnext_large, convnext_small
from ..vision.resnet import ResNet
from .appearance import Appearance
from .assignment import mask_targets, match
from .axial_resnet import AxialResNet
from .blocks import HEADS
from .clustering import reference_loss
from .decoder import CHANNELS, MaskDecoder
from .heads import FEATURES, HIDDEN, SCALE, SemanticBranch
from .losses import MaskLosses, mask_losses
from .output import MaskOutput
from .pixel_decoder import DEPTHS, KINDS, WIDTHS, PixelDecoder
from .translation import of_kmax

CLASSES = 133
"""of COCO panoptic"""

# Dice counts a small thing as much as a large one, and mask ids keep things out of the background.
# There are twelve things to a wall. The scenes have no void, so "no object" has to be learned
# otherwise.
SMALL_LOSSES: Mapping[str, Any] = {
    "sampled_pixels": 192,
    "contrast_preference": 1.0,
    "contrast_weight": 0.5,
    "class_weight": 6.0,
    "class_balance": (1.0, 1.0, 4.0, 1.0),
    "mask_weight": 10.0,
    "mask_id_weight": 2.0,
    "idle_weight": 0.3,
}
"""of kmax_small; with another number of classes all count alike"""


class PaddedConvNeXt(ConvNeXt):
    """ConvNeXt as kMaX trained it: a pixel of padding at the left and the top, before the patches.

    So the patches of an image of 32 k + 1 pixels are centred.
    """

    def normalised(self, x: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 _ _"]:
        """Zeros around the normalised image: its size rounded up to whole patches of 4."""
        height, width = (-(-side // 4) * 4 for side in x.shape[2:])
        return F.pad(super().normalised(x), (1, 2, 1, 2))[..., :height, :width]


def _convolutional(kind: type[ResNet] | Callable[..., ConvNeXt], **options: Any) -> nn.Module:
    encoder = kind(**{"num_classes": 0, "colours": CENTRED, "drop_path": 0.0} | options)
    encoder.drop_classifier()
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps, module.momentum = EPSILON, MOMENTUM
    return encoder


def _padded(published: partial[ConvNeXt]) -> Callable[..., nn.Module]:
    return partial(_convolutional, PaddedConvNeXt, **published.keywords)


BACKBONES: dict[str, Callable[..., nn.Module]] = {
    "resnet50": partial(_convolutional, ResNet),
    "max_s": AxialResNet,
    "convnext_tiny": partial(_convolutional, PaddedConvNeXt),
    "convnext_small": _padded(convnext_small),
    "convnext_base": _padded(convnext_base),
    "convnext_large": _padded(convnext_large),
}
"""encoders with `features` and `feature_channels`; the options are their constructors'"""


class KMaxDeepLab(nn.Module):
    """Images to one class and one mask for every object query.

    interaction: "kmeans" (as published), "dual_kmeans", "cross", "dual_cross" or "clustering"
        (CMT-DeepLab's); see dual_path.py and clustering.py.
    encoder: arguments of the backbone, to make it smaller or to give it drop path.
    layers: decoder layers at stride 32, 16 and 8.
    decoder_*: stages of the pixel decoder, from stride 32 to 4.
    channels, filters, feed_forward, hidden, features: of a query, of a layer's keys, of its
        feed-forward, of a head and of a pixel's feature.
    mask_scale: that the norm of the mask logits starts with; 0.1 (as published) takes thousands of
        steps before any mask is sure, 2 takes tens.
    momentum: of the batch norms; after n steps their averages still hold (1 - momentum) ** n of
        where they started. Short trainings want 0.1.
    seeds: start the queries from pixels that are unlike each other; see seeds.py.
    appearance: add colour and place to the finest map; see appearance.py.
    predicts: give every layer a prediction of its own to learn by; layers that cluster have one
        anyway, and attention has none as published.
    semantic: add the auxiliary semantic branch, which only helps to train.
    losses: fields of MaskLosses.
    """

    def __init__(
        self,
        *,
        backbone: str = "resnet50",
        num_classes: int = CLASSES,
        num_queries: int = 128,
        interaction: str = "kmeans",
        encoder: Mapping[str, Any] | None = None,
        layers: Sequence[int] = (2, 2, 2),
        decoder_widths: Sequence[int] = WIDTHS,
        decoder_depths: Sequence[int] = DEPTHS,
        decoder_kinds: Sequence[str] = KINDS,
        channels: int = CHANNELS,
        filters: int = CHANNELS // 2,
        feed_forward: int = 8 * CHANNELS,
        heads: int = HEADS,
        hidden: int = HIDDEN,
        features: int = FEATURES,
        drop_path: int | float = 0.2,
        mask_scale: int | float = SCALE,
        momentum: float = MOMENTUM,
        seeds: bool = False,
        appearance: bool = False,
        predicts: bool = False,
        semantic: bool = False,
        losses: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if backbone not in BACKBONES:
            raise ValueError(f"backbone={backbone!r}; known are {', '.join(BACKBONES)}")
        self.encoder = BACKBONES[backbone](**(encoder or {}))
        coarse_first = list(self.encoder.feature_channels.values())[::-1]
        self.pixel_decoder = PixelDecoder(
            coarse_first,
            widths=decoder_widths,
            depths=decoder_depths,
            kinds=decoder_kinds,
            heads=heads,
        )
        self.appearance = Appearance(self.pixel_decoder.channels[-1]) if appearance else None
        self.decoder = MaskDecoder(
            self.pixel_decoder.channels,
            num_classes=num_classes,
            num_queries=num_queries,
            interaction=interaction,
            depths=layers,
            channels=channels,
            filters=filters,
            feed_forward=feed_forward,
            heads=heads,
            drop_path=drop_path,
            seeds=seeds,
            predicts=predicts,
            head_sizes={"hidden": hidden, "features": features, "scale": mask_scale},
        )
        coarse, _, middle, fine = coarse_first
        self.semantic = (  # published with a class for void, which no pixel has
            SemanticBranch((coarse, middle, fine), num_classes + 1, hidden=hidden)
            if semantic
            else None
        )
        self.num_classes, self.num_queries = num_classes, num_queries
        if losses is SMALL_LOSSES and num_classes != len(COARSE_CLASSES.names):
            losses = {**losses, "class_balance": None}
        self.losses = MaskLosses(**(losses or {}))
        self.losses.check(num_classes)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = momentum

    def forward(self, images: Float[Tensor, "B C H W"]) -> MaskOutput:
        """Segment RGB images in [0, 1], of any size.

        Raises ValueError for another number of channels.
        """
        if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
            raise ValueError(f"images {list(images.shape)}; give [images, 3, height, width]")
        maps = list(self.encoder.features(images).values())[::-1]
        pixels = self.pixel_decoder(maps)
        if self.appearance is not None:
            pixels[-1] = self.appearance(images, pixels[-1])
        output = self.decoder(pixels)
        if self.semantic is None or not self.training:
            return output
        coarse, _, middle, fine = maps
        return output._replace(semantic_logits=self.semantic(coarse, middle, fine))

    def training_losses(self, sample: PanopticSample) -> dict[str, Tensor]:
        """Weighted losses of a batch by name; what is learned is their sum.

        Clustering layers add "reference": where they look for a mask should be where it is.
        """
        output = self(sample.image)
        losses = mask_losses(output, sample, self.losses)
        if output.references:
            size = tuple(output.final.mask_logits.shape[-2:])
            targets = mask_targets(sample, size, self.num_classes)
            asked = match(output.final, targets)
            losses["reference"] = reference_loss(output.references, asked, self.num_classes)
        return losses

    def translate_weights(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return weights of the PyTorch port under our names; ours as they are."""
        return of_kmax(weights, self)


kmax_resnet50 = partial(KMaxDeepLab, backbone="resnet50")
kmax_max_s = partial(KMaxDeepLab, backbone="max_s")
kmax_convnext_tiny = partial(KMaxDeepLab, backbone="convnext_tiny")
kmax_convnext_small = partial(KMaxDeepLab, backbone="convnext_small")
kmax_convnext_base = partial(KMaxDeepLab, backbone="convnext_base")
kmax_convnext_large = partial(KMaxDeepLab, backbone="convnext_large")
kmax_small = partial(
    KMaxDeepLab,
    backbone="resnet50",
    encoder={"widths": (32, 64, 128, 192), "depths": (1, 1, 1, 1), "strides": (1, 2, 2, 1)},
    num_classes=len(COARSE_CLASSES.names),
    num_queries=16,
    # Most things are smaller than the places of the coarser maps (6x6 for images of 96 px).
    layers=(0, 0, 2),
    decoder_widths=(48, 32, 24, 16),
    decoder_depths=(1, 1, 1, 1),
    decoder_kinds=("bottleneck",) * 4,
    channels=64,
    filters=32,
    feed_forward=128,
    hidden=64,
    features=32,
    drop_path=0.0,
    mask_scale=2.0,
    momentum=0.1,
    seeds=True,
    appearance=True,
    predicts=True,  # every layer learns from a prediction of its own, whatever the interaction
    losses=SMALL_LOSSES,
)
"""ours: four blocks of encoder, for generated scenes of few things and images of 96 px"""
