"""What a panoptic sample is, for every data set in this package: ids, classes and void, fixed once.

Every pixel belongs to one segment or to none. A segment is one thing (this car) or all there is of
a stuff class (the road); a pixel of none is void: nobody labelled it, or it lies in a crowd that
nobody took apart. Losses and scores leave void out.

Letters  B batch, H W image height and width in pixels, N segments of the image that has most
Tests    tests/datasets/test_panoptic_sample.py
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, Int32, Int64
from torch import Tensor

VOID = 0
"""number in a segment map of what belongs to no segment"""
PADDING = -1
"""class of a segment that isn't there; it fills up the lists of a batch"""


class PanopticSample(NamedTuple):
    """One image with its segments. A batch is the same tuple with a leading B (`collate`)."""

    image: Float[Tensor, "*B 3 H W"]
    """RGB in [0, 1]; normalisation belongs to the model"""
    segment_map: Int32[Tensor, "*B H W"]
    """number of each pixel's segment, from 1 to N; 0 is void"""
    classes: Int64[Tensor, "*B N"]
    """class of segment 1, 2, ..., from 0 on; -1 where an image of a batch has fewer than N"""
    name: str | list[str]
    """says where the image comes from, unique within its data set; a list in a batch"""


class ClassList(NamedTuple):
    """The classes of a data set: what a model's class numbers mean."""

    names: tuple[str, ...]
    things: frozenset[int]
    """numbers of the classes that can be counted; the others are stuff"""
    identifiers: tuple[int, ...]
    """what the data set itself calls each class in its files"""

    @classmethod
    def numbered(cls, names: Sequence[str], things: Sequence[str]) -> "ClassList":
        """Classes that are called by their place in the list."""
        where = frozenset(names.index(thing) for thing in things)
        return cls(tuple(names), where, tuple(range(len(names))))

    @classmethod
    def from_categories(cls, categories: Sequence[Any]) -> "ClassList":
        """Read COCO's list of entries with "id", "name" and "isthing", in the order of the ids.

        Raises ValueError where an entry lacks one of them, or an id comes twice.
        """
        try:
            ordered = sorted(categories, key=lambda category: int(category["id"]))
            names = tuple(str(category["name"]) for category in ordered)
            things = frozenset(n for n, category in enumerate(ordered) if int(category["isthing"]))
            identifiers = tuple(int(category["id"]) for category in ordered)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f'a category has "id", "name" and "isthing" (0 or 1): {error}'
            ) from error
        if not names or len(set(identifiers)) < len(identifiers):
            raise ValueError("categories need at least one entry, and no id twice")
        return cls(names, things, identifiers)

    def categories(self) -> list[dict[str, Any]]:
        """The same list as COCO writes it."""
        return [
            {"id": identifier, "name": name, "isthing": int(number in self.things)}
            for number, (identifier, name) in enumerate(
                zip(self.identifiers, self.names, strict=True)
            )
        ]


def number_segments(
    labels: Int[np.ndarray, "H W"], class_of: Mapping[int, int]
) -> tuple[Int32[Tensor, "H W"], Int64[Tensor, "N"]]:
    """Number the labels that are to become segments from 1 on, in ascending order.

    labels: any whole number a pixel. class_of: label -> class; labels that it doesn't hold become
    void, and labels that no pixel has become no segment.
    """
    found, place = np.unique(labels, return_inverse=True)
    numbers, classes = np.zeros(len(found), np.int32), []
    for position, label in enumerate(found.tolist()):
        if label in class_of:
            classes.append(class_of[label])
            numbers[position] = len(classes)
    segment_map = torch.from_numpy(numbers[place.reshape(labels.shape)])
    return segment_map, torch.tensor(classes, dtype=torch.int64)


def collate(samples: Sequence[PanopticSample]) -> PanopticSample:
    """Make a batch of images of one size; lists of classes are filled up with -1.

    Raises ValueError where sizes differ.
    """
    sizes = {tuple(sample.image.shape[-2:]) for sample in samples}
    if len(sizes) > 1:
        listed = ", ".join(sorted(f"{width}x{height}" for height, width in sizes))
        raise ValueError(f"images of a batch must have one size, got {listed} px; crop or resize")
    most = max(len(sample.classes) for sample in samples)
    classes = torch.full((len(samples), most), PADDING)
    for row, sample in zip(classes, samples, strict=True):
        row[: len(sample.classes)] = sample.classes
    return PanopticSample(
        torch.stack([sample.image for sample in samples]),
        torch.stack([sample.segment_map for sample in samples]),
        classes,
        [sample.name for sample in samples],
    )
