"""What `stereo-tr evaluate` scores: pairs from folders, a published data set, or generated scenes.

Every source is a list of cases that are read when they are asked for, so that several processes can
each take their share.

Tests  tests/scripts/test_evaluate.py
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool

from stereo_tr.datasets.generated import GeneratedScenes
from stereo_tr.datasets.kitti import Kitti2015
from stereo_tr.datasets.pairs import Pairs
from stereo_tr.datasets.registry import open_dataset
from stereo_tr.datasets.sample import StereoSample
from stereo_tr.stereo.rectification import moved_up
from stereo_tr.training_data import VALIDATION_SEED


class Case(NamedTuple):
    """One image to be scored."""

    sample: StereoSample
    occlusion_known: bool
    group: str
    foreground: Bool[np.ndarray, "H W"] | None
    """where an object is, as KITTI 2015 tells; None: the data set doesn't"""


def lowered(case: Case, rows: Sequence[float]) -> Case:
    """The case with its right view moved down: in the centre, more at the right and lower border.

    All in rows of the view; its first or last row is repeated where nothing is seen.
    """
    right = moved_up(case.sample.right[None], -torch.tensor([rows], dtype=torch.float32))[0]
    return case._replace(sample=case.sample._replace(right=right))


Cases = Sequence[Callable[[], Case]]
"""call one to read it"""


def generated(height: int, width: int, count: int) -> Cases:
    """The scenes that a training is validated on."""
    scenes = GeneratedScenes(height, width, seed=VALIDATION_SEED)

    def read(index: int) -> Case:
        return Case(scenes[index], True, "generated", None)

    return [partial(read, index) for index in range(count)]


def published(name: str, root: Path, limit: int | None) -> Cases:
    """A data set of the registry, or its first pairs.

    Raises what opening it raises, and ValueError where it has no truth.
    """
    pairs = open_dataset(name, root)
    if "disparity" not in pairs.required:
        raise ValueError(
            f"{name} has no truth to score against; `stereo-tr submit` writes what the benchmark's "
            "server scores"
        )

    def read(index: int) -> Case:
        objects = pairs.foreground(index) if isinstance(pairs, Kitti2015) else None
        return Case(pairs[index], pairs.occlusion_known(index), name, objects)

    return [partial(read, index) for index in range(min(len(pairs), limit or len(pairs)))]


def folders(roots: Sequence[Path], limit: int | None) -> Cases:
    """The scenes below each root, or the first ones of each.

    Raises what opening them raises, before any is read, and ValueError for a scene in two roots.
    """
    pairs = [Pairs(root) for root in roots]
    names = [scene.name for scenes in pairs for scene in scenes.scenes]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(
            f"{twice} is in two of the roots; leave one out, or rename one of the folders"
        )

    def read(scenes: Pairs, index: int) -> Case:
        scene = scenes.scenes[index]
        return Case(scenes[index], scene.non_occluded is not None, scene.group, None)

    return [
        partial(read, scenes, index)
        for scenes in pairs
        for index in range(min(len(scenes), limit or len(scenes)))
    ]
