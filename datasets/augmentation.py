"""Augmentation by named recipes: crops of one size whose truth is exact whatever was done to them.

    pairs = augmented(open_dataset("kitti2015", root), "sttr", 320, 640, seed=0)

A recipe is a row of steps, functions of (sample, rng): framing.py moves pixels, photometric.py
changes colours, right_view.py harms the right view. After any of them warping the right view by the
disparity gives the left one where that is valid and not occluded (up to a misalignment of the right
view, which is there to be borne), and a pixel whose partner left the crop, or is hidden by a
rectangle, is marked occluded.

    none         a random crop
    sttr         STTR and CSTR on SceneFlow: swapped mirrored views; right view +-1.5 px, +-0.2
                 degrees; channels +-20 levels; noise, or brightness and contrast +-0.1
    sttr_kitti   STTR and CSTR on KITTI: channels, brightness and contrast alone
    raft_stereo  scale 2^U(-.2, .4), stretched; colour jitter, rarely asymmetric; rectangles of 50
                 to 100 px; right view by whole pixels up to 2
    crestereo    swapped mirrored views; scale .6 to 1; each view its own brightness, contrast and
                 gamma; right view +-2 px, +-0.1 degrees; a rectangle of 100 to 200 px
    strong       ours, for mixtures: everything above, turned upside down too

Where they deviate from what was published: a crop has the size asked for (STTR's is of random
size); borders of a moved right view repeat it (CREStereo's are black); swapping needs the right
view's truth and is left out without it. A sample smaller than the crop is padded with unknown truth
by the recipes that don't scale, and enlarged by those that do.

Source   STTR (Li et al. 2021), CSTR (Guo et al. 2022), RAFT-Stereo (Lipson et al. 2021), CREStereo
         (Li et al. 2022), with the settings of their published code
Tests    tests/datasets/test_augmentation.py
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from torch.utils.data import Dataset

from .framing import crop, scale_and_crop, swap_mirrored, turn_upside_down
from .naming import closest
from .photometric import (
    add_noise,
    brightness_and_contrast,
    jitter,
    recolour,
    shift_channels,
)
from .right_view import hide_rectangles, misalign
from .sample import StereoSample

Step = Callable[[StereoSample, np.random.Generator], StereoSample]

STREAM = 0xA06
"""keeps these random numbers apart from those that made the sample, of a scene of the same seed"""


def augmented(
    dataset: Dataset[StereoSample], recipe: str, height: int, width: int, seed: int
) -> Dataset[StereoSample]:
    """Change every sample of `dataset` by a recipe and give it height x width pixels.

    Item i is made from dataset[i] and depends, beside it, on (seed, i) alone. Raises ValueError for
    a recipe that isn't known, or a size or seed that can't be.
    """
    if recipe not in RECIPES:
        raise ValueError(f"unknown augmentation {recipe!r}; {closest(recipe, RECIPES)}")
    if height < 1 or width < 1 or seed < 0:
        raise ValueError(
            f"a crop needs at least 1x1 pixels and a seed of 0 or more, got {width}x{height} and "
            f"{seed}"
        )
    return _Augmented(dataset, RECIPES[recipe](height, width), seed)


class _Augmented(Dataset[StereoSample]):
    def __init__(self, dataset: Dataset[StereoSample], steps: Sequence[Step], seed: int) -> None:
        self.dataset, self.steps, self.seed = dataset, tuple(steps), seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> StereoSample:
        sample = self.dataset[index]
        rng = np.random.default_rng((self.seed, index, STREAM))
        for step in self.steps:
            sample = step(sample, rng)
        return StereoSample(*(tensor.contiguous() for tensor in sample[:-1]), name=sample.name)


def one_of(
    sample: StereoSample, rng: np.random.Generator, *, steps: Sequence[Step]
) -> StereoSample:
    """Take one of the steps, all equally likely."""
    return steps[int(rng.integers(len(steps)))](sample, rng)


def _power_of_two(
    rng: np.random.Generator, *, exponent: tuple[float, float], stretch: float, often: float
) -> tuple[float, float]:
    """Both axes by 2^U(exponent), and with probability `often` each by another 2^U(+-stretch)."""
    scale = 2 ** rng.uniform(*exponent)
    own = rng.uniform(-stretch, stretch, 2) * (rng.random() < often)
    return scale * 2 ** own[0], scale * 2 ** own[1]


def _uniform(rng: np.random.Generator, *, low: float, high: float) -> tuple[float, float]:
    scale = rng.uniform(low, high)
    return scale, scale


_CHANNELS = partial(shift_channels, largest=20 / 255)
_CONTRAST = partial(brightness_and_contrast, largest=0.1)
_RAFT_SCALE = partial(_power_of_two, exponent=(-0.2, 0.4), stretch=0.2, often=0.8)
_RAFT_COLOUR = partial(
    jitter, brightness=(0.6, 1.4), contrast=(0.6, 1.4), saturation=(0.0, 1.4), hue=0.5 / 3.14
)
_NOISE = partial(add_noise, variance=(10.0, 50.0))


def _none(height: int, width: int) -> Sequence[Step]:
    return [partial(crop, height=height, width=width)]


def _sttr(height: int, width: int) -> Sequence[Step]:
    contrast = partial(recolour, draw=_CONTRAST, asymmetric=0.5)
    return [
        partial(crop, height=height, width=width),
        partial(swap_mirrored, probability=0.5),
        partial(misalign, pixels=1.5, degrees=0.2),
        partial(recolour, draw=_CHANNELS, asymmetric=0.3),
        partial(one_of, steps=(_NOISE, contrast)),
    ]


def _sttr_kitti(height: int, width: int) -> Sequence[Step]:
    return [
        partial(crop, height=height, width=width),
        partial(recolour, draw=_CHANNELS, asymmetric=0.5),
        partial(recolour, draw=_CONTRAST, asymmetric=0.5),
    ]


def _raft_stereo(height: int, width: int) -> Sequence[Step]:
    return [
        partial(scale_and_crop, height=height, width=width, scales=_RAFT_SCALE),
        partial(recolour, draw=_RAFT_COLOUR, asymmetric=0.2),
        partial(hide_rectangles, count=(1, 2), sides=(50, 99), probability=0.5),
        partial(misalign, pixels=2.0, whole=True),
    ]


def _crestereo(height: int, width: int) -> Sequence[Step]:
    low_high = (0.8, 1.2)
    colour = partial(jitter, brightness=low_high, contrast=low_high, gamma=low_high)
    scales = partial(_uniform, low=0.6, high=1.0)
    return [
        partial(scale_and_crop, height=height, width=width, scales=scales),
        partial(swap_mirrored, probability=0.5),
        partial(recolour, draw=colour, asymmetric=1.0),
        partial(hide_rectangles, count=(1, 1), sides=(100, 199), probability=0.5),
        partial(misalign, pixels=2.0, degrees=0.1, centred=False, probability=0.5),
    ]


def _strong(height: int, width: int) -> Sequence[Step]:
    colour = partial(_RAFT_COLOUR, gamma=(0.8, 1.2))
    return [
        partial(scale_and_crop, height=height, width=width, scales=_RAFT_SCALE),
        partial(swap_mirrored, probability=0.5),
        partial(turn_upside_down, probability=0.1),
        partial(recolour, draw=colour, asymmetric=0.5),
        partial(_NOISE, variance=(0.0, 50.0)),
        partial(hide_rectangles, count=(1, 2), sides=(50, 100), probability=0.5),
        partial(misalign, pixels=1.5, degrees=0.2, probability=0.5),
    ]


RECIPES: dict[str, Callable[[int, int], Sequence[Step]]] = {
    "none": _none,
    "sttr": _sttr,
    "sttr_kitti": _sttr_kitti,
    "raft_stereo": _raft_stereo,
    "crestereo": _crestereo,
    "strong": _strong,
}
"""name -> function of height and width that gives the steps"""
