"""Booster: 228 pairs of mirrors and glass to train on, 12 Mpx, several lightings a scene.

    root/train/balanced/<scene>/camera_00/im0.png im1.png ...     left
                                camera_02/im0.png im1.png ...     right
                                disp_00.npy  disp_02.npy          of all pictures of the scene
                                mask_00.png  mask_02.png          255 = seen by both cameras
         test/balanced/<scene>/camera_00, camera_02               views alone

Disparity is float32 in pixels, 0 = unknown. Pictures are paired by their name: one lighting.

Source  Zama Ramirez et al. 2022; https://cvlab-unibo.github.io/booster-web/
Tests   tests/datasets/test_booster.py
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool

from .indexed import Entry, IndexedPairs, Map, read_numpy
from .middlebury import known_but_not_white
from .tree import Tree, join


class Booster(IndexedPairs):
    """Booster's balanced pairs; those of the split "test" have no truth."""

    title, size = "Booster", (3008, 4112)
    place = "train/balanced/<scene>/camera_00, camera_02 and disp_00.npy"
    occlusion_tells_outside = True

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: Literal["train", "test"] = "train",
        incomplete: bool = False,
    ) -> None:
        self.split = split
        self.published = (228,) if split == "train" else (191,)
        if split == "test":
            self.required = ("left", "right")
        super().__init__(root, incomplete)

    def find(self, tree: Tree) -> Iterator[Entry | str]:
        """Go through the scenes, and in each through its lightings."""
        top = join(self.split, "balanced")
        for scene in tree.folders(top):
            place = join(top, scene)
            rights = tree.files(join(place, "camera_02"))
            truth = {
                "disparity": tree.file(place, "disp_00.npy"),
                "right_disparity": tree.file(place, "disp_02.npy"),
                "occlusion": tree.file(place, "mask_00.png"),
                "right_occlusion": tree.file(place, "mask_02.png"),
            }
            for stem, left in tree.files(join(place, "camera_00")).items():
                files = {"left": left, "right": rights.get(stem), **truth}
                yield Entry(f"{scene}/{stem}", files)

    def read_map(self, path: Path) -> Map:
        """Disparity in pixels, 0 = unknown."""
        disparity = read_numpy(path)
        valid = np.isfinite(disparity) & (disparity > 0)
        return np.where(valid, disparity, np.float32(0)), valid

    def read_occluded(
        self, path: Path, valid: Bool[np.ndarray, "H W"]
    ) -> Bool[np.ndarray, "height width"]:
        """Known, but not seen by both."""
        return known_but_not_white(path, valid)
