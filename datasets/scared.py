"""SCARED, an endoscope's views of tissue, in the layout that STTR's authors put it into.

    root/train/left/dataset_1_keyframe_2_frame_data000000.png     also test
               right/...png
               disparity/...tiff     float32, [1, H, W] or [H, W], in pixels, 0 = unknown
               occlusion/...png      128 = occluded

The challenge publishes video and depth in no such layout; how it is rectified and split is up to
whoever converts it, so no count is published.

Source  Allan et al. 2021; the sample in https://github.com/mli0603/stereo-transformer
Tests   tests/datasets/test_scared.py
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool
from PIL import Image

from .indexed import Entry, IndexedPairs, Map, read_grey
from .tree import Tree, join

OCCLUDED = 128


class Scared(IndexedPairs):
    """SCARED's pairs. The truth covers every pixel the scanner saw, occluded or not."""

    title = "SCARED (STTR's layout)"
    place = "train/left, train/right and train/disparity"

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: Literal["train", "test"] = "train",
        incomplete: bool = False,
    ) -> None:
        self.split = split
        super().__init__(root, incomplete)

    def find(self, tree: Tree) -> Iterator[Entry | str]:
        """Go through the left views."""
        roles = ("left", "right", "disparity", "occlusion")
        files = {role: tree.files(join(self.split, role)) for role in roles}
        for name in files["left"]:
            found = {role: of_role.get(name) for role, of_role in files.items()}
            yield Entry(f"{self.split}/{name}", found)

    def read_map(self, path: Path) -> Map:
        """TIFF of float32; a positive number is a measured disparity."""
        try:
            with Image.open(path) as picture:
                disparity = np.asarray(picture, dtype=np.float32)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{path}: no such file") from error
        except Exception as error:  # decoders meet broken bytes with errors of every kind
            raise ValueError(f"{path}: cannot be read as a float TIFF ({error})") from error
        valid = np.isfinite(disparity) & (disparity > 0)
        return np.where(valid, disparity, np.float32(0)), valid

    def read_occluded(
        self, path: Path, valid: Bool[np.ndarray, "H W"]
    ) -> Bool[np.ndarray, "height width"]:
        """Where the map says 128."""
        return read_grey(path) == OCCLUDED
