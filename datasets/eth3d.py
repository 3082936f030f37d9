"""ETH3D two-view: 27 grey pairs to train on, 20 to test, about 941x490, laser-scanned truth.

    root/two_view_training/<scene>/im0.png  im1.png  calib.txt
         two_view_training_gt/<scene>/disp0GT.pfm  mask0nocc.png
         two_view_test/<scene>/im0.png  im1.png  calib.txt

The truth may also lie beside its views. Disparity is PFM in pixels, inf = unknown; in the mask 255
says "seen by both cameras".

Source  https://www.eth3d.net/documentation, low-resolution two-view stereo
Tests   tests/datasets/test_eth3d.py
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool

from .indexed import Entry, IndexedPairs
from .middlebury import known_but_not_white
from .tree import Tree, join


class Eth3d(IndexedPairs):
    """ETH3D's pairs; those of the split "test" have no truth. truth=False: views alone will do."""

    title = "ETH3D two-view"
    place = "two_view_training/<scene>/im0.png and two_view_training_gt/<scene>/disp0GT.pfm"
    occlusion_tells_outside = True

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: Literal["training", "test"] = "training",
        incomplete: bool = False,
        truth: bool = True,
    ) -> None:
        self.split = split
        self.published = (27,) if split == "training" else (20,)
        if split == "test" or not truth:
            self.required = ("left", "right")
        super().__init__(root, incomplete)

    def find(self, tree: Tree) -> Iterator[Entry | str]:
        """Go through the scenes of the split."""
        views = f"two_view_{self.split}"
        for scene in tree.folders(views):
            place, truth = join(views, scene), join(f"{views}_gt", scene)
            disparity, mask = (
                tree.file(truth, name) or tree.file(place, name)
                for name in ("disp0GT.pfm", "mask0nocc.png")
            )
            yield Entry(
                scene,
                {
                    "left": tree.file(place, "im0.png"),
                    "right": tree.file(place, "im1.png"),
                    "disparity": disparity,
                    "occlusion": mask,
                },
            )

    def read_occluded(
        self, path: Path, valid: Bool[np.ndarray, "H W"]
    ) -> Bool[np.ndarray, "height width"]:
        """Known, but not seen by both."""
        return known_but_not_white(path, valid)
