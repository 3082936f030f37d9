"""Middlebury stereo, all years: a few dozen indoor scenes with truth from structured light.

    2001  root/venus/im2.ppm  im6.ppm  disp2.pgm  disp6.pgm            x 8
          root/tsukuba/scene1.row3.col3.ppm  scene1.row3.col4.ppm  truedisp.row3.col3.pgm   x 16
    2003  root/cones/im2.png  im6.png  disp2.png  disp6.png            x 4, 2, 1 by size
    2005, 2006  root/Art/view1.png  view5.png  disp1.png  disp5.png    x 3, 2, 1 by size
    v3    root/trainingQ/Motorcycle/im0.png  im1.png  disp0GT.pfm  mask0nocc.png
                                    disp1GT.pfm  mask1nocc.png         (of the right view; optional)
               trainingH, trainingF, testF, testH, testQ (test: views alone)
    2014  root/Motorcycle-perfect/im0.png  im1.png  disp0.pfm  disp1.pfm      (also -imperfect)
    2021  root/artroom1/im0.png  im1.png  disp0.pfm  disp1.pfm

Up to 2006 disparity is 8-bit grey, multiplied by a factor that goes with the picture's size, so
that a grey level is the same disparity at full size: 2003 is published 450 wide (x 4), 900 (x 2)
and 1800 (x 1); 2005 and 2006 about 440 (x 3), 660 (x 2) and 1330 (x 1). 0 = unknown. Scenes lie in
`root` or one folder deeper (ThirdSize/Art).

From 2014 it is PFM in pixels of its own size, inf = unknown; up to 800 px at F, so never cut it at
192. mask0nocc: 255 = seen by both cameras, 128 = occluded (or outside), 0 = unknown. Depth =
baseline * focal length / (disparity + doffs), see `calibration`.

Source  https://vision.middlebury.edu/stereo/data/
Tests   tests/datasets/test_middlebury.py
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Bool, UInt8

from .indexed import Entry, IndexedPairs, Map, read_grey
from .tree import Tree, join

ROLES = ("left", "right", "disparity", "right_disparity", "occlusion", "right_occlusion")
Names = tuple[str, ...]
"""file names in the order of ROLES; a shorter one where there are no such maps"""


class _Scenes(IndexedPairs):
    """Folders of scenes, one or two levels below the root."""

    names: ClassVar[tuple[Names, ...]]
    """file names of a scene; the first whose left view is there is taken"""

    def find(self, tree: Tree) -> Iterator[Entry | str]:
        """Go through the scenes."""
        yield from _scenes(tree, "", self.names)


class Middlebury2001(_Scenes):
    """Six planar scenes, and tsukuba: about 434x381."""

    title, place = "Middlebury 2001", "venus/im2.ppm, venus/im6.ppm and venus/disp2.pgm"
    published = (7,)
    names = (
        ("im2.ppm", "im6.ppm", "disp2.pgm", "disp6.pgm"),
        ("scene1.row3.col3.ppm", "scene1.row3.col4.ppm", "truedisp.row3.col3.pgm"),
    )

    def read_map(self, path: Path) -> Map:
        """Decode x 8; tsukuba's hand-labelled map x 16, with an unknown border."""
        return _divided(read_grey(path), 16 if path.name.startswith("truedisp") else 8)


class Middlebury2003(_Scenes):
    """Cones and teddy, at 450x375, 900x750 or 1800x1500."""

    title, place = "Middlebury 2003", "cones/im2.png, cones/im6.png and cones/disp2.png"
    published = (2,)
    names = (("im2.png", "im6.png", "disp2.png", "disp6.png"),)

    def read_map(self, path: Path) -> Map:
        """Decode by size: x 4 for 450 columns, x 2 for 900, x 1 for 1800."""
        return _by_size(path, ((600, 4), (1200, 2)))


class Middlebury2005(_Scenes):
    """Six scenes (2005); at third, half or full size."""

    title = "Middlebury 2005"
    place = "Art/view1.png, Art/view5.png and Art/disp1.png"
    published = (6,)
    names = (("view1.png", "view5.png", "disp1.png", "disp5.png"),)

    def read_map(self, path: Path) -> Map:
        """Decode by size: third x 3 (up to 463 columns), half x 2 (up to 695), full x 1."""
        return _by_size(path, ((540, 3), (900, 2)))


