"""A folder of images by class, `root/class/image.png`, and the list of what a run learns from.

    listed = list_images(Path("flowers"))          # checks every image; splits off some for scoring
    images = LabelledImages(listed, learn=True, height=224, width=224)
    images[7].image, listed.classes[images[7].label]

The list is kept beside the run (`write_list`), so that going on sees the same images in the same
order, and so that predictions know the names of the classes.

Letters  H W image height and width in pixels
Tests    tests/datasets/test_image_folder.py
"""

import json
import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.utils.data import Dataset

from .files import IMAGE_SUFFIXES, read_image, write_bytes

HELD_OUT = 0.2
"""share of each class's images that is scored and never learned from"""

LARGEST_CUT = 1.15
"""while learning, an image is at most so many times as large as what is cut out of it"""


class LabelledImage(NamedTuple):
    """An image and the number of its class. A batch is the same tuple with a leading B."""

    image: Float[Tensor, "*B 3 H W"]
    """RGB in [0, 1]"""
    label: Int[Tensor, "*B"]
    name: str | list[str]
    """path of the file; a list in a batch"""


@dataclass(frozen=True)
class ImageList:
    """What a run learns from and is scored on."""

    classes: tuple[str, ...]
    """names of the folders, in alphabetical order; a label is a place in here"""
    learned: tuple[tuple[str, int], ...]
    """path and label of each image to learn from"""
    scored: tuple[tuple[str, int], ...]
    """path and label of each image to score, never learned from"""
    flip: bool = False
    """mirror every other image while learning"""


def list_images(
    root: Path,
    scored: Path | None = None,
    *,
    unreadable: Literal["skip", "stop"] = "stop",
    flip: bool = False,
) -> tuple[ImageList, list[str]]:
    """List the images of `root/class/`, and say which ones were left out and why.

    A fifth of each class is set aside for scoring, the same fifth every time; or `scored` is a
    folder of the same classes for that. Every image is decoded once: one that can't be read is left
    out, or stops with an error. Raises FileNotFoundError where there is no such folder, ValueError
    for fewer than two classes, a class without images, or classes of `scored` that `root` lacks.
    """
    found, skipped = _by_class(root, unreadable)
    if len(found) < 2:
        raise ValueError(f"{root} holds one class, {next(iter(found))}; two or more are needed")
    classes = tuple(found)
    if scored is not None:
        held, more = labelled_images(scored, classes, unreadable=unreadable)
        return ImageList(classes, _labelled(found, classes), held, flip), skipped + more
    aside = {name: _held_out(paths) for name, paths in found.items()}
    rest = {
        name: [path for path in paths if path not in aside[name]] for name, paths in found.items()
    }
    held = {name: sorted(paths) for name, paths in aside.items()}
    return ImageList(classes, _labelled(rest, classes), _labelled(held, classes), flip), skipped


def labelled_images(
    root: Path, classes: tuple[str, ...], *, unreadable: Literal["skip", "stop"] = "stop"
) -> tuple[tuple[tuple[str, int], ...], list[str]]:
    """Return path and label of each image of `root/class/`, and which were left out and why.

    Raises as `list_images`, and ValueError for a folder that isn't called like one of `classes`.
    """
    found, skipped = _by_class(root, unreadable)
    unknown = [name for name in found if name not in classes]
    if unknown:
        raise ValueError(
            f"{root / unknown[0]}: no class is called so; the classes are {', '.join(classes)}"
        )
    return _labelled(found, classes), skipped


def _labelled(
    groups: dict[str, list[str]], classes: tuple[str, ...]
) -> tuple[tuple[str, int], ...]:
    return tuple((path, classes.index(name)) for name, paths in groups.items() for path in paths)


