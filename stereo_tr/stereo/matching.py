"""Raw disparity from matching scores: optimal transport with a dustbin, and its readout.

Letters  T left tokens of a row, S right tokens of the same row, both left to right
Source   STTR, https://arxiv.org/abs/2011.02910, eq. 6 to 8; Sinkhorn iterations on scaling vectors:
         Cuturi 2013, https://arxiv.org/abs/1306.0895
Tests    tests/stereo/test_matching.py: a float64 loop, and scipy's linear programme in the limit
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..attention.kernels import kernels_serve
from ..attention.tracing import graph_is_recorded


def optimal_transport(
    scores: Float[Tensor, "*B T S"], dustbin: Float[Tensor, ""], iterations: int
) -> Float[Tensor, "*B T+1 S+1"]:
    """Log of the assignment of left to right tokens, with a dustbin for those without a partner.

    The last column takes left tokens that match nothing, the last row right tokens. `dustbin` is
    the score of ending there. Masked scores may be -inf. Every token carries one unit and each
    dustbin as many as there are tokens on the other side; after the last step each row of tokens
    sums to 1 exactly, columns nearly. With no iterations each row is a softmax over the right
    tokens and the dustbin, as attention has it. Fewer are a ValueError. Always float32.
    """
    if iterations < 0:
        raise ValueError(f"iterations={iterations}: give 0 (a softmax) or more")
    tokens, keys = scores.shape[-2:]
    if iterations and kernels_serve(scores):
        from .transport_kernel import transport_on_gpu  # Triton isn't everywhere

        return transport_on_gpu(scores, dustbin, iterations)
    scores = F.pad(scores.float(), (0, 1, 0, 1))
    scores[..., -1, :] = dustbin
    scores[..., :, -1] = dustbin
    if iterations == 0:
        return scores.log_softmax(-1)
    # Arithmetic of tensors: a number made of sizes would be fixed in a recorded graph.
    total, unit = tokens + keys, scores.new_ones(1)
    row_mass = (torch.cat((unit.expand(tokens), unit * keys)) / total).log()
    column_mass = (torch.cat((unit.expand(keys), unit * tokens)) / total).log()
    highest = scores.detach().amax(-1)  # of each row; the dustbin keeps it finite
    if not graph_is_recorded() and (highest - scores[..., -1].detach()).max() <= SAFE_SPREAD:
        rows, columns = _scale(scores, highest, row_mass, column_mass, iterations)
    else:
        rows, columns = _scale_logarithms(scores, row_mass, column_mass, iterations)
    offset = rows + (unit * total).log()
    return (scores + offset[..., None]).add_(columns[..., None, :])


SAFE_SPREAD = 60.0
"""how far a row's best score may lie above the dustbin's for float32 to hold the exponentials of
both: exp(-60) leaves a factor of 1e12 above the smallest number"""


def _scale(
    scores: Tensor, highest: Tensor, row_mass: Tensor, column_mass: Tensor, iterations: int
) -> tuple[Tensor, Tensor]:
    """Logarithms of the factors of rows and columns; every step is a product with one matrix."""
    kernel = (scores - highest[..., None]).exp_()
    rows = highest - highest.amax(-1, keepdim=True)  # a common factor makes no difference
    # Only the factors pass through logarithms: the way back through 1 / x would square x.
    for _ in range(iterations):
        columns = column_mass - (rows.exp()[..., None, :] @ kernel)[..., 0, :].log()
        rows = row_mass - (kernel @ columns.exp()[..., None])[..., 0].log()
    return rows - highest, columns


def _scale_logarithms(
    scores: Tensor, row_mass: Tensor, column_mass: Tensor, iterations: int
) -> tuple[Tensor, Tensor]:
    """The same for any scores, and without a decision that a recorded graph can't take."""
    rows = torch.zeros_like(scores[..., 0])
    for _ in range(iterations):
        columns = column_mass - (scores + rows[..., None]).logsumexp(-2)
        rows = row_mass - (scores + columns[..., None, :]).logsumexp(-1)
    return rows, columns


class RawMatch(NamedTuple):
    """Disparity read from an assignment, before any context adjusts it. Unit: tokens."""

    disparity: Float[Tensor, "*B T"]
    """tokens, >= 0"""
    confidence: Float[Tensor, "*B T"]
    """share of the token that its best match and the neighbours of that match took, in [0, 1]"""
    unmatched: Float[Tensor, "*B T"]
    """share that the dustbin took, in [0, 1]"""


def read_matches(assignment: Float[Tensor, "*B rows columns"], radius: int) -> RawMatch:
    """Mean disparity in a window of 2 * `radius` + 1 right tokens around the best one.

    `assignment` [..., T + 1, S + 1] is not logarithmic; its last row and column are the dustbins.
    The window makes the mean robust against second matches elsewhere, and sub-token exact (STTR,
    eq. 8). It ends at the borders; a match to the right of its own place counts as disparity 0. Of
    equal matches the first (the largest disparity) is best.
    """
    matched = assignment[..., :-1, :-1]
    best = matched.argmax(-1, keepdim=True)
    window = best + torch.arange(-radius, radius + 1, device=matched.device)
    padded = F.pad(matched, (radius, radius))
    weights = padded.gather(-1, window + radius)
    place = torch.arange(matched.shape[-2], device=matched.device)[:, None]
    distance = (place - window).clamp(min=0).to(matched.dtype)
    mass = weights.sum(-1)
    disparity = (weights * distance).sum(-1) / mass.clamp(min=1e-6)
    return RawMatch(disparity, mass.clamp(max=1.0), assignment[..., :-1, -1].clamp(0.0, 1.0))
