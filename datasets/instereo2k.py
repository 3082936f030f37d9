"""InStereo2K: 2,000 indoor pairs to train on and 50 to test, 1080x860, structured-light truth.

    root/train/part1/<number>/left.png  right.png  left_disp.png  right_disp.png
         test/<number>/left.png ...

Disparity is 16-bit PNG, x 100, 0 = unknown. (torchvision divides by 1024.) The folders part1 to
part5 may be missing or named otherwise.

Source  https://github.com/YuhuaXu/StereoDataset
Tests   tests/datasets/test_instereo2k.py
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from .indexed import Entry, IndexedPairs, Map, read_uint16
from .tree import Tree, join

NAMES = {
    "left": "left.png",
    "right": "right.png",
    "disparity": "left_disp.png",
    "right_disparity": "right_disp.png",
}
SCALE = 100


class InStereo2K(IndexedPairs):
    """InStereo2K's pairs, with disparity of both views."""

    title, size = "InStereo2K", (860, 1080)
    place = "train/part1/<number>/left.png, right.png and left_disp.png"

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: Literal["train", "test"] = "train",
        incomplete: bool = False,
    ) -> None:
        self.split = split
        self.published = (2000,) if split == "train" else (50,)
        super().__init__(root, incomplete)

    def find(self, tree: Tree) -> Iterator[Entry | str]:
        """Go through the folders that hold a left view."""
        yield from _pairs(tree, self.split)

    def read_map(self, path: Path) -> Map:
        """Decode x 100."""
        stored = read_uint16(path)
        return stored.astype("float32") / SCALE, stored > 0


def _pairs(tree: Tree, folder: str) -> Iterator[Entry]:
    if tree.file(folder, NAMES["left"]):
        yield Entry(folder, {role: tree.file(folder, name) for role, name in NAMES.items()})
    for below in tree.folders(folder):
        yield from _pairs(tree, join(folder, below))
