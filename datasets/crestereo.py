"""CREStereo's training set: 200,000 rendered pairs, 1920x1080.

    root/tree/<uuid>_left.jpg  <uuid>_right.jpg  <uuid>_left.disp.png  <uuid>_right.disp.png
         shapenet/...   reflective/...   hole/...

Disparity is 16-bit PNG, x 32; 0 is no measured value and taken as unknown.

Source  https://github.com/megvii-research/CREStereo
Tests   tests/datasets/test_crestereo.py
"""

from collections.abc import Iterator
from pathlib import Path

from .indexed import Entry, IndexedPairs, Map, read_uint16
from .tree import Tree

FOLDERS = ("hole", "reflective", "shapenet", "tree")
SCALE = 32


class CREStereoPairs(IndexedPairs):
    """CREStereo's pairs, with disparity of both views."""

    title, published, size = "the CREStereo set", (200000,), (1080, 1920)
    place = "tree, shapenet, reflective and hole"

    def find(self, tree: Tree) -> Iterator[Entry | str]:
        """Go through the four folders."""
        for folder in FOLDERS:
            views = tree.files(folder, (".jpg",))
            maps = tree.files(folder, (".png",))
            for stem, left in views.items():
                if stem.endswith("_left"):
                    pair = stem.removesuffix("_left")
                    files = {
                        "left": left,
                        "right": views.get(f"{pair}_right"),
                        "disparity": maps.get(f"{pair}_left.disp"),
                        "right_disparity": maps.get(f"{pair}_right.disp"),
                    }
                    yield Entry(f"{folder}/{pair}", files)

    def read_map(self, path: Path) -> Map:
        """Decode x 32."""
        stored = read_uint16(path)
        return stored.astype("float32") / SCALE, stored > 0
