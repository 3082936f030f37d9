"""COCO panoptic, and everything else that is stored as COCO stores it.

    root/train2017/000000000009.jpg
         val2017/...
         annotations/panoptic_train2017.json
                     panoptic_train2017/000000000009.png   unpacked from panoptic_train2017.zip
                     panoptic_val2017.json, panoptic_val2017/

The JSON lists, for each PNG, the segments that its colours stand for (panoptic_files.py). Crowds,
which nobody took apart, and pixels of no segment are void.

Source   https://cocodataset.org/#format-data, Kirillov et al. 2019
Tests    tests/datasets/test_coco_panoptic.py: a tiny data set, byte by byte
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import Dataset

from .files import read_image
from .indexed import as_tensor
from .panoptic_files import read_coloured_numbers
from .panoptic_sample import ClassList, PanopticSample, number_segments


class Entry(NamedTuple):
    """The files of one image."""

    name: str
    image: Path
    segments: Path
    class_of: Mapping[int, int | None]
    """id -> class, from 0 on; None for a crowd"""


class CocoLayout(Dataset[PanopticSample]):
    """Images with a PNG of ids each, and one JSON: what COCO, Cityscapes and others have.

    `classes` are the JSON's categories, in the order of their ids. Raises FileNotFoundError where
    the JSON isn't there, and ValueError where it isn't such a file; reading a sample, where its
    files don't fit together.
    """

    def __init__(self, listing: Path, segments: Path) -> None:
        content = _read_json(listing)
        try:
            self.classes = ClassList.from_categories(content["categories"])
            numbers = {c: number for number, c in enumerate(self.classes.identifiers)}
            file_names = {image["id"]: image["file_name"] for image in content["images"]}
            self.entries = tuple(
                Entry(
                    Path(annotation["file_name"]).stem,
                    self.image_path(file_names[annotation["image_id"]]),
                    segments / annotation["file_name"],
                    {
                        int(info["id"]): None
                        if info.get("iscrowd", 0)
                        else numbers[info["category_id"]]
                        for info in annotation["segments_info"]
                    },
                )
                for annotation in content["annotations"]
            )
        except KeyError as error:
            raise ValueError(
                f"{listing}: no COCO panoptic JSON, or one that refers to what it doesn't hold: "
                f"{error}"
            ) from error
        except (TypeError, ValueError) as error:
            raise ValueError(f"{listing}: no COCO panoptic JSON: {error}") from error
        if not self.entries:
            raise ValueError(f"{listing} lists no images")

    def image_path(self, file_name: str) -> Path:
        """Where the image of that name in the JSON lies."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> PanopticSample:
        entry = self.entries[index]
        image, labels = read_image(entry.image), read_coloured_numbers(entry.segments)
        same_size(entry.image, image, entry.segments, labels)
        unknown = set(np.unique(labels).tolist()) - {0} - set(entry.class_of)
        if unknown:
            raise ValueError(
                f"{entry.segments}: id {min(unknown)} isn't among its segments in the JSON"
            )
        class_of = {k: number for k, number in entry.class_of.items() if number is not None}
        return PanopticSample(as_tensor(image), *number_segments(labels, class_of), entry.name)


class CocoPanoptic(CocoLayout):
    """COCO 2017; split: "train" or "val"."""

    def __init__(self, root: str | Path, split: str = "train") -> None:
        self._images = Path(root) / f"{split}2017"
        annotations = Path(root) / "annotations"
        super().__init__(
            annotations / f"panoptic_{split}2017.json", annotations / f"panoptic_{split}2017"
        )

    def image_path(self, file_name: str) -> Path:
        """The photograph, whose name the JSON tells."""
        return self._images / file_name


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{path}: no such file; give the folder that the data set was unpacked into"
        ) from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds a {type(content).__name__}, not an object")
    return content


def same_size(first: Path, image: np.ndarray, second: Path, labels: np.ndarray) -> None:
    """Raise ValueError, naming both files, where height and width differ."""
    if image.shape[:2] != labels.shape[:2]:
        sizes = [f"{values.shape[1]}x{values.shape[0]}" for values in (image, labels)]
        raise ValueError(f"{second} is {sizes[1]} px but {first} is {sizes[0]}")
