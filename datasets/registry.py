"""Every data set on disk by name: what `--data NAME --root DIR` opens.

Tests  tests/datasets/test_registry.py
"""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from .booster import Booster
from .crestereo import CREStereoPairs
from .eth3d import Eth3d
from .folder import Folder
from .indexed import IndexedPairs
from .instereo2k import InStereo2K
from .kitti import Kitti2012, Kitti2015
from .middlebury import (
    Middlebury2001,
    Middlebury2003,
    Middlebury2005,
    Middlebury2006,
    Middlebury2014,
    Middlebury2021,
    MiddleburyV3,
)
from .naming import closest
from .packed import PackedPairs
from .scared import Scared
from .sceneflow import Driving, FlyingThings3D, FlyingThings3DSubset, Monkaa, SceneFlow
from .sintel import Sintel
from .tartanair import TartanAir
from .virtual_kitti import VirtualKitti2

DATASETS: dict[str, Callable[..., IndexedPairs]] = {
    "sceneflow": SceneFlow,
    "sceneflow_clean": partial(SceneFlow, rendering="clean"),
    "sceneflow_test": partial(SceneFlow, split="TEST"),
    "sceneflow_clean_test": partial(SceneFlow, split="TEST", rendering="clean"),
    "flyingthings3d": FlyingThings3D,
    "flyingthings3d_clean": partial(FlyingThings3D, rendering="clean"),
    "flyingthings3d_test": partial(FlyingThings3D, split="TEST"),
    "flyingthings3d_clean_test": partial(FlyingThings3D, split="TEST", rendering="clean"),
    "flyingthings3d_subset": FlyingThings3DSubset,
    "flyingthings3d_subset_val": partial(FlyingThings3DSubset, split="val"),
    "monkaa": Monkaa,
    "monkaa_clean": partial(Monkaa, rendering="clean"),
    "driving": Driving,
    "driving_clean": partial(Driving, rendering="clean"),
    "kitti2012": Kitti2012,
    "kitti2012_noc": partial(Kitti2012, occluded=False),
    "kitti2012_train": partial(Kitti2012, split="train"),
    "kitti2012_validation": partial(Kitti2012, split="validation"),
    "kitti2012_testing": partial(Kitti2012, split="testing"),
    "kitti2015": Kitti2015,
    "kitti2015_noc": partial(Kitti2015, occluded=False),
    "kitti2015_train": partial(Kitti2015, split="train"),
    "kitti2015_validation": partial(Kitti2015, split="validation"),
    "kitti2015_testing": partial(Kitti2015, split="testing"),
    "middlebury2001": Middlebury2001,
    "middlebury2003": Middlebury2003,
    "middlebury2005": Middlebury2005,
    "middlebury2006": Middlebury2006,
    "middlebury2014": Middlebury2014,
    "middlebury2014_imperfect": partial(Middlebury2014, rectification="imperfect"),
    "middlebury_v3_f": partial(MiddleburyV3, resolution="F"),
    "middlebury_v3_h": partial(MiddleburyV3, resolution="H"),
    "middlebury_v3_q": MiddleburyV3,
    "middlebury_v3_f_test": partial(MiddleburyV3, resolution="F", split="test"),
    "middlebury_v3_h_test": partial(MiddleburyV3, resolution="H", split="test"),
    "middlebury_v3_q_test": partial(MiddleburyV3, split="test"),
    "middlebury2021": Middlebury2021,
    "eth3d": Eth3d,
    "eth3d_test": partial(Eth3d, split="test"),
    "sintel": Sintel,
    "sintel_clean": partial(Sintel, rendering="clean"),
    "instereo2k": InStereo2K,
    "instereo2k_test": partial(InStereo2K, split="test"),
    "crestereo": CREStereoPairs,
    "tartanair": TartanAir,
    "virtual_kitti2": VirtualKitti2,
    "booster": Booster,
    "booster_test": partial(Booster, split="test"),
    "scared": Scared,
    "scared_test": partial(Scared, split="test"),
    "folder": Folder,
    "packed": PackedPairs,
}


def open_dataset(name: str, root: str | os.PathLike[str], incomplete: bool = False) -> IndexedPairs:
    """Index the data set `name` below `root`; see `IndexedPairs` for `incomplete` and for errors.

    Raises ValueError for a name that isn't known.
    """
    if name not in DATASETS:
        raise ValueError(f"unknown data set {name!r}; {closest(name, DATASETS)}")
    return DATASETS[name](Path(root), incomplete=incomplete)
