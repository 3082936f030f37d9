"""Steps of an augmentation that change colours: of both views alike, or of each in its own way.

Each is a function of (sample, rng) with its settings as keywords; views stay within [0, 1]. What
has to be drawn for a view is a `Tone`: a linear map of the colours, then gamma. Brightness,
contrast, saturation and hue are all such maps, so they cost one pass together; only the clipping
between them, which changes blown-out pixels alone, is left out, and hue turns in the YIQ plane
instead of HSV's hexagon. (320x640 on one core: 0.4 ms, where kornia's hue took 150 and OpenCV's
HSV 30; torch's power took 26 ms, OpenCV's 0.8.)

Letters  H W image size in pixels
Tests    tests/datasets/test_photometric.py: kornia, and a float64 formula
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import cv2
import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from .sample import StereoSample

GREY = np.array([0.299, 0.587, 0.114])
"""weights of red, green and blue in brightness, ITU-R BT.601, as PIL and torchvision take them"""
TO_YIQ = np.array([GREY, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
"""brightness and two axes of colour, NTSC 1953"""
POOL = 2**21
"""normal numbers to draw pieces from, because making new ones takes 10 times as long; larger than
the 3 x 540 x 960 of a full SceneFlow view"""


@dataclass(frozen=True)
class Tone:
    """colour -> clip(matrix colour + offset) ^ gamma."""

    matrix: NDArray[np.float64] = field(default_factory=lambda: np.eye(3))
    offset: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    gamma: float = 1.0

    def __call__(self, view: Float[Tensor, "3 H W"]) -> Float[Tensor, "3 H W"]:
        """Apply it."""
        matrix = torch.from_numpy(self.matrix.astype(np.float32))
        offset = torch.from_numpy(self.offset.astype(np.float32))[:, None]
        changed = torch.addmm(offset, matrix, view.reshape(3, -1)).clamp_(0, 1)
        if self.gamma != 1:
            changed = torch.from_numpy(cv2.pow(changed.numpy(), self.gamma))
        return changed.reshape(view.shape)


Draw = Callable[[np.random.Generator, NDArray[np.float64]], Tone]
"""draws a tone for a picture, or two, of the given mean colour"""


def recolour(
    sample: StereoSample, rng: np.random.Generator, *, draw: Draw, asymmetric: float
) -> StereoSample:
    """Change both views by one tone, or, with probability `asymmetric`, each by its own."""
    means = [view.mean((1, 2)).double().numpy() for view in (sample.left, sample.right)]
    if rng.random() < asymmetric:
        tones = [draw(rng, mean) for mean in means]
    else:
        tones = [draw(rng, (means[0] + means[1]) / 2)] * 2
    return sample._replace(left=tones[0](sample.left), right=tones[1](sample.right))


def add_noise(
    sample: StereoSample, rng: np.random.Generator, *, variance: tuple[float, float]
) -> StereoSample:
    """Add normal noise to each view; the variance, in squared levels of 255, is one for both."""
    deviation = float(np.sqrt(rng.uniform(*variance))) / 255
    left, right = (
        torch.add(view, _noise(rng, view.shape), alpha=deviation).clamp_(0, 1)
        for view in (sample.left, sample.right)
    )
    return sample._replace(left=left, right=right)


def shift_channels(rng: np.random.Generator, mean: NDArray[np.float64], *, largest: float) -> Tone:
    """Add to each channel a number of its own, up to `largest`."""
    return Tone(offset=rng.uniform(-largest, largest, 3))


def brightness_and_contrast(
    rng: np.random.Generator, mean: NDArray[np.float64], *, largest: float
) -> Tone:
    """Multiply by 1 plus a number up to `largest` and add another one."""
    contrast, brightness = rng.uniform(-largest, largest, 2)
    return Tone((1 + contrast) * np.eye(3), np.full(3, brightness))


def jitter(
    rng: np.random.Generator,
    mean: NDArray[np.float64],
    *,
    brightness: tuple[float, float] = (1.0, 1.0),
    contrast: tuple[float, float] = (1.0, 1.0),
    saturation: tuple[float, float] = (1.0, 1.0),
    hue: float = 0.0,
    gamma: tuple[float, float] = (1.0, 1.0),
) -> Tone:
    """Draw brightness, contrast, saturation and hue, applied in random order, and gamma at the end.

    Factors 1 and a hue of 0 change nothing. Brightness multiplies; contrast spreads about the mean
    grey, saturation about each pixel's own; hue is a share of the whole circle, drawn up to `hue`.
    """
    by, spread, colourful = (rng.uniform(*bounds) for bounds in (brightness, contrast, saturation))
    own_grey = np.tile(GREY, (3, 1))
    changes = [
        (by * np.eye(3), 0.0),
        (spread * np.eye(3), 1 - spread),
        (colourful * np.eye(3) + (1 - colourful) * own_grey, 0.0),
        (_hue_rotation(2 * np.pi * rng.uniform(-hue, hue)), 0.0),
    ]
    matrix, offset = np.eye(3), np.zeros(3)
    for index in rng.permutation(len(changes)):
        change, share = changes[index]
        grey = GREY @ (matrix @ mean + offset)  # of what the changes so far have made
        matrix, offset = change @ matrix, change @ offset + share * grey
    return Tone(matrix, offset, float(rng.uniform(*gamma)))


def _hue_rotation(angle: float) -> NDArray[np.float64]:
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    return np.linalg.inv(TO_YIQ) @ turn @ TO_YIQ


@cache
def _pool() -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal(POOL, np.float32))


def _noise(rng: np.random.Generator, shape: tuple[int, ...]) -> Tensor:
    """A piece of the pool from a random place, or fresh noise where the pool is too small."""
    count = int(np.prod(shape))
    if count > POOL:
        return torch.from_numpy(rng.standard_normal(shape, np.float32))
    start = int(rng.integers(POOL - count + 1))
    return _pool()[start : start + count].reshape(shape)
