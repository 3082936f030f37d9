"""KITTI stereo 2012 and 2015: street scenes of about 1242x375, with laser-scanned truth.

    root/training/colored_0/000000_10.png   2012: left; colored_1 right (or grey: image_0, image_1)
                  disp_occ/000000_10.png    2012: every measured pixel
                  disp_noc/000000_10.png    2012: those that both cameras see
                  image_2/000000_10.png     2015: left; image_3 right
                  disp_occ_0, disp_noc_0    2015: the same two
                  obj_map/000000_10.png     2015: 0 = background, else a vehicle's number
         testing/...                        views alone

Disparity is 16-bit PNG, x 256, 0 = not measured. Only frames `_10` have truth; `_11` are the next
moment. disp_occ_1 of 2015 isn't the right view's disparity but the next moment's, seen from the
first, so there is no truth for right views. A pixel of disp_occ that disp_noc lacks is occluded.

Splits, by frame number, as published with PSMNet (2018), GwcNet's later lists not among them:

    training     all: 194 (2012), 200 (2015)        testing   195, 200, without truth
    train        the first 160                      validation   the rest: 34, 40

Source  the development kits at https://www.cvlibs.net/datasets/kitti/eval_stereo.php
Tests   tests/datasets/test_kitti.py
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Bool

from .files import read_image
from .indexed import Entry, IndexedPairs, read_grey, read_uint16
from .tree import Tree, join

Split = Literal["training", "testing", "train", "validation"]
TRAINED_ON = 160
"""frames 0 to 159 are the split "train" """


class _Kitti(IndexedPairs):
    """What both years share. occluded=False leaves out what only the left camera sees."""

    folders: ClassVar[tuple[tuple[str, str], ...]]
    """left and right; the first that is there is taken"""
    truth: ClassVar[tuple[str, str]]
    """with occluded pixels, and without"""
    counts: ClassVar[dict[str, int]]
    occlusion_tells_outside = True

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: Split = "training",
        occluded: bool = True,
        incomplete: bool = False,
    ) -> None:
        self.split, self.occluded = split, occluded
        self.published = (self.counts[split],)
        if split == "testing":
            self.required = ("left", "right")
        super().__init__(root, incomplete)

    def find(self, tree: Tree) -> Iterator[Entry | str]:
        """Go through the frames `_10` of the split."""
        base = "testing" if self.split == "testing" else "training"
        there = tree.folders(base)
        left, right = next((pair for pair in self.folders if pair[0] in there), self.folders[0])
        rights, every, seen = (tree.files(join(base, folder)) for folder in (right, *self.truth))
        for frame, path in tree.files(join(base, left)).items():
            number, _, moment = frame.partition("_")
            first = number.isdigit() and int(number) < TRAINED_ON
            if moment != "10" or (
                self.split in ("train", "validation") and first != (self.split == "train")
            ):
                continue
            disparity = (every if self.occluded else seen).get(frame)
            occlusion = seen.get(frame) if self.occluded else None
            yield Entry(
                f"{base}/{frame}",
                {
                    "left": path,
                    "right": rights.get(frame),
                    "disparity": disparity,
                    "occlusion": occlusion,
                },
            )

    def read_occluded(
        self, path: Path, valid: Bool[np.ndarray, "H W"]
    ) -> Bool[np.ndarray, "height width"]:
        """Where the disparity is known, but not in the map of what both cameras see."""
        seen = read_uint16(path) > 0
        return valid & ~seen if seen.shape == valid.shape else seen


class Kitti2012(_Kitti):
    """KITTI stereo 2012."""

    title, place = "KITTI 2012", "training/colored_0, training/colored_1 and training/disp_occ"
    folders = (("colored_0", "colored_1"), ("image_0", "image_1"))
    truth = ("disp_occ", "disp_noc")
    counts: ClassVar = {"training": 194, "testing": 195, "train": 160, "validation": 34}


class Kitti2015(_Kitti):
    """KITTI stereo 2015."""

    title, place = "KITTI 2015", "training/image_2, training/image_3 and training/disp_occ_0"
    folders = (("image_2", "image_3"),)
    truth = ("disp_occ_0", "disp_noc_0")
    counts: ClassVar = {"training": 200, "testing": 200, "train": 160, "validation": 40}

    def foreground(self, index: int) -> Bool[np.ndarray, "height width"] | None:
        """Where the left view of pair `index` shows a vehicle; None without obj_map's file.

        By it the benchmark divides D1 into D1-fg and D1-bg. Raises ValueError where it has another
        size than the view.
        """
        left = self.root / str(self.entries[index].files["left"])
        path = left.parents[1] / "obj_map" / left.name
        if not path.is_file():
            return None
        objects, size = read_grey(path) > 0, read_image(left).shape[:2]
        self._same_size({"left": left, "foreground": path}, "foreground", size, objects.shape)
        return objects
