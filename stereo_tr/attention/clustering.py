"""Gathering by assignment: what attention does with its weights, for scores that are given.

Softmax over the keys makes it attention, softmax over the queries soft clustering, and arg-max over
the queries k-means: one word, of ASSIGNMENTS.

Letters  T queries (cluster centres), S keys (what is clustered), V channels of a value
Source   CMT-DeepLab, eq. 6 to 9, https://arxiv.org/abs/2206.08948; kMaX-DeepLab, eq. 6,
         https://arxiv.org/abs/2207.04044
Tests    tests/mask/test_clustering.py: limits at both ends of the temperature
"""

import torch
from jaxtyping import Float
from torch import Tensor

from .attend import ASSIGNMENTS


def gather(
    scores: Float[Tensor, "*B T S"],
    value: Float[Tensor, "*B S V"],
    assignment: str,
    *,
    temperature: int | float = 1.0,
    mean: bool = False,
) -> tuple[Float[Tensor, "*B T V"], Float[Tensor, "*B T S"]]:
    """Sum `value` with weights assign(scores / temperature); returns the sums and the weights.

    With `mean` a query gets the mean of what was assigned to it; one without anything gets zeros.
    """
    weights = ASSIGNMENTS[assignment](scores / temperature)
    tokens = weights @ value
    if mean:
        tokens = tokens / weights.sum(-1, keepdim=True).clamp(min=torch.finfo(weights.dtype).eps)
    return tokens, weights
