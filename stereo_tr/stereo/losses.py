"""What `cstr_small` is trained on: every stage against the truth at its own resolution.

Each loss is a mean over the pixels of a sample and then over samples, so a batch on one process and
the same batch shared between several have the same loss.

Letters  B pairs, H W image size in pixels, h w tokens (1/4)
Source   relative response: STTR, https://arxiv.org/abs/2011.02910, eq. 11, here for both views
Tests    tests/stereo/test_losses.py
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from ..datasets.sample import StereoSample

if TYPE_CHECKING:
    from .model import Details

TOKEN = 4
"""pixels between tokens; token (y, x) is centred on pixel (4 y, 4 x)"""
LEAST_SHARE = 1e-6
"""added inside logarithms, so that a hopeless match costs 14 and not infinity"""

WEIGHTS = {
    "response": 1.0,
    "match": 0.3,
    "adjusted": 0.5,
    "half_start": 0.5,
    "half": 0.7,
    "full": 1.0,
    "occlusion": 0.5,
    "confidence": 0.2,
}
"""by stage; later stages weigh more because they are what is used"""


def staged_losses(details: Details, sample: StereoSample) -> dict[str, Tensor]:
    """Weighted losses of all stages; see WEIGHTS for their names."""
    height, width = details.size
    seen = sample.valid & ~sample.occluded
    truth = sample.disparity

    def at(stride: int, x: Tensor) -> Tensor:
        return x[:, ::stride, ::stride]

    def crop(x: Tensor, like: Tensor) -> Tensor:
        return x[:, : like.shape[1], : like.shape[2]]

    losses = {"response": relative_response(details.log_assignment, sample)}
    quarter, half = at(TOKEN, truth), at(2, truth)
    raw = TOKEN * crop(details.match.disparity, quarter)
    adjusted = TOKEN * crop(details.adjusted.disparity, quarter)
    losses["match"] = masked_mean(robust(raw - quarter), at(TOKEN, seen))
    losses["adjusted"] = masked_mean(robust(adjusted - quarter), at(TOKEN, sample.valid))
    for name, stage in zip(("half_start", "half"), details.refined.half_disparity, strict=True):
        error = 2 * crop(stage, half) - half
        losses[name] = masked_mean(robust(error), at(2, sample.valid))
    error = details.refined.disparity[:, :height, :width] - truth
    losses["full"] = masked_mean(robust(error), sample.valid)

    occlusion = details.refined.occlusion_logits[:, :height, :width]
    losses["occlusion"] = masked_mean(
        F.binary_cross_entropy_with_logits(
            occlusion, sample.occluded.to(occlusion), reduction="none"
        ),
        sample.valid,
    )
    confidence = details.refined.confidence_logits[:, :height, :width]
    near = (error.detach().abs() < 1).to(confidence)
    losses["confidence"] = masked_mean(
        F.binary_cross_entropy_with_logits(confidence, near, reduction="none"), sample.valid
    )
    return {name: WEIGHTS[name] * loss for name, loss in losses.items()}


def robust(error: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """log(1 + |e|) + |e| / 10: steep where a pixel can be made precise, never flat."""
    size = error.abs()
    return size.log1p() + 0.1 * size


def masked_mean(values: Float[Tensor, " B *n"], mask: Bool[Tensor, " B *n"]) -> Float[Tensor, ""]:
    """Mean over True pixels of each sample, then over samples; a sample without any counts as 0.

    Values where the mask is False have no effect.
    """
    count = mask.flatten(1).sum(1)
    total = values.masked_fill(~mask, 0.0).flatten(1).sum(1)
    return (total / count.clamp(min=1)).mean()


def relative_response(
    log_assignment: Float[Tensor, "B h rows columns"], sample: StereoSample
) -> Float[Tensor, ""]:
    """-log of what each token gives to its true partner, or to the dustbin if it has none.

    `log_assignment` is [B, h, w + 1, w + 1], dustbins last, as `optimal_transport` gives it. Both
    views are asked: left tokens along rows of the assignment, right tokens along its columns.
    Truth between two tokens counts as their linear mixture. A sample without truth for the right
    view adds 0 for it.
    """
    left = (sample.disparity, sample.valid, sample.occluded, -1.0)
    right = (sample.right_disparity, sample.right_valid, sample.right_occluded, 1.0)
    total = log_assignment.new_zeros(())
    views = zip((log_assignment, log_assignment.transpose(-1, -2)), (left, right), strict=True)
    for response, (disparity, valid, occluded, way) in views:
        disparity, valid, occluded = (x[:, ::TOKEN, ::TOKEN] for x in (disparity, valid, occluded))
        rows, columns = disparity.shape[1:]
        keys = response.shape[-1] - 1
        response = response[:, :rows, :columns]
        place = torch.arange(columns, device=disparity.device)
        partner = (place + way * disparity / TOKEN).clamp(0, keys - 1)
        low = partner.floor().clamp(max=max(keys - 2, 0))
        share = partner - low
        pair = torch.stack((low, (low + 1).clamp(max=keys - 1)), dim=-1).long()
        given = response.gather(-1, pair).exp()
        given = given[..., 0] * (1 - share) + given[..., 1] * share
        matched = -(given + LEAST_SHARE).log()
        unmatched = -(response[..., -1].exp() + LEAST_SHARE).log()
        known = valid | occluded
        total = total + masked_mean(torch.where(occluded, unmatched, matched), known)
    return total / 2
