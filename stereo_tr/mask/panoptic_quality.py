"""Panoptic quality: were the segments found (RQ), and how exactly (SQ)? PQ = SQ * RQ.

A true and a guessed segment of one class belong together if they share more than half of their
union; no segment can have two such partners. Void is in no union. Guessed segments that lie on
void by more than a half count neither as found nor as wrong.

Letters  S classes, H W image height and width in pixels, N M true and guessed segments
Source   Kirillov et al. 2019, eq. 1 and section 4.2, https://arxiv.org/abs/1801.00868
Tests    tests/mask/test_panoptic_quality.py: golden counts of deeplab2, torchmetrics
"""

from collections.abc import Collection
from typing import NamedTuple

import torch
from jaxtyping import Float64, Int32, Int64
from torch import Tensor

from ..datasets.panoptic_sample import VOID


class Quality(NamedTuple):
    """Scores of each class in [0, 1]; nan for a class that is nowhere, in truth or guess."""

    pq: Float64[Tensor, "S"]
    sq: Float64[Tensor, "S"]
    """mean intersection over union of the segments that were found; 0 where none was"""
    rq: Float64[Tensor, "S"]
    """F1 score of finding them"""


def panoptic_counts(
    guess: Int32[Tensor, "H W"],
    guess_classes: Int64[Tensor, "M"],
    truth: Int32[Tensor, "H W"],
    truth_classes: Int64[Tensor, "N"],
    num_classes: int,
) -> Float64[Tensor, "4 S"]:
    """Count one image: found, wrongly guessed, missed, and the sum of the found ones' IoU.

    Both maps hold segment numbers, 0 = void, and the lists the classes of segments 1, 2, ...; list
    entries of -1 and segments without a pixel count for nothing. Counts of several images add up.
    """
    rows, columns = len(truth_classes) + 1, len(guess_classes) + 1
    pairs = truth.long().flatten() * columns + guess.long().flatten()
    shared = torch.bincount(pairs, minlength=rows * columns).view(rows, columns).double().cpu()
    truth_classes, guess_classes = truth_classes.cpu(), guess_classes.cpu()
    true_area, area = shared.sum(1)[1:], shared.sum(0)[1:]
    on_void, shared = shared[VOID, 1:], shared[1:, 1:]
    union = true_area[:, None] + area[None] - shared - on_void[None]
    iou = shared / union.clamp(min=1)
    partners = (iou > 0.5) & (truth_classes[:, None] == guess_classes[None])
    found, hit = partners.any(1), partners.any(0)
    missed = (true_area > 0) & ~found
    wrong = (area > 0) & ~hit & (on_void <= 0.5 * area)

    def per_class(classes: Tensor, weights: Tensor) -> Tensor:
        there = classes >= 0
        return torch.zeros(num_classes, dtype=torch.float64).index_add(
            0, classes[there], weights[there].double()
        )

    return torch.stack(
        [
            per_class(truth_classes, found),
            per_class(guess_classes, wrong),
            per_class(truth_classes, missed),
            per_class(truth_classes, (iou * partners).sum(1)),
        ]
    )


def panoptic_quality(counts: Float64[Tensor, "4 S"]) -> Quality:
    """PQ, SQ and RQ of each class, from summed counts."""
    found, wrong, missed, overlap = counts
    amount = found + wrong / 2 + missed / 2  # 0 / 0 is nan: there is no such class
    return Quality(
        overlap / amount,
        torch.where(amount > 0, overlap / found.clamp(min=1), torch.nan),
        found / amount,
    )


def summary(counts: Float64[Tensor, "4 S"], things: Collection[int]) -> dict[str, float]:
    """Means over the classes that are there, over all of them, things and stuff; nan: none is."""
    quality = panoptic_quality(counts)
    is_thing = torch.tensor([number in things for number in range(counts.shape[1])])
    groups = {"": torch.ones_like(is_thing), "_things": is_thing, "_stuff": ~is_thing}
    return {
        f"{name}{group}": float(values[members].nanmean())
        for group, members in groups.items()
        for name, values in quality._asdict().items()
    }
