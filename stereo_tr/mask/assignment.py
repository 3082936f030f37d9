"""Which query answers for which true mask, and what each query is then asked for.

Queries and true masks pair up one to one so that the sum of (probability of the true class) x (Dice
of the masks) is as large as it can be; nothing else enters the cost. A query without a partner is
asked for "no object". The losses (losses.py) take it from there.

Letters  B batch, Q queries, N true masks, K classes and, last, "no object", h w size of the masks
Source   MaX-DeepLab (Wang et al. 2021), eq. 7 to 10, https://arxiv.org/abs/2012.00759; in both
         published repositories the cost is minus the product and has no other term
Tests    tests/mask/test_mask_losses.py: golden outputs of both repositories, a search over all
         pairings
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int32, Int64
from torch import Tensor

from ..datasets.panoptic_sample import PADDING, PanopticSample
from .output import MaskPrediction

LEAST_WEIGHT = 1e-5
"""of a query's terms: a weight of zero would let it drop out of a mean over non-zero terms"""


class MaskTargets(NamedTuple):
    """The true masks of a batch; `mask_targets` makes them from a sample."""

    masks: Float[Tensor, "B N h w"]
    """1 inside, 0 outside; masks of one image may overlap"""
    classes: Int64[Tensor, "B N"]
    """from 0 on; -1: there is no such mask"""


class QueryTargets(NamedTuple):
    """What each query is asked for. Nothing here takes part in gradients."""

    masks: Float[Tensor, "B Q h w"]
    """zero for queries without a partner; where masks overlap they share the pixel, so that the sum
    over Q is 1, or 0 in void"""
    classes: Int64[Tensor, "B Q"]
    """K - 1, "no object", for queries without a partner"""
    class_weight: Float[Tensor, "B Q"]
    """Dice with the partner; without one, the share of the query's mask that lies on void"""
    mask_weight: Float[Tensor, "B Q"]
    """probability of the partner's class; 0 without a partner"""
    void: Bool[Tensor, "B h w"]
    """pixels in no partner's mask"""
    area: Float[Tensor, "B h w"]
    """pixels of the mask that a pixel belongs to; 0 in void"""


def mask_targets(sample: PanopticSample, size: tuple[int, int], num_classes: int) -> MaskTargets:
    """The masks of a batch's segments at the size (h, w) of a prediction.

    A segment that is too small to be seen at that size is left out. Raises ValueError, naming the
    image, for a segment number without a class and for a class that isn't below `num_classes`.
    """
    check_classes(sample, num_classes)
    small = resample(sample.segment_map, size)
    numbers = torch.arange(1, sample.classes.shape[1] + 1, device=small.device, dtype=small.dtype)
    masks = small[:, None] == numbers[:, None, None]
    classes = torch.where(masks.flatten(2).any(-1), sample.classes, PADDING)
    return MaskTargets(masks.float(), classes)


def check_classes(sample: PanopticSample, num_classes: int) -> None:
    """Raise ValueError, naming the image, for numbers that can't be; see `mask_targets`."""
    listed = sample.classes.shape[1]
    for index, name in enumerate(sample.name):
        classes, numbers = sample.classes[index], sample.segment_map[index]
        bad = classes[(classes < PADDING) | (classes >= num_classes)]
        if bad.numel():
            raise ValueError(
                f"{name}: class {int(bad[0])} is out of range; this model has {num_classes} "
                f"classes, 0 to {num_classes - 1}"
            )
        if int(numbers.min()) < 0 or int(numbers.max()) > listed:
            raise ValueError(
                f"{name}: segment numbers run from {int(numbers.min())} to {int(numbers.max())}, "
                f"but {listed} segments have a class; 0 is void, the others count from 1"
            )
        named = F.pad(classes, (1, 0)) != PADDING  # void needs no class
        if not named[numbers.long()].all():
            lost = numbers[~named[numbers.long()]]
            raise ValueError(f"{name}: segment {int(lost[0])} has no class")


