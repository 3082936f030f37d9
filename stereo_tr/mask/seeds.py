"""A start for the clustering: queries begin at pixels that are unlike each other.

Learned queries are the same for every image, and a short training doesn't teach them to find the
things of this one. Here query n also holds the feature of pixel n of a farthest-first walk: the
first is the pixel most like the image's mean, and every next one the pixel least like all before.
This is the k-means++ start (without its dice), in the space where the masks are read off.

Letters  B batch, C channels of a feature, Q queries, h w size of the finest map
Source   Gonzalez 1985, https://doi.org/10.1016/0304-3975(85)90224-5 (farthest first); Arthur and
         Vassilvitskii 2007 (k-means++); for queries of mask transformers: ClustSeg, section 3.2,
         https://arxiv.org/abs/2305.02187
Tests    tests/mask/test_seeds.py
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ..attention.normalised import BatchNorm
from .clustering import moments

SHARPNESS = 10.0
"""that mask logits of seeds start with: e^10 for the same feature, 1 for an orthogonal one"""
GAIN = 1.5
"""what a seed's novelty counts at first beside likeness: where two seeds stand in one segment, the
later one is little new, and the earlier one gets the whole segment"""
NEW = 0.5
"""novelty that is enough: beyond, no seed is preferred to another"""
DESCRIPTION = 6
"""numbers that queries are told of their seeds' masks: novelty, size, mean and spread of place"""


class SeededQueries(nn.Module):
    """Adds what is known of seeds to learned queries, and says which pixels are like each seed."""

    def __init__(self, features: int, queries: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(features + DESCRIPTION, queries, 1, bias=False)
        self.norm = BatchNorm(queries)
        self.sharpness = nn.Parameter(torch.tensor(SHARPNESS))
        self.gain = nn.Parameter(torch.tensor(GAIN))

    def forward(
        self, features: Float[Tensor, "B C h w"], queries: Float[Tensor, "B D 1 Q"]
    ) -> tuple[Float[Tensor, "B D 1 Q"], Float[Tensor, "B Q h w"]]:
        """Queries that know their seeds, and mask logits; `features` have length 1."""
        flat = features.flatten(2)
        places, novelty = farthest_first(features.detach(), queries.shape[-1])
        novelty = novelty.clamp(max=NEW)
        seeds = flat.gather(2, places[:, None].expand(-1, flat.shape[1], -1))
        alike = seeds.mT @ flat + self.gain * novelty[:, :, None]
        logits = self.sharpness * alike.unflatten(2, features.shape[2:])
        masks = logits.detach().softmax(1)
        about = torch.cat((novelty[..., None], masks.mean((2, 3))[..., None], moments(masks)), 2)
        known = torch.cat((seeds, about.mT), dim=1)[:, :, None]
        return queries + self.norm(self.project(known)), logits


def farthest_first(
    features: Float[Tensor, "B C h w"], count: int
) -> tuple[Int64[Tensor, "B N"], Float[Tensor, "B N"]]:
    """Indices of `count` pixels of each image, farthest first, and how new each was.

    Novelty is 1 - cosine to the nearest seed before; 1 for the first. Features of 3x3 pixels are
    averaged first, lest pixels on borders, which are like nothing else, come before whole things.
    Where an image has fewer pixels than that, some come again.
    """
    smooth = F.avg_pool2d(features, 3, 1, 1, count_include_pad=False)
    smooth = F.normalize(smooth.flatten(2), dim=1)
    chosen = [(smooth * smooth.mean(2, keepdim=True)).sum(1).argmax(1)]
    novelty = [smooth.new_ones(len(smooth))]
    nearest = smooth.new_full(smooth[:, 0].shape, -torch.inf)
    images = torch.arange(len(smooth), device=smooth.device)
    for _ in range(count - 1):
        latest = smooth[images, :, chosen[-1]]
        nearest = torch.maximum(nearest, torch.einsum("bc,bcp->bp", latest, smooth))
        least, place = nearest.min(1)
        chosen.append(place)
        novelty.append(1 - least)
    return torch.stack(chosen, dim=1), torch.stack(novelty, dim=1)
