"""What every mask transformer returns.

Letters  B batch, Q object queries (masks an image may have), K classes and, last, "no object",
         S classes of the semantic branch, C channels, h w size of a map
"""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor


class MaskPrediction(NamedTuple):
    """One class and one mask for every query: of one decoder layer, or of the final head."""

    class_logits: Float[Tensor, "B Q K"]
    """K = num_classes + 1; the last is "no object" (void)"""
    mask_logits: Float[Tensor, "B Q h w"]
    """queries compete for every pixel: softmax over Q"""


class MaskOutput(NamedTuple):
    """The final prediction, and what training and pictures need beside it."""

    final: MaskPrediction
    auxiliary: tuple[MaskPrediction, ...] = ()
    """one for each decoder layer that is supervised, the first layer first; sizes may differ"""
    semantic_logits: Float[Tensor, "B S h w"] | None = None
    """of the auxiliary semantic branch, which exists only in training"""
    pixel_features: Float[Tensor, "B C h w"] | None = None
    """of length 1, where the final masks were read off: for the losses that compare pixels"""
    assignments: tuple[Float[Tensor, "B Q h w"], ...] = ()
    """which cluster a pixel went to in each decoder layer, the first layer first, summing over Q to
    1; sizes may differ"""
    auxiliary_features: tuple[Float[Tensor, "B C h w"], ...] = ()
    """like pixel_features, of each auxiliary prediction"""
    references: tuple[Float[Tensor, "B Q 4"], ...] = ()
    """where each decoder layer looks for each query's mask (CMT-DeepLab): mean x, y in [-1, 1] over
    the image, then spread (standard deviation) in x, y"""
