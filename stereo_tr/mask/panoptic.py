"""From a class and a mask for every query to one segmentation of the image.

    by_masks    take the queries in the order of their scores; each gets the pixels that are still
                free, if it is sure enough and most of its mask is free (CMT-, kMaX-DeepLab)
    by_pixels   each pixel goes to its best query, if both are sure enough (MaX-DeepLab)

Queries of one stuff class become one segment. What is left over, and segments that are too small,
are void. The thresholds that were published for each data set are in RULES.

Letters  Q queries, K classes and, last, "no object", h w size of the masks, H W of the image
Source   post-processing of google-research/deeplab2 and bytedance/kmax-deeplab; MaX-DeepLab
         (Wang et al. 2021) section 4, kMaX-DeepLab (Yu et al. 2022) appendix
Tests    tests/mask/test_panoptic.py: golden outputs of both repositories
"""

from collections.abc import Collection, Iterator
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int32
from torch import Tensor

from ..datasets.naming import closest
from .assignment import resize
from .output import MaskOutput, MaskPrediction


class Rules(NamedTuple):
    """How to merge. Scores and thresholds are probabilities in [0, 1]; areas are in pixels."""

    way: Literal["masks", "pixels"]
    thing: float
    """a query of a thing class counts if the probability of its class is larger"""
    stuff: float
    pixel: float = 0.4
    """a pixel is in a mask if its probability is larger"""
    free: float = 0.8
    """by masks: the share of a mask that has to be free yet"""
    class_power: float = 1.0
    """by masks: the order is that of class ** class_power * mask ** mask_power"""
    mask_power: float = 1.0
    smallest_thing: int = 0
    """smaller things become void"""
    smallest_stuff: int = 0


RULES = {
    "coco": Rules("masks", 0.7, 0.5, smallest_thing=400, smallest_stuff=6400),
    "cityscapes": Rules(
        "masks", 0.5, 0.3, free=0.9, mask_power=0.0, smallest_thing=256, smallest_stuff=2048
    ),
    "ade20k": Rules("masks", 0.4, 0.4),
    "coco_max_deeplab_641": Rules("pixels", 0.7, 0.7, smallest_thing=100, smallest_stuff=1600),
    "coco_max_deeplab_1025": Rules("pixels", 0.7, 0.7, smallest_thing=256, smallest_stuff=4096),
    # Ours: small images of many small things, learned in minutes.
    "generated": Rules("masks", 0.4, 0.4, free=0.5),
}
"""name -> rules: as published for kMaX-DeepLab by data set, for MaX-DeepLab by image size too"""


class Segment(NamedTuple):
    """One segment of a result."""

    number: int
    """in the segment map, from 1 on"""
    category: int
    """class, from 0 on"""
    thing: bool
    score: float
    """probability of the class; of several queries of a stuff class the largest"""
    area: int
    """pixels"""
    query: int
    """that made it; of several the surest"""


class Panoptic(NamedTuple):
    """A segmentation of one image."""

    segment_map: Int32[Tensor, "H W"]
    """number of each pixel's segment; 0 is void"""
    segments: tuple[Segment, ...]
    """in the order of their numbers"""


def rules_for(name: str) -> Rules:
    """Return the rules called `name`. Raises ValueError for a name that isn't known."""
    if name not in RULES:
        raise ValueError(f"no rules for merging are called {name!r}; {closest(name, RULES)}")
    return RULES[name]


def segment(
    output: MaskOutput, size: tuple[int, int], things: Collection[int], rules: Rules
) -> list[Panoptic]:
    """Merge the final prediction of every image of a batch, at the images' size (H, W).

    things: classes that can be counted; the others are stuff.
    """
    final = output.final
    return [
        merge(MaskPrediction(classes, masks), size, things, rules)
        for classes, masks in zip(final.class_logits, final.mask_logits, strict=True)
    ]


