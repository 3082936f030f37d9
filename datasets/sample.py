"""What a stereo sample is, for every data set in this package: units and validity, fixed once.

Letters  H W image height and width, in pixels
Tests    tests/datasets/
"""

from typing import NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor


class StereoSample(NamedTuple):
    """One rectified pair with its truth. A batch of pairs is the same tuple with a leading B.

    Default collation stacks it, because it is a NamedTuple of tensors. No value of disparity means
    "unknown"; only the `valid` maps say so, and disparity is 0 where they are False.
    """

    left: Float[Tensor, "*B 3 H W"]
    """RGB in [0, 1]; normalisation belongs to the model"""
    right: Float[Tensor, "*B 3 H W"]
    """RGB in [0, 1]"""
    disparity: Float[Tensor, "*B H W"]
    """pixels, >= 0: left (x, y) is seen at right (x - disparity, y)"""
    valid: Bool[Tensor, "*B H W"]
    """True where the disparity was measured, whether or not the right camera sees the point"""
    occluded: Bool[Tensor, "*B H W"]
    """True where a left pixel is known to have no partner in the right view, because something
    hides it or because it lies outside; False where the data set doesn't tell"""
    right_disparity: Float[Tensor, "*B H W"]
    """pixels, >= 0: right (x, y) is seen at left (x + right_disparity, y)"""
    right_valid: Bool[Tensor, "*B H W"]
    """all False where a data set has no truth for the right view"""
    right_occluded: Bool[Tensor, "*B H W"]
    """True where a right pixel is known to have no partner in the left view"""
    name: str | list[str]
    """says where the pair comes from, unique within its data set; a list in a batch"""
