"""Panoptic data by name: what is learned from, what is scored, and what goes with it.

    generated_panoptic, generated_things,    endless; the second and third know one class of things,
    generated_few                            and the third has a handful of them in an image
    coco_panoptic, cityscapes_panoptic       on disk, as published
    panoptic_folder                          on disk, a folder of one's own

Tests  tests/test_panoptic_training.py
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch.utils.data import Dataset

from .datasets.cityscapes_panoptic import CityscapesPanoptic
from .datasets.coco_panoptic import CocoLayout, CocoPanoptic
from .datasets.generated_panoptic import GeneratedPanoptic
from .datasets.naming import closest
from .datasets.panoptic_crops import SCALES, PanopticCrops
from .datasets.panoptic_folder import PanopticFolder
from .datasets.panoptic_sample import ClassList, PanopticSample
from .mask.panoptic import RULES, Rules
from .training_data import VALIDATION_SEED

GENERATED = ("generated_panoptic", "generated_things", "generated_few")

ON_DISK: dict[str, tuple[Callable[[str, str], CocoLayout | PanopticFolder], str, str]] = {
    "coco_panoptic": (CocoPanoptic, "val", "coco"),
    "cityscapes_panoptic": (CityscapesPanoptic, "val", "cityscapes"),
    "panoptic_folder": (PanopticFolder, "validation", "generated"),
}
"""name -> what opens one split, the split that is scored, and the rules for merging"""

SCALES_OF = {"none": (1.0, 1.0), "strong": SCALES}
"""augmentation -> bounds of the size of a training image, 1 = just fits"""


class PanopticData(NamedTuple):
    """Images, and how results on them are read."""

    images: Dataset[PanopticSample]
    classes: ClassList
    rules: Rules


def open_scored(name: str, root: Sequence[str], size: tuple[int, int]) -> PanopticData:
    """Open the images of the data `name` that are scored and never learned from.

    root: the folder, alone in a list; empty for generated data. size: (H, W) of generated images;
    those on disk come whole. Raises ValueError for a name or a root that can't be, and what the
    data set raises.
    """
    if name in GENERATED:
        return _generated(name, root, size, VALIDATION_SEED)
    return _on_disk(name, root, ON_DISK[name][1] if name in ON_DISK else "")


def open_learned(
    name: str, root: Sequence[str], size: tuple[int, int], seed: int, augmentation: str
) -> PanopticData:
    """Open the data `name` to learn from: endless, every image of `size` (H, W).

    augmentation: of images on disk, "strong" (scaled) or "none". Raises as `open_scored`.
    """
    if augmentation not in SCALES_OF:
        raise ValueError(
            f"--augmentation {augmentation}: panoptic images have " + " or ".join(SCALES_OF)
        )
    if name in GENERATED:
        return _generated(name, root, size, seed)
    images, classes, rules = _on_disk(name, root, "train")
    crops = PanopticCrops(images, *size, seed=seed, scales=SCALES_OF[augmentation])
    return PanopticData(crops, classes, rules)


def _generated(name: str, root: Sequence[str], size: tuple[int, int], seed: int) -> PanopticData:
    if root:
        raise ValueError(f"--root is of no use: {name} isn't read from disk")
    few = name == "generated_few"
    images = GeneratedPanoptic(*size, seed=seed, coarse=few or name == "generated_things", few=few)
    return PanopticData(images, images.classes, RULES["generated"])


def _on_disk(name: str, root: Sequence[str], split: str) -> PanopticData:
    if name not in ON_DISK:
        hint = closest(name, [*GENERATED, *ON_DISK])
        raise ValueError(f"unknown panoptic data {name!r}; {hint}")
    if len(root) != 1:
        raise ValueError(f"--data {name} is read from disk: give --root DIR")
    kind, _, rules = ON_DISK[name]
    images = kind(root[0], split)
    return PanopticData(images, images.classes, RULES[rules])