@torch.no_grad()
def merge(
    prediction: MaskPrediction, size: tuple[int, int], things: Collection[int], rules: Rules
) -> Panoptic:
    """Merge one image's prediction, logits [Q, K] and [Q, h, w], at the size (H, W)."""
    scores, classes = prediction.class_logits.float().softmax(-1)[:, :-1].max(-1)
    masks = prediction.mask_logits.float()
    large = resize(masks[None], size)[0]
    is_thing = torch.tensor([int(c) in things for c in classes], device=classes.device)
    sure = torch.where(is_thing, scores > rules.thing, scores > rules.stuff)
    if rules.way == "masks":
        pasted = _by_masks(masks, large, scores, sure, rules)
    else:
        pasted = _by_pixels(large, sure, rules)
    segment_map = torch.zeros(size, dtype=torch.int32, device=masks.device)
    segments: list[Segment] = []
    stuff: dict[int, int] = {}
    for query, pixels in pasted:
        category, thing = int(classes[query]), bool(is_thing[query])
        area, score = int(pixels.sum()), float(scores[query])
        if not thing and category in stuff:
            known = segments[stuff[category] - 1]
            score, area = max(known.score, score), known.area + area
            segments[known.number - 1] = known._replace(area=area, score=score)
            segment_map[pixels] = known.number
        else:
            segments.append(Segment(len(segments) + 1, category, thing, score, area, query))
            segment_map[pixels] = len(segments)
            if not thing:
                stuff[category] = len(segments)
    return _without_small(Panoptic(segment_map, tuple(segments)), rules)


def _by_masks(
    masks: Float[Tensor, "Q h w"],
    large: Float[Tensor, "Q H W"],
    scores: Float[Tensor, "Q"],
    sure: Bool[Tensor, "Q"],
    rules: Rules,
) -> Iterator[tuple[int, Bool[Tensor, "H W"]]]:
    """Give each query that counts the pixels it gets, the one with the best score first."""
    probability = masks.softmax(0).flatten(1)
    inside = probability > rules.pixel
    mask_scores = (probability * inside).sum(-1) / inside.sum(-1).clamp(min=1)
    order = scores**rules.class_power * mask_scores**rules.mask_power
    inside = large.softmax(0) > rules.pixel
    free = torch.ones_like(inside[0])
    for query in order.argsort(descending=True, stable=True).tolist():
        if not sure[query]:
            continue
        pixels = inside[query] & free
        if int(pixels.sum()) > rules.free * int(inside[query].sum()):
            free &= ~pixels
            yield query, pixels


def _by_pixels(
    large: Float[Tensor, "Q H W"], sure: Bool[Tensor, "Q"], rules: Rules
) -> Iterator[tuple[int, Bool[Tensor, "H W"]]]:
    """Give each query that counts the pixels whose best query it is, in the queries' order.

    Pixels compete among the queries that count; one whose best query doesn't count stays void.
    """
    best = large.argmax(0)
    probability = large.masked_fill(~sure[:, None, None], -torch.inf).softmax(0)
    for query in sure.nonzero()[:, 0].tolist():
        pixels = (best == query) & (probability[query] > rules.pixel)
        if pixels.any():
            yield query, pixels


def _without_small(panoptic: Panoptic, rules: Rules) -> Panoptic:
    """Make segments below the limits void, and number the others anew."""
    numbers = torch.zeros(len(panoptic.segments) + 1, dtype=torch.int32)
    kept: list[Segment] = []
    for old in panoptic.segments:
        if old.area >= (rules.smallest_thing if old.thing else rules.smallest_stuff):
            kept.append(old._replace(number=len(kept) + 1))
            numbers[old.number] = len(kept)
    device = panoptic.segment_map.device
    return Panoptic(numbers.to(device)[panoptic.segment_map.long()], tuple(kept))


def semantic_probabilities(
    prediction: MaskPrediction, size: tuple[int, int]
) -> Float[Tensor, "S H W"]:
    """Probability of each class at each pixel of one image, "no object" left out.

    Sums over the queries; over the classes they sum to at most 1.
    """
    classes = prediction.class_logits.float().softmax(-1)[:, :-1]
    masks = resize(prediction.mask_logits.float()[None], size)[0].softmax(0)
    return torch.einsum("qs,qhw->shw", classes, masks)
