"""Learned upsampling: every fine pixel is a weighted mean of the 3 x 3 coarse pixels around it.

Letters  B batch, h w coarse size, f factor, H W = f h, f w fine size, K maps upsampled together,
         n = 9 * f * f logits
Source   convex upsampling: RAFT, https://arxiv.org/abs/2003.12039, section 3.3; used by CSTR
Tests    tests/stereo/test_upsampling.py: a float64 loop, constants stay constant
"""

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor


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
    weights = rearrange(logits, "b (k a c) h w -> b 1 k a c h w", k=9, a=factor, c=factor)
    padded = F.pad(x, (1, 1, 1, 1), mode=padding)
    neighbours = F.unfold(padded, 3)
    neighbours = rearrange(neighbours, "b (m k) (h w) -> b m k 1 1 h w", k=9, h=x.shape[-2])
    fine = (weights.softmax(2) * neighbours).sum(2)
    return rearrange(fine, "b m a c h w -> b m (h a) (w c)")