def _by_class(
    root: Path, unreadable: Literal["skip", "stop"]
) -> tuple[dict[str, list[str]], list[str]]:
    """Return the readable images of each class, and what is wrong with the others."""
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}; give one that holds CLASS/image.png")
    names = sorted(path.name for path in root.iterdir() if path.is_dir())
    names = [name for name in names if not name.startswith(".")]
    if not names:
        raise ValueError(f"{root} holds no folders; each class is one: CLASS/image.png")
    found: dict[str, list[str]] = {name: [] for name in names}
    paths = [
        (name, path)
        for name in names
        for path in sorted((root / name).rglob("*"))
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    ]
    skipped = []
    for name, path in paths:
        try:
            read_image(path)
        except (ValueError, OSError) as error:
            if unreadable == "stop":
                raise ValueError(f"{error} (--unreadable skip leaves it out)") from error
            skipped.append(str(error))
        else:
            found[name].append(str(path.resolve()))
    empty = [name for name, held in found.items() if not held]
    if empty:
        kinds = " ".join(IMAGE_SUFFIXES)
        raise ValueError(f"{root / empty[0]} holds no image that can be read ({kinds})")
    return found, skipped


def _held_out(paths: list[str]) -> set[str]:
    """Draw the images that are scored; a class of a single image is learned and not scored."""
    count = max(1, round(HELD_OUT * len(paths))) if len(paths) > 1 else 0
    return set(np.random.default_rng(0).permutation(np.array(paths))[:count].tolist())


def write_list(listed: ImageList, path: Path) -> None:
    """Write the list as JSON, whole or not at all."""
    write_bytes(path, json.dumps(asdict(listed), indent=1).encode() + b"\n")


def read_list(path: Path) -> ImageList:
    """Read what `write_list` wrote. Raises FileNotFoundError, or ValueError if it is no list."""
    try:
        held = json.loads(path.read_text())
        pairs = {
            part: tuple((str(file), int(label)) for file, label in held[part])
            for part in ("learned", "scored")
        }
        return ImageList(tuple(held["classes"]), **pairs, flip=bool(held["flip"]))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no list of images {path}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no list of images as stereo-tr classify writes it") from error


def fitted(
    image: Shaped[np.ndarray, "h w 3"],
    height: int,
    width: int,
    *,
    scale: float = 1.0,
    place: tuple[float, float] = (0.5, 0.5),
) -> Float[Tensor, "3 H W"]:
    """Scale a uint8 or uint16 image until it covers `height` x `width`, and cut that out.

    Nothing is distorted; what sticks out is lost. `scale` above 1 makes more stick out; `place`
    says what is kept, from (0, 0), top left, to (1, 1), bottom right.
    """
    factor = scale * max(height / image.shape[0], width / image.shape[1])
    size = [max(math.ceil(factor * image.shape[1]), width)]
    size += [max(math.ceil(factor * image.shape[0]), height)]
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    scaled = cv2.resize(image, size, interpolation=method).astype(np.float32)
    top = round(place[0] * (scaled.shape[0] - height))
    left = round(place[1] * (scaled.shape[1] - width))
    cut = scaled[top : top + height, left : left + width] / np.iinfo(image.dtype).max
    return torch.from_numpy(cut).permute(2, 0, 1).contiguous()


class LabelledImages(Dataset[LabelledImage]):
    """The images of a list: to learn from, in endless new orders, or to score, one after the other.

    To `learn`, image `index` depends on the seed and the index alone: every image once, drawn
    anew, then every image again; a little enlarged, and cut out anywhere.
    """

    def __init__(
        self, listed: ImageList, *, learn: bool, height: int, width: int, seed: int = 0
    ) -> None:
        self.listed, self.learn, self.seed = listed, learn, seed
        self.height, self.width = height, width
        self.items = listed.learned if learn else listed.scored

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> LabelledImage:
        """Read an image. Raises OSError or ValueError where it can't be read any more."""
        if not self.learn:
            path, label = self.items[index]
            image = fitted(read_image(path), self.height, self.width)
            return LabelledImage(image, torch.tensor(label), path)
        turn, place = divmod(index, len(self.items))
        path, label = self.items[_order(self.seed, turn, len(self.items))[place]]
        draw = np.random.default_rng((self.seed, index))
        image = fitted(
            read_image(path),
            self.height,
            self.width,
            scale=draw.uniform(1, LARGEST_CUT),
            place=tuple(draw.uniform(0, 1, 2)),
        )
        if self.listed.flip and draw.integers(2):
            image = image.flip(-1)
        return LabelledImage(image, torch.tensor(label), path)


@lru_cache(maxsize=2)
def _order(seed: int, turn: int, count: int) -> np.ndarray:
    return np.random.default_rng((seed, turn, count)).permutation(count)
