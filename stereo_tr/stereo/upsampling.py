"""Learned upsampling: every fine pixel is a weighted mean of the 3 x 3 coarse pixels around it.

Letters  B batch, h w coarse size, f factor, H W = f h, f w fine size, K maps upsampled together,
         n = 9 * f * f logits
Source   convex upsampling: RAFT, https://arxiv.org/abs/2003.12039, section 3.3; used by CSTR
Tests    tests/stereo/test_upsampling.py: a float64 loop, constants stay constant
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..attention.memory import pieces


def upsample(
    x: Float[Tensor, "B K h w"],
    logits: Float[Tensor, "B n h w"],
    factor: int,
    padding: str = "replicate",
) -> Float[Tensor, "B K H W"]:
    """Enlarge `x` by `factor` with weights softmax(`logits`) over the 9 neighbours.

    Channel (k * f + a) * f + b of the logits weighs neighbour k (row-major) for the fine pixel
    (f y + a, f x + b). Around the map `padding` takes over: a mode of `torch.nn.functional.pad`.
    Values are not scaled: disparities must be multiplied by `factor`.
    """
    padded = F.pad(x, (1, 1, 1, 1), mode=padding)
    batch, count, height, width = logits.shape
    each = 3 * batch * count * x.shape[1] * width * logits.element_size()
    parts = pieces(height, each)
    if len(parts) == 1:
        return _upsampled(padded, logits, factor)
    strips = (
        _upsampled(padded[:, :, rows.start : rows.stop + 2], logits[:, :, rows], factor)
        for rows in parts
    )
    return torch.cat(tuple(strips), dim=2)


def _upsampled(
    padded: Float[Tensor, "B K _ _"], logits: Float[Tensor, "B n h w"], factor: int
) -> Float[Tensor, "B K H W"]:
    batch, _, height, width = logits.shape
    weights = logits.contiguous().view(batch, 1, 9, factor**2, height, width).softmax(2)
    neighbours = F.unfold(padded, 3).view(batch, -1, 9, 1, height, width)
    return F.pixel_shuffle((weights * neighbours).sum(2).flatten(1, 2), factor)
