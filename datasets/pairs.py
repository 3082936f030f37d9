"""A folder of rectified pairs with known disparity, one folder a scene.

    <scene>/left.png right.png    8 or 16 bit, grey or RGB, of one size
            disp.pfm | disp.png   disparity of the left view in pixels: float32, inf = unknown, or
                                  16 bit, disparity * 256, 0 = unknown (of both, the first is read)
            nocc.png              255 = known and seen by both cameras; not every data set has it

`Pairs` takes one scene, a folder of scenes, or a folder of such folders at any depth. Without
nocc.png nobody knows which pixels are occluded: `occluded` is then False everywhere, and
`Scene.non_occluded` is None so that a score over non-occluded pixels is left out, not made up.

Letters  H W image height and width, in pixels
Tests    tests/datasets/test_pairs.py
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.data import Dataset

from .files import read_disparity, read_image
from .sample import StereoSample

_TRUTH = ("disp.pfm", "disp.png")
_LAYOUT = "a scene is a folder with left.png, right.png and disp.pfm or disp.png"


@dataclass(frozen=True)
class Scene:
    """The files of one pair."""

    name: str
    """"<folder of scenes>/<scene>", with more folders in front where the root lies higher"""
    left: Path
    right: Path
    disparity: Path
    non_occluded: Path | None
    """None where the data set doesn't tell which pixels are occluded"""

    @property
    def group(self) -> str:
        """The folder of scenes that this one belongs to: a name without its last part."""
        return self.name.rpartition("/")[0]


class Pairs(Dataset[StereoSample]):
    """The scenes under `root`, in the order of their names; `scenes` lists their files.

    There is no truth for the right view: `right_valid` is False everywhere.

    Raises FileNotFoundError where there is no scene or a scene lacks a file, NotADirectoryError
    where `root` is a file; reading a sample raises ValueError where its files don't fit together.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        folder = Path(root).expanduser().resolve()
        if not folder.exists():
            raise FileNotFoundError(f"{root} doesn't exist; give a folder of scenes ({_LAYOUT})")
        if not folder.is_dir():
            raise NotADirectoryError(f"{root} is a file; give a folder of scenes ({_LAYOUT})")
        found = _scene_folders(folder)
        if not found:
            raise FileNotFoundError(f"no scene in {root}: {_LAYOUT}")
        self.scenes: tuple[Scene, ...] = tuple(_scene(path, folder) for path in found)

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> StereoSample:
        """Read the pair: images [3, H, W], maps [H, W]. Disparity is 0 where it isn't known."""
        scene = self.scenes[index]
        left, right = read_image(scene.left), read_image(scene.right)
        disparity, valid = read_disparity(scene.disparity)
        size = left.shape[:2]
        _same_size(scene.left, size, scene.right, right.shape[:2])
        _same_size(scene.left, size, scene.disparity, disparity.shape)
        if disparity.min() < 0:
            raise ValueError(
                f"{scene.disparity} holds negative disparities, down to {disparity.min():g}; left "
                "(x, y) is seen at right (x - disparity, y), so store them with the other sign"
            )
        occluded = np.zeros(size, dtype=bool)
        if scene.non_occluded is not None:
            seen = read_image(scene.non_occluded)[..., 0]
            _same_size(scene.left, size, scene.non_occluded, seen.shape)
            # Middlebury's own masks write 128 for occluded, so only full white says "seen by both".
            occluded = valid & (seen != np.iinfo(seen.dtype).max)
        return StereoSample(
            left=_as_tensor(left),
            right=_as_tensor(right),
            disparity=torch.from_numpy(np.where(valid, disparity, np.float32(0))),
            valid=torch.from_numpy(valid),
            occluded=torch.from_numpy(occluded),
            right_disparity=torch.zeros(size),
            right_valid=_nowhere(size),
            right_occluded=_nowhere(size),
            name=scene.name,
        )


def _scene_folders(folder: Path) -> list[Path]:
    """`folder` itself if it holds a scene's file, else the scenes below it, sorted."""
    if any((folder / name).exists() for name in ("left.png", "right.png", *_TRUTH)):
        return [folder]
    return [
        scene
        for below in sorted(folder.iterdir())
        if below.is_dir() and not below.name.startswith(".")
        for scene in _scene_folders(below)
    ]


def _scene(folder: Path, root: Path) -> Scene:
    inner = folder.relative_to(root).parts
    # Below a folder of folders the path from the root is unique; otherwise two parts always are.
    name = "/".join(inner if len(inner) > 1 else folder.parts[-2:])
    for required in ("left.png", "right.png"):
        if not (folder / required).is_file():
            raise FileNotFoundError(f"{folder / required} is missing; {_LAYOUT}")
    truth = next((folder / name for name in _TRUTH if (folder / name).is_file()), None)
    if truth is None:
        raise FileNotFoundError(f"{folder} has neither disp.pfm nor disp.png; {_LAYOUT}")
    seen = folder / "nocc.png"
    return Scene(
        name, folder / "left.png", folder / "right.png", truth, seen if seen.is_file() else None
    )


def _same_size(
    first: Path, size: tuple[int, ...], second: Path, other_size: tuple[int, ...]
) -> None:
    if tuple(size) != tuple(other_size):
        raise ValueError(
            f"{second} is {other_size[1]}x{other_size[0]} but {first} is {size[1]}x{size[0]}; "
            "all files of a scene have the size of its left view"
        )


def _as_tensor(image: np.ndarray) -> Float[Tensor, "3 H W"]:
    full_scale = np.iinfo(image.dtype).max
    return torch.from_numpy(image.astype(np.float32) / full_scale).permute(2, 0, 1).contiguous()


def _nowhere(size: tuple[int, ...]) -> Bool[Tensor, "H W"]:
    return torch.zeros(size, dtype=torch.bool)
