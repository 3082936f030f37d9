"""Endless images with exact segments, made from a seed: the left views of the generated scenes.

Background, floor and walls are stuff, all other objects things. What is seen of an object in fewer
than SMALLEST pixels is void: nobody could say what it is. With `coarse`, every thing is just that,
a "thing"; with `few`, scenes have a handful of them: a small model begins to learn both in minutes.

Letters  H W image size in pixels
Tests    tests/datasets/test_generated_panoptic.py
"""

import sys

import numpy as np
from torch.utils.data import Dataset

from .generated import CLASSES, GeneratedScenes
from .panoptic_sample import ClassList, PanopticSample, number_segments

STUFF = ("background", "floor", "wall")
SMALLEST = 16
"""pixels: a 4x4 block, which models predict as one"""

SHAPE_CLASSES = ClassList.numbered(CLASSES, [name for name in CLASSES if name not in STUFF])
COARSE_CLASSES = ClassList.numbered((*STUFF, "thing"), ["thing"])


class GeneratedPanoptic(Dataset[PanopticSample]):
    """Map-style: `images[index]` is the same image in every process, on every run.

    height, width: pixels, at least 16. coarse: one class of things. few: only scenes of a
    handful of things. length: what len() says.
    Raises ValueError as GeneratedScenes.
    """

    def __init__(
        self,
        height: int,
        width: int,
        *,
        seed: int = 0,
        coarse: bool = False,
        few: bool = False,
        photographs: bool = True,
        length: int = sys.maxsize,
    ) -> None:
        self.classes = COARSE_CLASSES if coarse else SHAPE_CLASSES
        self._scenes = GeneratedScenes(
            height, width, seed=seed, photographs=photographs, few=few, length=length
        )

    def __len__(self) -> int:
        return len(self._scenes)

    def __getitem__(self, index: int) -> PanopticSample:
        scene = self._scenes.scene(index)
        objects, kinds = scene.objects.numpy(), scene.classes.numpy()
        # All there is of a stuff class is one segment: negative labels are out of objects' reach.
        stuff = np.isin(kinds, [CLASSES.index(name) for name in STUFF])
        labels = np.where(stuff, -1 - kinds, objects)
        class_of = {}
        for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
            kind = CLASSES[kinds[labels == label][0]]
            if kind in STUFF or count >= SMALLEST:
                known = kind in self.classes.names
                class_of[int(label)] = self.classes.names.index(kind if known else "thing")
        return PanopticSample(
            scene.sample.left, *number_segments(labels, class_of), scene.sample.name
        )
