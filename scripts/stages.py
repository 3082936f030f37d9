"""What `cstr_small` says after each of its stages, to see which of them an error comes from.

    stereo-tr evaluate --data pairs --root FOLDER --stages

Scores the model's first, coarse look, and of its last look what was matched, what context
adjustment made of it, that at half of the size before and after refinement, and at full size. What
follows then (the surer look a pixel, planes, filling, sharp edges) is the model's own row.

Letters  H W image size in pixels, h w size of a look
Tests    tests/scripts/test_stages.py
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from stereo_tr.stereo.losses import TOKEN
from stereo_tr.stereo.model import ContextStereoTransformer
from stereo_tr.stereo.output import StereoOutput

STAGES = ("coarse look", "matched", "adjusted", "half size", "refined", "full size")
"""in the order in which they are made"""


class Stage(NamedTuple):
    """One stage at the size of the left view."""

    disparity: Float[Tensor, "H W"]
    """pixels of the view"""
    occluded: Bool[Tensor, "H W"]


class StageRecorder:
    """Keeps what a model says whenever it is asked; `clear` it before the next pair."""

    def __init__(self, model: nn.Module) -> None:
        """Watch `model`; ValueError where it has no such stages."""
        if not isinstance(model, ContextStereoTransformer):
            raise ValueError("--stages takes cstr_small; other models have other stages")
        self.looks: list[StereoOutput] = []
        model.register_forward_hook(lambda module, given, output: self.looks.append(output))

    def clear(self) -> None:
        """Forget the last pair."""
        self.looks.clear()

    def stages(self, size: tuple[int, int]) -> dict[str, Stage]:
        """Return all STAGES of the first pair that was matched since `clear`, a view of `size`."""
        return stages(self.looks, size)


def stages(looks: Sequence[StereoOutput], size: tuple[int, int]) -> dict[str, Stage]:
    """Return STAGES of one pair, a view of `size`, of what the model said at each scale."""
    coarse = [each for each in looks if each.details.size == looks[0].details.size]
    first, last = coarse[-1], looks[-1]  # it looks anew once the right view has been moved
    match, adjusted, refined = (last.details.match, last.details.adjusted, last.details.refined)
    found = (
        (first.disparity, first.occlusion, 1, first.details.size),
        (match.disparity, match.unmatched, TOKEN, last.details.size),
        (adjusted.disparity, match.unmatched, TOKEN, last.details.size),
        *(
            (half, last.occlusion[:, ::2, ::2], 2, last.details.size)
            for half in refined.half_disparity
        ),
        (last.disparity, last.occlusion, 1, last.details.size),
    )
    return {
        name: Stage(
            _enlarged(disparity[0], stride, look, size) * (stride * size[1] / look[1]),
            _enlarged(hidden[0], stride, look, size) > 0.5,
        )
        for name, (disparity, hidden, stride, look) in zip(STAGES, found, strict=True)
    }


def _enlarged(
    map_: Float[Tensor, "_ _"], stride: int, look: tuple[int, int], size: tuple[int, int]
) -> Float[Tensor, "H W"]:
    """Give each pixel of the view what the nearest place of the map has.

    Place (y, x) of the map lies on pixel stride * (y, x) of the look.
    """
    rows, columns = (
        (torch.arange(count, device=map_.device) / stride).round().long().clamp(max=limit - 1)
        for count, limit in zip(look, map_.shape, strict=True)
    )
    at_look = map_[rows][:, columns]
    if look == size:
        return at_look
    return F.interpolate(at_look[None, None].float(), size, mode="nearest-exact")[0, 0]
