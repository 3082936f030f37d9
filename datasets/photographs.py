"""Photographs inside scikit-image, for textures: public domain or CC0, none of a stereo pair.

The licence of each is the one that skimage.data's documentation states (version 0.26). Left out are
its stereo pair (motorcycle) and all pictures without a clear statement of public domain or CC0.

Tests  tests/datasets/test_textures.py
"""

from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

PHOTOGRAPHS = {
    "astronaut.png": "public domain (NASA)",
    "brick.png": "CC0 (CC0Textures)",
    "camera.png": "CC0 (Lav Varshney)",
    "chelsea.png": "CC0 (Stefan van der Walt)",
    "clock_motion.png": "public domain (Stefan van der Walt)",
    "coffee.png": "CC0 (Rachel Michetti)",
    "grass.png": "CC0 (linolafett)",
    "gravel.png": "CC0 (CC0Textures)",
    "hubble_deep_field.jpg": "public domain (NASA)",
    "retina.jpg": "CC0 (Mikael Häggström)",
    "rocket.jpg": "public domain (SpaceX)",
    "text.png": "public domain (Wikipedia)",
}
"""file inside skimage/data -> licence"""

_WITHOUT = "`stereo-tr scenes --no-photographs`, and in Python photographs=False, do without them"


def photograph_folder() -> Path:
    """Where scikit-image keeps its pictures; ValueError, with the remedy, if it isn't installed."""
    found = find_spec("skimage")
    if found is None or not found.submodule_search_locations:
        raise ValueError(
            "textures from photographs need scikit-image, which isn't installed: "
            f"pip install 'stereo-tr[train]'; {_WITHOUT}"
        )
    return Path(found.submodule_search_locations[0]) / "data"


def load_photographs() -> list[NDArray[np.uint8]]:
    """All of `PHOTOGRAPHS`, in that order: RGB, uint8 [H, W, 3].

    Raises ValueError if scikit-image isn't installed, FileNotFoundError if it lacks a picture.
    """
    folder = photograph_folder()
    pictures = []
    for name in PHOTOGRAPHS:
        picture = cv2.imread(str(folder / name), cv2.IMREAD_COLOR)
        if picture is None:
            raise FileNotFoundError(
                f"{folder / name} is missing from the installed scikit-image; 0.26 has it: "
                f"pip install --upgrade 'stereo-tr[train]'; {_WITHOUT}"
            )
        pictures.append(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
    return pictures
