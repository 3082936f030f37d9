"""What every stereo model returns.

Letters  B batch, H W image height and width in pixels
"""

from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor


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
