"""What every stereo model returns.

Letters  B batch, H W image height and width in pixels
Tests    tests/stereo/test_textbook.py: dropping what is inside changes no map
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ..attention.held import held

_scores_kept: ContextVar[bool] = ContextVar("scores kept", default=True)


def maps_only() -> AbstractContextManager[None]:
    """Let stereo models drop scores and assignments inside as soon as the maps are read off them.

    They hold a number for each pair of tokens of each row, 2 GB each for a 4K image. `details` then
    has None in their place.
    """
    return held(_scores_kept, False)


def scores_kept() -> bool:
    """Return whether `details` is to hold scores and assignments."""
    return torch.compiler.is_compiling() or _scores_kept.get()


class Candidates(NamedTuple):
    """What the token nearest to a pixel was matched to before context filled in and smoothed.

    Blurred by nothing, but by the token as wide, and wrong where nothing could be matched.
    """

    disparity: Float[Tensor, "B H W"]
    """pixels, >= 0"""
    confidence: Float[Tensor, "B H W"]
    """share of the token that its match and the neighbours of that took, in [0, 1]"""


class StereoOutput(NamedTuple):
    """Disparity of the left view, at the size of the images, and how far to trust it."""

    disparity: Float[Tensor, "B H W"]
    """pixels, >= 0: left (x, y) is seen at right (x - disparity, y)"""
    occlusion: Float[Tensor, "B H W"]
    """probability in [0, 1] that the right camera doesn't see the point"""
    confidence: Float[Tensor, "B H W"]
    """in [0, 1]: how far to trust the disparity; each model says what it means by that"""
    details: Any
    """what the model's losses need; None where nothing asks for it"""
    candidates: Candidates | None = None
    """of models that are asked at several scales, where they don't learn"""


def of_graph(maps: Sequence[Tensor]) -> StereoOutput:
    """What a model in a file gives: three maps, and the two of its candidates if it has any."""
    return StereoOutput(*maps[:3], None, Candidates(*maps[3:]) if maps[3:] else None)
