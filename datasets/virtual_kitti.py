"""Virtual KITTI 2: five KITTI streets rendered in ten variations, 21,260 pairs, 1242x375.

    root/Scene01/clone/frames/rgb/Camera_0/rgb_00000.jpg        Camera_1: right
                              depth/Camera_0/depth_00000.png
         Scene02, 06, 18, 20; 15-deg-left, fog, rain, sunset, ...

Depth is 16-bit PNG in centimetres; 65535 (655.35 m) is the sky or whatever lies beyond, and taken
as unknown. Disparity = focal length * baseline / depth.

Source  https://europe.naverlabs.com/research/computer-vision/proxy-virtual-worlds-vkitti-2/
Tests   tests/datasets/test_virtual_kitti.py
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .indexed import Entry, IndexedPairs, Map, depth_to_disparity_map, read_uint16
from .tree import Tree, join

PIXEL_CENTIMETRES = 725.0087 * 53.2725
"""focal length in pixels * baseline in centimetres"""
FARTHEST = 65535


class VirtualKitti2(IndexedPairs):
    """Virtual KITTI 2's pairs, with disparity of both views."""

    title, published, size = "Virtual KITTI 2", (21260,), (375, 1242)
    place = "Scene01/clone/frames/rgb/Camera_0 and Scene01/clone/frames/depth/Camera_0"

    def find(self, tree: Tree) -> Iterator[Entry | str]:
        """Go through the frames of all scenes and variations."""
        for drive in tree.walk("", "frames"):
            views, depths = (
                [tree.files(join(drive, "frames", kind, f"Camera_{side}")) for side in (0, 1)]
                for kind in ("rgb", "depth")
            )
            for stem, left in views[0].items():
                frame = stem.removeprefix("rgb_")
                files = {
                    "left": left,
                    "right": views[1].get(stem),
                    "disparity": depths[0].get(f"depth_{frame}"),
                    "right_disparity": depths[1].get(f"depth_{frame}"),
                }
                yield Entry(join(drive, frame), files)

    def read_map(self, path: Path) -> Map:
        """Decode depth in centimetres."""
        stored = read_uint16(path)
        disparity, known = depth_to_disparity_map(stored.astype(np.float32), PIXEL_CENTIMETRES)
        return disparity, known & (stored < FARTHEST)
