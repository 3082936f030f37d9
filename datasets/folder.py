"""A folder of one's own: four folders, files of one pair named alike.

    root/left/NAME.png         any picture, 8 or 16 bit, grey or colour
         right/NAME.jpg        the suffix may differ
         disparity/NAME.pfm    of the left view in pixels: PFM, inf = unknown; 16-bit PNG, x 256,
                               0 = unknown; .npy, inf, nan or 0 = unknown
         occlusion/NAME.png    optional, for all pairs or some: not black = hidden in the right view

Pixels whose partner lies outside the right view are marked occluded by themselves; the others that
are hidden, only an occlusion map tells, and a model that learns without takes them for seen. For
scenes in folders of their own see `pairs`.

Tests  tests/datasets/test_folder.py
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .files import read_disparity
from .indexed import Entry, IndexedPairs, Map, read_numpy
from .tree import Tree

FOLDERS = {
    "left": (),
    "right": (),
    "disparity": (".npy", ".pfm", ".png"),
    "occlusion": (),
}
"""role, which is the folder's name -> suffixes, where not every kind of picture will do"""


class Folder(IndexedPairs):
    """Pairs in folders left, right, disparity and, where known, occlusion."""

    title, place = "pairs of your own", "left, right, disparity and, if known, occlusion"

    def find(self, tree: Tree) -> Iterator[Entry | str]:
        """Go through the left views."""
        files = {
            role: tree.files(role, suffixes) if suffixes else tree.files(role)
            for role, suffixes in FOLDERS.items()
        }
        for name in files["left"]:
            yield Entry(name, {role: of_role.get(name) for role, of_role in files.items()})

    def read_map(self, path: Path) -> Map:
        """Decode by suffix."""
        if path.suffix.lower() != ".npy":
            return read_disparity(path)
        disparity = read_numpy(path)
        valid = np.isfinite(disparity) & (disparity != 0)
        return np.where(valid, disparity, np.float32(0)), valid
