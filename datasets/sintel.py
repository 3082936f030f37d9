"""Sintel stereo: 1,064 pairs of an animated film, 1024x436, in a clean and a final pass.

    root/training/clean_left/<scene>/frame_0001.png     clean_right; final_left, final_right
                  disparities/<scene>/frame_0001.png
                  occlusions/<scene>/frame_0001.png     white = hidden in the right view
                  outofframe/<scene>/frame_0001.png     white = outside the right view

Disparity = 4 R + G / 64 + B / 16384, in floating point (in 8 bits it would overflow). Every pixel
is known. outofframe says what x - disparity < 0 says, and isn't read.

Source  the README of http://sintel.is.tue.mpg.de/stereo
Tests   tests/datasets/test_sintel.py
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from .files import read_image
from .indexed import Entry, IndexedPairs, Map
from .tree import Tree, join

WEIGHTS = np.array([4, 2**-6, 2**-14], np.float32)
"""of red, green and blue"""


class Sintel(IndexedPairs):
    """Sintel's pairs in one rendering."""

    title, published, size = "Sintel stereo", (1064,), (436, 1024)
    place = "training/clean_left, training/clean_right, training/disparities"

    def __init__(
        self,
        root: str | os.PathLike[str],
        rendering: Literal["clean", "final"] = "final",
        incomplete: bool = False,
    ) -> None:
        self.rendering = rendering
        super().__init__(root, incomplete)

    def find(self, tree: Tree) -> Iterator[Entry | str]:
        """Go through the frames of all scenes."""
        folders = {
            "left": f"{self.rendering}_left",
            "right": f"{self.rendering}_right",
            "disparity": "disparities",
            "occlusion": "occlusions",
        }
        for scene in tree.folders(join("training", folders["left"])):
            files = {
                role: tree.files(join("training", folder, scene))
                for role, folder in folders.items()
            }
            for frame in files["left"]:
                found = {role: of_role.get(frame) for role, of_role in files.items()}
                yield Entry(f"{scene}/{frame}", found)

    def read_map(self, path: Path) -> Map:
        """Put the disparity together from the three colours."""
        stored = read_image(path)
        return stored.astype(np.float32) @ WEIGHTS, np.ones(stored.shape[:2], dtype=bool)
