"""TartanAir: rendered flights through outdoor and indoor scenes, 640x480.

    root/<environment>/Easy/P000/image_left/000000_left.png      also Hard
                                 image_right/000000_right.png
                                 depth_left/000000_left_depth.npy
                                 depth_right/000000_right_depth.npy      (optional)

An environment may lie a folder deeper, as its archives unpack. Depth is float32 in metres;
disparity = 80 / depth, from a focal length of 320 px and a baseline of 0.25 m.

Source  https://theairlab.org/tartanair-dataset/
Tests   tests/datasets/test_tartanair.py
"""

from collections.abc import Iterator
from pathlib import Path

from .indexed import Entry, IndexedPairs, Map, depth_to_disparity_map, read_numpy
from .tree import Tree, join

PIXEL_METRES = 320 * 0.25
"""focal length in pixels * baseline in metres"""


class TartanAir(IndexedPairs):
    """TartanAir's pairs. Nobody publishes how many there are in all; environments are optional."""

    title, size = "TartanAir", (480, 640)
    place = "<environment>/Easy/P000/image_left, image_right and depth_left"

    def find(self, tree: Tree) -> Iterator[Entry | str]:
        """Go through the frames of all flights."""
        for flight in tree.walk("", "image_left"):
            rights = tree.files(join(flight, "image_right"))
            depths = {
                side: tree.files(join(flight, f"depth_{side}"), (".npy",))
                for side in ("left", "right")
            }
            for stem, left in tree.files(join(flight, "image_left")).items():
                frame = stem.removesuffix("_left")
                files = {
                    "left": left,
                    "right": rights.get(f"{frame}_right"),
                    "disparity": depths["left"].get(f"{frame}_left_depth"),
                    "right_disparity": depths["right"].get(f"{frame}_right_depth"),
                }
                yield Entry(join(flight, frame), files)

    def read_map(self, path: Path) -> Map:
        """80 / depth."""
        return depth_to_disparity_map(read_numpy(path), PIXEL_METRES)