def resample(
    numbers: Int32[Tensor, "B H W"] | Int64[Tensor, "B H W"], size: tuple[int, int]
) -> Int32[Tensor, "B h w"] | Int64[Tensor, "B h w"]:
    """Take whole numbers at another size: the nearest pixel's, as the features lie.

    Features of an image of odd width 4 n + 1 have their corners on the image's corners, those of an
    even one their middles at the middles of blocks of pixels (see `aligned`).
    """
    if numbers.shape[-2:] == size:
        return numbers
    places = []
    for length, wanted in zip(numbers.shape[-2:], size, strict=True):
        place = torch.arange(wanted, device=numbers.device, dtype=torch.float64)
        if aligned(numbers.shape[-1]):
            place = place * ((length - 1) / max(wanted - 1, 1))
        else:
            place = (place + 0.5) * (length / wanted) - 0.5
        places.append((place + 0.5).floor().long().clamp(0, length - 1))
    return numbers[:, places[0]][:, :, places[1]]


def aligned(width: int) -> bool:
    """Say whether maps of this width are resized corner on corner, as published: odd widths are."""
    return width % 2 == 1


def resize(
    maps: Float[Tensor, "B C h w"], size: tuple[int, int]
) -> Float[Tensor, "B C height width"]:
    """Resize logits or features, bilinear; corners meet where `size` is `aligned`."""
    if maps.shape[-2:] == size:
        return maps
    return F.interpolate(maps, size, mode="bilinear", align_corners=aligned(size[1]))


def dice(guess: Float[Tensor, "B Q P"], truth: Float[Tensor, "B N P"]) -> Float[Tensor, "B Q N"]:
    """Dice of every guessed and every true mask: 2 * (what they share) / (sum of their sizes)."""
    shared = guess @ truth.mT
    sizes = guess.sum(-1)[:, :, None] + truth.sum(-1)[:, None, :]
    return shared / (sizes / 2 + LEAST_WEIGHT)


@torch.no_grad()
def match(prediction: MaskPrediction, targets: MaskTargets) -> QueryTargets:
    """Pair queries with true masks (Hungarian matching), image by image.

    Where an image has more masks than queries, the masks that fit worst go without a partner, and
    their pixels count as void. Raises ValueError where SciPy isn't installed.
    """
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise ValueError("matching needs SciPy: pip install 'stereo-tr[train]'") from error
    class_logits, mask_logits = prediction.class_logits.float(), prediction.mask_logits.float()
    guess = mask_logits.softmax(1)
    real = targets.classes != PADDING
    truth = targets.masks * real[:, :, None, None]
    labelled = truth.sum(1, keepdim=True) > 0
    overlap = dice((guess * labelled).flatten(2), truth.flatten(2))
    probability = class_logits.softmax(-1)
    of_class = targets.classes.clamp(min=0)[:, None].expand(-1, probability.shape[1], -1)
    probability = probability.gather(2, of_class)
    # A prediction that isn't finite matches anyhow; its loss says so, and who caused it.
    score = (overlap * probability).nan_to_num(0).cpu()

    batch, queries, void_class = *class_logits.shape[:2], class_logits.shape[2] - 1
    masks = torch.zeros_like(guess)
    classes = torch.full((batch, queries), void_class, device=guess.device)
    mask_weight = guess.new_zeros(batch, queries)
    paired_dice = guess.new_zeros(batch, queries)
    for index in range(batch):
        there = real[index].nonzero()[:, 0].cpu()
        row, column = linear_sum_assignment(score[index][:, there].numpy(), maximize=True)
        query = torch.as_tensor(row, device=guess.device)
        partner = there[torch.as_tensor(column)].to(guess.device)
        masks[index, query] = truth[index, partner]
        classes[index, query] = targets.classes[index, partner]
        mask_weight[index, query] = probability[index, query, partner].clamp(min=LEAST_WEIGHT)
        paired_dice[index, query] = overlap[index, query, partner]
    claims = masks.sum(1, keepdim=True)
    void = claims[:, 0] == 0
    masks = masks / claims.clamp(min=1)
    on_void = void_share(guess, void)
    sizes = masks.sum((-2, -1))
    return QueryTargets(
        masks,
        classes,
        torch.where(classes == void_class, on_void, paired_dice).clamp(min=LEAST_WEIGHT),
        mask_weight,
        void,
        torch.einsum("bqhw,bq->bhw", masks, sizes),
    )


def void_share(
    guess: Float[Tensor, "B Q h w"], void: Bool[Tensor, "B h w"]
) -> Float[Tensor, "B Q"]:
    """How much of each guessed mask lies on `void`, in [0, 1]."""
    on_void = (guess * void[:, None]).sum((-2, -1))
    return on_void / (guess.sum((-2, -1)) + LEAST_WEIGHT)
