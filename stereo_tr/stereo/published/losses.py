"""The published training losses, shared by CSTR, STTR and STTR-light.

Letters  B batch, H W image in pixels, h w token grid
Source   Li et al. 2021, section 3.5 (relative response, smooth L1, occlusion)
Tests    tests/stereo/test_published.py: the original code's losses and gradients
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from stereo_tr.datasets.sample import StereoSample

from ..output import StereoOutput

_LOGARITHM_FLOOR = 1e-6
"""added inside every logarithm"""


class PublishedDetails(NamedTuple):
    """What the published models keep beside their maps, for the losses and for looking inside."""

    token_disparity: Float[Tensor, "B h w"]
    """pixels of the full-size image, before upsampling"""
    token_occlusion: Float[Tensor, "B h w"]
    scores: Float[Tensor, "B h w w"] | None
    """last matching scores, left token x right token, summed over heads; -inf where the
    disparity would be negative"""
    log_assignment: Float[Tensor, "B h w+1 w+1"] | None
    """logarithm of the transport plan; the last column and row are the dustbins"""
    rows: Int[Tensor, " h"]
    """pixel rows of the image that the token rows stand for"""
    columns: Int[Tensor, " w"]
    scale: float
    """pixels between neighbouring tokens of a row"""


def at_tokens(
    values: Shaped[Tensor, "B H W"], rows: Int[Tensor, " h"], columns: Int[Tensor, " w"]
) -> Shaped[Tensor, "B h w"]:
    """Sample a full-size map at the pixels that the tokens stand for."""
    return values[:, rows][:, :, columns]


def published_losses(output: StereoOutput, sample: StereoSample) -> dict[str, Tensor]:
    """Return the four losses of a batch, each already weighted (by 1); the total is their sum.

    The truth counts where it is measured, seen by both cameras and larger than 0; a sample without
    any such pixel counts nowhere. Means are over all pixels of the batch that count.

    relative_response  -log of the plan at the true match, and at the dustbins where occluded
    token_disparity    smooth L1 of the disparity before upsampling, in pixels of the image
    disparity          smooth L1 of the final disparity, in pixels
    occlusion          binary cross-entropy of the final occlusion
    """
    details: PublishedDetails = output.details
    visible = sample.valid & ~sample.occluded & (sample.disparity > 0)
    usable = visible.flatten(1).any(1)[:, None, None]
    occluded, right_occluded = sample.occluded & usable, sample.right_occluded & usable

    grid = details.rows, details.columns
    token_visible = at_tokens(visible, *grid)
    token_truth = at_tokens(sample.disparity, *grid)
    target = (details.columns - token_truth) / details.scale
    log_assignment = details.log_assignment
    responses = [
        _at_column(log_assignment[..., :-1, :-1], target)[token_visible],
        log_assignment[..., :-1, -1].exp()[at_tokens(occluded, *grid)],
        log_assignment[..., -1, :-1].exp()[at_tokens(right_occluded, *grid)],
    ]
    probabilities = [output.occlusion[occluded], 1 - output.occlusion[visible]]
    return {
        "relative_response": _surprise(torch.cat(responses)),
        "token_disparity": _distance(
            details.token_disparity[token_visible], token_truth[token_visible]
        ),
        "disparity": _distance(output.disparity[visible], sample.disparity[visible]),
        "occlusion": _surprise(torch.cat(probabilities)),
    }


def _at_column(
    log_assignment: Float[Tensor, "B h w w"], column: Float[Tensor, "B h w"]
) -> Float[Tensor, "B h w"]:
    """Read each row's plan at a fractional column, linearly between the two columns beside it."""
    last = log_assignment.shape[-1] - 1
    lower, upper = column.floor().long().clamp(0, last), column.ceil().long().clamp(0, last)
    fraction = (column - column.floor())[..., None]
    beside = log_assignment.gather(-1, torch.stack([lower, upper], dim=-1)).exp()
    return (beside[..., :1] * (1 - fraction) + beside[..., 1:] * fraction)[..., 0]


def _surprise(probability: Float[Tensor, " N"]) -> Float[Tensor, ""]:
    return -(probability + _LOGARITHM_FLOOR).log().sum() / max(len(probability), 1)


def _distance(guess: Float[Tensor, " N"], truth: Float[Tensor, " N"]) -> Float[Tensor, ""]:
    return F.smooth_l1_loss(guess, truth, reduction="sum") / max(len(guess), 1)