class Middlebury2006(Middlebury2005):
    """21 scenes, stored as those of 2005."""

    title = "Middlebury 2006"
    place = "Aloe/view1.png, Aloe/view5.png and Aloe/disp1.png"
    published = (21,)


class Middlebury2014(_Scenes):
    """23 scenes at full size, about 2900x2000."""

    title = "Middlebury 2014"
    place = "Motorcycle-perfect/im0.png, im1.png and disp0.pfm"
    published = (23,)
    names = (("im0.png", "im1.png", "disp0.pfm", "disp1.pfm"),)

    def __init__(
        self,
        root: str | os.PathLike[str],
        rectification: Literal["perfect", "imperfect"] = "perfect",
        incomplete: bool = False,
    ) -> None:
        self.rectification = rectification
        super().__init__(root, incomplete)

    def find(self, tree: Tree) -> Iterator[Entry | str]:
        """Go through the scenes of one rectification."""
        for entry in super().find(tree):
            if entry.name.endswith(f"-{self.rectification}"):
                yield entry


class Middlebury2021(_Scenes):
    """24 scenes taken with a mobile phone on a robot arm, 1920x1080."""

    title, place = "Middlebury 2021", "artroom1/im0.png, artroom1/im1.png and artroom1/disp0.pfm"
    published = (24,)
    names = (("im0.png", "im1.png", "disp0.pfm", "disp1.pfm"),)


class MiddleburyV3(IndexedPairs):
    """The benchmark: 15 scenes to train on, 15 to test, at full (F), half (H) or quarter size.

    Those of the split "test" have no truth. truth=False: views alone will do.
    """

    title, published = "Middlebury v3", (15,)
    occlusion_tells_outside = True

    def __init__(
        self,
        root: str | os.PathLike[str],
        resolution: Literal["F", "H", "Q"] = "Q",
        split: Literal["training", "test"] = "training",
        incomplete: bool = False,
        truth: bool = True,
    ) -> None:
        self.folder = f"{split}{resolution}"
        self.place = f"{self.folder}/<scene>/im0.png, im1.png and disp0GT.pfm"
        if split == "test" or not truth:
            self.required = ("left", "right")
        super().__init__(root, incomplete)

    def find(self, tree: Tree) -> Iterator[Entry | str]:
        """Go through the scenes of one size; below MiddEval3/ too, as the archives unpack."""
        above = "MiddEval3" if "MiddEval3" in tree.folders() else ""
        names = (
            "im0.png",
            "im1.png",
            "disp0GT.pfm",
            "disp1GT.pfm",
            "mask0nocc.png",
            "mask1nocc.png",
        )
        yield from _scenes(tree, join(above, self.folder), (names,), depth=1)

    def read_occluded(
        self, path: Path, valid: Bool[np.ndarray, "H W"]
    ) -> Bool[np.ndarray, "height width"]:
        """Known, but not seen by both."""
        return known_but_not_white(path, valid)


def known_but_not_white(
    path: Path, valid: Bool[np.ndarray, "H W"]
) -> Bool[np.ndarray, "height width"]:
    """Where a disparity is known and the mask isn't 255, which says "seen by both cameras"."""
    white = read_grey(path) == 255
    return valid & ~white if white.shape == valid.shape else white


def _scenes(tree: Tree, folder: str, names: tuple[Names, ...], depth: int = 2) -> Iterator[Entry]:
    for scene in tree.folders(folder):
        place = join(folder, scene)
        for choice in names:
            if left := tree.file(place, choice[0]):
                others = (tree.file(place, name) for name in choice[1:])
                yield Entry(place, dict(zip(ROLES, (left, *others), strict=False)))
                break
        else:
            if depth > 1:
                yield from _scenes(tree, place, names, depth - 1)


def _by_size(path: Path, factors: tuple[tuple[int, int], ...]) -> Map:
    """Factor of the first entry whose width the map doesn't reach; 1 beyond all."""
    stored = read_grey(path)
    factor = next((factor for width, factor in factors if stored.shape[1] < width), 1)
    return _divided(stored, factor)


def _divided(stored: UInt8[np.ndarray, "H W"], factor: int) -> Map:
    """Grey levels by factor; 0 = unknown."""
    return stored.astype(np.float32) / factor, stored > 0
