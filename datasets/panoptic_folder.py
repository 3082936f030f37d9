"""A folder of one's own images with their classes and, for things, which one it is.

    root/classes.json              [{"id": 7, "name": "road", "isthing": 0}, {"id": 26, ...}]
         train/images/NAME.jpg     any picture
               classes/NAME.png    one channel: the id of each pixel's class; other numbers: void
               instances/NAME.png  one channel: tells things of one class apart; not needed for
                                   images without things
         validation/...            the same

Tests  tests/datasets/test_panoptic_folder.py
"""

import json
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from .coco_panoptic import same_size
from .files import IMAGE_SUFFIXES, read_image
from .indexed import as_tensor
from .panoptic_files import read_numbers
from .panoptic_sample import ClassList, PanopticSample, number_segments

LAYOUT = "classes.json beside train and validation, with images, classes and instances in each"


class PanopticFolder(Dataset[PanopticSample]):
    """The images of one part, "train" or "validation", in the order of their names.

    Raises FileNotFoundError where files are missing, ValueError where they don't fit together.
    """

    def __init__(self, root: str | Path, split: str = "train") -> None:
        listing, folder = Path(root) / "classes.json", Path(root) / split
        if not listing.is_file():
            raise FileNotFoundError(f"{listing}: no such file; a folder of one's own is {LAYOUT}")
        try:
            self.classes = ClassList.from_categories(json.loads(listing.read_text("utf-8")))
        except (ValueError, TypeError) as error:  # JSON's own errors are ValueErrors
            raise ValueError(f"{listing}: {error}") from error
        images = folder / "images"
        found = sorted(images.iterdir()) if images.is_dir() else []
        self.images = tuple(path for path in found if path.suffix.lower() in IMAGE_SUFFIXES)
        if not self.images:
            raise FileNotFoundError(f"no picture in {images}; a folder of one's own is {LAYOUT}")
        self._labels = folder
        for path in self.images:
            if not self._map("classes", path).is_file():
                raise FileNotFoundError(f"{self._map('classes', path)} is missing for {path}")

    def _map(self, role: str, image: Path) -> Path:
        return self._labels / role / f"{image.stem}.png"

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> PanopticSample:
        path = self.images[index]
        image, kinds = read_image(path), read_numbers(self._map("classes", path))
        same_size(path, image, self._map("classes", path), kinds)
        number_of = {c: number for number, c in enumerate(self.classes.identifiers)}
        things = [self.classes.identifiers[number] for number in self.classes.things]
        is_thing, which = np.isin(kinds, things), self._map("instances", path)
        instances = np.zeros_like(kinds)
        if which.is_file():
            instances = read_numbers(which)
            same_size(path, image, which, instances)
        elif is_thing.any():
            raise FileNotFoundError(f"{which} is missing: {path} has things to tell apart")
        # One label for each class and instance; of stuff there is one segment.
        step = int(instances.max()) + 1
        labels = kinds.astype(np.int64) * step + np.where(is_thing, instances, 0)
        class_of = {
            int(label): number_of[int(label) // step]
            for label in np.unique(labels)
            if int(label) // step in number_of
        }
        return PanopticSample(as_tensor(image), *number_segments(labels, class_of), path.stem)
