"""What mask transformers learn from: PQ-style loss, mask ids, contrast, semantic branch.

    class     cross-entropy of a query's class, weighted by how well its mask fits
    mask      1 - Dice of a query's mask, weighted by how sure its class is
    mask_id   cross-entropy over the queries at every labelled pixel
    contrast  pixels of one mask agree, those of others don't: pixel by pixel, or against the masks'
              mean features (instance discrimination)
    semantic  cross-entropy of the auxiliary semantic branch

"Mean over non-zero" divides by the number of terms that aren't exactly zero, as published. Every
loss is one number an image, so that a batch's mean is the mean of its images' losses, and zero
where an image has nothing to learn from.

Letters  B batch, Q queries, K classes and, last, "no object", C channels, P pixels, M sampled
         pixels, h w size of the masks
Source   MaX-DeepLab (Wang et al. 2021), section 3.3 and 3.4; CMT-DeepLab (Yu et al. 2022) for the
         pixel-wise contrast; weights as in kMaX-DeepLab's published configurations
Tests    tests/mask/test_mask_losses.py: golden losses and gradients of both published repositories;
         tests/mask/test_bad_targets.py: no NaN
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from ..attention.precision import full_precision
from ..datasets.panoptic_sample import PADDING, PanopticSample
from .assignment import (
    LEAST_WEIGHT,
    MaskTargets,
    QueryTargets,
    mask_targets,
    match,
    resample,
    resize,
)
from .output import MaskOutput, MaskPrediction

CONTRASTS = ("pixels", "masks")
POSITIVE = 0.75
"""weight of queries with a partner; those without have the rest (the focal loss's alpha)"""
CONTRAST_TEMPERATURE = 0.3
OUT_OF_REACH = -99999.0
"""logarithm of a weight so small that such a pixel is drawn only where no other is left"""


@dataclass(frozen=True)
class MaskLosses:
    """Which losses, and how much each counts; the defaults are kMaX-DeepLab's for COCO.

    Raises ValueError for an unknown `contrast`.
    """

    class_weight: float = 3.0
    mask_weight: float = 3.0
    mask_id_weight: float = 0.3
    contrast_weight: float = 1.0
    semantic_weight: float = 1.0
    contrast: str = "pixels"
    """pixels: pixel-wise (CMT, kMaX); masks: instance discrimination (MaX)"""
    things: Collection[int] | None = None
    """classes whose pixels are told apart by contrast "masks" (published: things; None: all)"""
    sampled_pixels: int | None = 4096
    """pixels of an image that contrast "pixels" and the semantic loss look at; None: all"""
    contrast_preference: float = 1.5
    """pixels are drawn in proportion to (1 / area of their mask) to this power (Cityscapes 0.6)"""
    semantic_preference: float = 2.0
    """the same for the semantic loss"""
    class_balance: Sequence[float] | None = None
    """what a query's partner counts in the class loss, by its class (None: all alike): quality is a
    mean over classes, however rare they are"""
    idle_weight: float = LEAST_WEIGHT
    """least weight of the class of a query without a partner. As published, such a query learns to
    be no object from the void under its mask alone; images without void never teach it"""

    def __post_init__(self) -> None:
        if self.contrast not in CONTRASTS:
            raise ValueError(f"contrast={self.contrast!r}; known are {', '.join(CONTRASTS)}")

    def check(self, num_classes: int) -> None:
        """Raise ValueError where `class_balance` isn't one number for each class."""
        if self.class_balance is not None and len(self.class_balance) != num_classes:
            raise ValueError(
                f"class_balance has {len(self.class_balance)} numbers for {num_classes} classes; "
                "give one for each class, or None to count all alike"
            )


def mask_losses(
    output: MaskOutput, sample: PanopticSample, losses: MaskLosses | None = None
) -> dict[str, Tensor]:
    """The weighted losses of a batch by name; what is learned is their sum.

    Names that begin with "layers_" are sums over the decoder layers' predictions, which are taken
    at the final one's size and share its matching. Raises ValueError as `mask_targets`, and for a
    `class_balance` of another length.
    """
    num_classes = output.final.class_logits.shape[-1] - 1
    targets = mask_targets(sample, output.final.mask_logits.shape[-2:], num_classes)
    semantic = None
    if output.semantic_logits is not None:
        semantic = _semantic_map(sample, output.semantic_logits.shape[-2:])
    return losses_of_targets(output, targets, semantic, losses)


def losses_of_targets(
    output: MaskOutput,
    targets: MaskTargets,
    semantic: Int64[Tensor, "B h w"] | None,
    losses: MaskLosses | None = None,
) -> dict[str, Tensor]:
    """`mask_losses` for masks of one's own, which may overlap.

    targets: at the size of the final masks. semantic: class of each pixel, -1 = void, at the size
    of the semantic branch; None leaves that loss out.
    """
    # In single precision also where the model computes in half: these are sums over many pixels.
    with full_precision(output.final.mask_logits.device):
        return _losses_of_targets(output, targets, semantic, losses or MaskLosses())


def _losses_of_targets(
    output: MaskOutput,
    targets: MaskTargets,
    semantic: Int64[Tensor, "B h w"] | None,
    losses: MaskLosses,
) -> dict[str, Tensor]:
    num_classes = output.final.class_logits.shape[-1] - 1
    losses.check(num_classes)
    asked = match(output.final, targets)
    idle = asked.classes == num_classes
    least = torch.where(idle, losses.idle_weight, LEAST_WEIGHT)
    weight = torch.maximum(asked.class_weight, least)
    if losses.class_balance is not None:
        weight = weight * weight.new_tensor([*losses.class_balance, 1.0])[asked.classes]
    asked = asked._replace(class_weight=weight)
    size = asked.void.shape[-2:]
    total = _prediction_losses(output.final, output.pixel_features, asked, losses)
    if output.semantic_logits is not None and semantic is not None:
        of_image = semantic_loss(output.semantic_logits.float(), semantic, asked, losses)
        total["semantic"] = losses.semantic_weight * of_image.mean()
    for index, layer in enumerate(output.auxiliary):
        features = output.auxiliary_features[index] if output.auxiliary_features else None
        resized = MaskPrediction(layer.class_logits, resize(layer.mask_logits.float(), size))
        of_layer = _prediction_losses(
            resized, None if features is None else resize(features.float(), size), asked, losses
        )
        for name, value in of_layer.items():
            name = f"layers_{name}"
            total[name] = total[name] + value if name in total else value
    return total


def _prediction_losses(
    prediction: MaskPrediction,
    features: Float[Tensor, "B C h w"] | None,
    asked: QueryTargets,
    losses: MaskLosses,
) -> dict[str, Tensor]:
    """The weighted losses of one prediction, whose masks have the targets' size."""
    mask_logits = prediction.mask_logits.float()
    total = {
        "class": losses.class_weight * class_loss(prediction.class_logits.float(), asked).mean(),
        "mask": losses.mask_weight * mask_loss(mask_logits, asked).mean(),
        "mask_id": losses.mask_id_weight * mask_id_loss(mask_logits, asked).mean(),
    }
    if features is not None:
        contrast = pixel_contrast if losses.contrast == "pixels" else instance_discrimination
        total["contrast"] = (
            losses.contrast_weight * contrast(features.float(), asked, losses).mean()
        )
    return total


def class_loss(logits: Float[Tensor, "B Q K"], asked: QueryTargets) -> Float[Tensor, "B"]:
    """Cross-entropy of the queries' classes, mean over non-zero (MaX-DeepLab eq. 10, part 1)."""
    entropy = F.cross_entropy(logits.mT, asked.classes, reduction="none")
    positive = asked.classes != logits.shape[-1] - 1
    balance = torch.where(positive, POSITIVE, 1 - POSITIVE)
    return _mean_of_non_zero(balance * asked.class_weight * entropy)


def mask_loss(logits: Float[Tensor, "B Q h w"], asked: QueryTargets) -> Float[Tensor, "B"]:
    """1 - Dice of masks outside void (MaX-DeepLab eq. 10, part 2), over all queries.

    Numerator and denominator are one pixel larger, so that an empty mask is no division by zero.
    """
    guess = logits.softmax(1).masked_fill(asked.void[:, None], 0)
    shared = 2 * (guess * asked.masks).sum((-2, -1)) + 1
    sizes = guess.sum((-2, -1)) + asked.masks.sum((-2, -1)) + 1
    return POSITIVE * (asked.mask_weight * (1 - shared / sizes)).mean(-1)


def mask_id_loss(logits: Float[Tensor, "B Q h w"], asked: QueryTargets) -> Float[Tensor, "B"]:
    """Which query does this pixel belong to? Cross-entropy over the queries, void left out."""
    entropy = -(asked.masks * logits.log_softmax(1)).sum(1)
    return _mean_of_non_zero(entropy.masked_fill(asked.void, 0).flatten(1))


def pixel_contrast(
    features: Float[Tensor, "B C h w"], asked: QueryTargets, losses: MaskLosses
) -> Float[Tensor, "B"]:
    """Of the sampled pixels, each should be like those of its own mask and unlike the others.

    Cross-entropy between softmax(f f^T / 0.3) and the even spread over one's own mask, oneself
    included; `features` have length 1. Pixels of void are drawn last and count for nothing.
    """
    drawn = draw_pixels(asked, asked.void.shape[-2:], losses.contrast_preference, losses)
    own = _take(asked.masks.flatten(2), drawn)
    same = own.mT @ own
    same = same / same.sum(-1, keepdim=True).clamp(min=1)
    sampled = _take(features.flatten(2), drawn)
    alike = sampled.mT @ sampled / CONTRAST_TEMPERATURE
    return _mean_of_non_zero(-(same * alike.log_softmax(-1)).sum(-1))


def instance_discrimination(
    features: Float[Tensor, "B C h w"], asked: QueryTargets, losses: MaskLosses
) -> Float[Tensor, "B"]:
    """Each pixel should be most like the mean feature of its own mask (MaX-DeepLab eq. 12).

    Only pixels of `losses.things` are asked, among all masks of the image.
    """
    features, masks = features.flatten(2), asked.masks.flatten(2)
    there = masks.sum(-1) > 0
    means = F.normalize(masks @ features.mT / masks.sum(-1, keepdim=True).clamp(min=1), dim=-1)
    alike = means @ features / CONTRAST_TEMPERATURE
    alike = alike.masked_fill(~there[:, :, None], OUT_OF_REACH)
    if losses.things is not None:
        things = torch.tensor(sorted(losses.things), device=asked.classes.device)
        masks = masks * torch.isin(asked.classes, things)[:, :, None]
    return _mean_of_non_zero(-(masks * alike.log_softmax(1)).sum(1))


def semantic_loss(
    logits: Float[Tensor, "B S h w"],
    classes: Int64[Tensor, "B h w"],
    asked: QueryTargets,
    losses: MaskLosses,
) -> Float[Tensor, "B"]:
    """Cross-entropy of each sampled pixel's class; `classes` is -1 in void."""
    drawn = draw_pixels(asked, classes.shape[-2:], losses.semantic_preference, losses)
    truth = classes.flatten(1).gather(1, drawn)
    entropy = F.cross_entropy(
        _take(logits.flatten(2), drawn), truth, ignore_index=PADDING, reduction="none"
    )
    return _mean_of_non_zero(entropy)


def draw_pixels(
    asked: QueryTargets, size: tuple[int, int], preference: float, losses: MaskLosses
) -> Int64[Tensor, "B M"]:
    """Draw pixels of each image without putting them back; return their indices.

    Pixels of small masks are drawn more often, so that those are learned too: with a probability in
    proportion to (h w / area) ** preference. The largest of (log weight + Gumbel noise) are such a
    draw (Kool et al. 2019). All pixels in order where there aren't more than `sampled_pixels`.
    """
    pixels = size[0] * size[1]
    if losses.sampled_pixels is None or losses.sampled_pixels >= pixels:
        return torch.arange(pixels, device=asked.void.device).expand(len(asked.void), -1)
    area = _nearest(asked.area, size)
    weight = preference * torch.log(area.shape[-1] / area.clamp(min=1))
    weight = weight + OUT_OF_REACH * _nearest(asked.void, size)
    noise = torch.rand(weight.shape, dtype=weight.dtype, device=weight.device)
    return (weight - torch.log(-torch.log(noise))).topk(losses.sampled_pixels).indices


def _nearest(maps: Float[Tensor, "B h w"] | Bool[Tensor, "B h w"], size: tuple[int, int]) -> Tensor:
    """A map's values at another size, flat."""
    height, width = maps.shape[-2:]
    places = torch.arange(height * width, device=maps.device).view(1, height, width)
    return maps.flatten(1)[:, resample(places, size)[0].flatten()]


def _take(values: Float[Tensor, "B C P"], drawn: Int64[Tensor, "B M"]) -> Float[Tensor, "B C M"]:
    return values.gather(2, drawn[:, None].expand(-1, values.shape[1], -1))


def _mean_of_non_zero(terms: Float[Tensor, "B M"]) -> Float[Tensor, "B"]:
    return terms.sum(-1) / (terms != 0).sum(-1).clamp(min=1)


def _semantic_map(sample: PanopticSample, size: tuple[int, int]) -> Int64[Tensor, "B h w"]:
    """Class of each pixel, -1 in void."""
    classes = F.pad(sample.classes, (1, 0), value=PADDING)  # void's number is 0
    numbers = resample(sample.segment_map, size).long()
    return classes.gather(1, numbers.flatten(1)).view(numbers.shape)
