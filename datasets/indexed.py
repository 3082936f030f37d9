"""What every data set on disk shares: an index of files, and samples read when they are asked for.

A loader says where its files lie (`find`), how a number is stored (`read_map`, `read_occluded`) and
what was published (`published`, `size`). Files are matched by name, never by their place in a list;
a pair that lacks a file is an error that names it, or, with `incomplete=True`, left out and listed.

Letters  H W image height and width, in pixels
Tests    tests/datasets/test_indexed.py, and one file a data set
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, UInt8, UInt16
from torch import Tensor
from torch.utils.data import Dataset

from .files import read_disparity, read_image
from .sample import StereoSample
from .tree import Tree, keep, kept

WORTH_KEEPING = 1000
"""pairs: a smaller data set is listed faster than its kept index is checked"""

NEARER = 1.0
"""pixels of disparity: by so much what hides a point is nearer; less is rounding or a slant"""

Map = tuple[Float32[np.ndarray, "H W"], Bool[np.ndarray, "H W"]]
"""disparity in pixels, and where it is known"""
Truth = tuple[Float[Tensor, "H W"], Bool[Tensor, "H W"], Bool[Tensor, "H W"]]
"""disparity in pixels, where it is known, and what the other view doesn't see"""


class Entry(NamedTuple):
    """The files of one pair."""

    name: str
    """unique within the data set"""
    files: dict[str, str | None]
    """role -> path from the root: left, right, disparity, occlusion, right_disparity,
    right_occlusion; None: looked for and not there"""


class IndexedPairs(Dataset[StereoSample]):
    """The pairs of one data set below `root`; `entries` lists their files, in order of their names.

    root: the folder drawn in the loader's docstring; incomplete: leave out pairs that lack a file
    instead of refusing, and list them in `problems`.

    Raises FileNotFoundError where `root` or a file is missing, NotADirectoryError where `root` is a
    file, ValueError where names don't match. Reading a sample raises ValueError, naming the file,
    where it is damaged, of another size than its left view, or of the other sign.
    """

    title: ClassVar[str]
    """name of the data set, for messages"""
    place: ClassVar[str]
    """what `root` has to hold, for messages"""
    published: tuple[int, ...] = ()
    """number of pairs in a complete copy, as published; several where copies differ rightly"""
    size: tuple[int, int] | None = None
    """height and width, where all pairs have the same"""
    required: tuple[str, ...] = ("left", "right", "disparity")
    stored_sign: ClassVar[int] = 1
    """-1 where disparities are stored as negative numbers"""
    occlusion_tells_outside: ClassVar[bool] = False
    """whether the occlusion map also marks pixels whose partner lies outside the right view"""

    def __init__(self, root: str | os.PathLike[str], incomplete: bool = False) -> None:
        self.root = Path(root).expanduser().resolve()
        if not self.root.exists():
            raise FileNotFoundError(f"{root} doesn't exist; {self._wanted()}")
        if not self.root.is_dir():
            raise NotADirectoryError(f"{root} is a file; {self._wanted()}")
        self.entries: list[Entry]
        self.problems: list[str]
        """what is missing or can't be matched, a line each"""
        self.entries, self.problems = self._index()
        if self.problems and not incomplete:
            raise FileNotFoundError(
                f"{self._first_problem()}; unpack what is missing, or see `stereo-tr check` for a "
                "list"
            )
        if not self.entries:
            if self.problems:  # `stereo-tr check` itself comes here: it can't be the remedy
                raise FileNotFoundError(
                    f"no pair of {self.title} in {root} is complete: {self._first_problem()}; "
                    "unpack what is missing"
                )
            raise FileNotFoundError(f"no pair of {self.title} in {root}; {self._wanted()}")

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> StereoSample:
        """Read the pair: images [3, H, W], maps [H, W]. Disparity is 0 where it isn't known."""
        name, files = self.entries[index]
        paths = {role: self.root / path for role, path in files.items() if path is not None}
        left, right = read_image(paths["left"]), read_image(paths["right"])
        size = left.shape[:2]
        self._same_size(paths, "right", size, right.shape[:2])
        truth, right_truth = (self._truth(paths, view, size) for view in ("", "right_"))
        hidden = _hidden(truth, right_truth, -1), _hidden(right_truth, truth, 1)
        if "occlusion" not in paths:
            truth[2].logical_or_(hidden[0])
        if "right_occlusion" not in paths:
            right_truth[2].logical_or_(hidden[1])
        return StereoSample(as_tensor(left), as_tensor(right), *truth, *right_truth, name=name)

    def occlusion_known(self, index: int) -> bool:
        """Whether the data set tells which pixels of this left view the right one doesn't see.

        Where it doesn't, a sample's `occluded` holds what follows from the disparities: the pixels
        whose partner lies outside the right view and, where that has truth of its own, those that
        something nearer hides there. A model that learns from neither takes hidden pixels for seen.
        """
        return self.entries[index].files.get("occlusion") is not None

    def find(self, tree: Tree) -> Iterator[Entry | str]:
        """Go through the pairs in order; text is a problem that is no single pair's."""
        raise NotImplementedError

    def read_map(self, path: Path) -> Map:
        """Disparity as stored, in pixels, and where it is known."""
        return read_disparity(path)

    def read_occluded(
        self, path: Path, valid: Bool[np.ndarray, "H W"]
    ) -> Bool[np.ndarray, "height width"]:
        """Decode the occlusion map beside a disparity known where `valid`: not black = occluded."""
        return read_grey(path) > 0

    def options(self) -> tuple[object, ...]:
        """What beside the root the index depends on."""
        return tuple(value for name, value in sorted(vars(self).items()) if name != "root")

    def _index(self) -> tuple[list[Entry], list[str]]:
        key = (type(self).__name__, self.options())
        if (before := kept(key, self.root)) is not None:
            return [Entry(*entry) for entry in before[0]], before[1]
        tree, entries, problems = Tree(self.root), [], []
        for found in self.find(tree):
            if isinstance(found, str):
                problems.append(found)
            elif lacking := [role for role in self.required if not found.files.get(role)]:
                beside = next((path for path in found.files.values() if path), found.name)
                what = " and ".join(lacking).replace("_", " ")
                problems.append(f"{found.name}: no {what} for {self.root / beside}")
            else:
                entries.append(found)
        if len(entries) >= WORTH_KEEPING:
            keep(key, tree, [entries, problems])
        return entries, problems

    def _truth(self, paths: dict[str, Path], view: str, size: tuple[int, ...]) -> Truth:
        """Disparity, validity and occlusion of one view ("": the left one)."""
        path = paths.get(view + "disparity")
        if path is None:
            nowhere = torch.zeros(size, dtype=torch.bool)
            return torch.zeros(size), nowhere, nowhere.clone()
        disparity, valid = self.read_map(path)
        self._same_size(paths, view + "disparity", size, disparity.shape)
        disparity = self.stored_sign * disparity
        negative = valid & (disparity < 0)
        if 2 * negative.sum() > valid.sum():
            sign = "positive" if self.stored_sign > 0 else "negative"
            raise ValueError(
                f"{path}: most disparities aren't {sign}, as {self.title} stores them; is this "
                "file from another data set, or the other view's?"
            )
        valid = valid & ~negative  # a few stray values are rendering errors, not a wrong sign
        disparity = np.where(valid, disparity, np.float32(0))
        occluded = np.zeros(size, dtype=bool)
        if mask := paths.get(view + "occlusion"):
            occluded = self.read_occluded(mask, valid)
            self._same_size(paths, view + "occlusion", size, occluded.shape)
        if mask is None or not self.occlusion_tells_outside:
            occluded = occluded | (valid & _outside(disparity, right_view=bool(view)))
        return torch.from_numpy(disparity), torch.from_numpy(valid), torch.from_numpy(occluded)

    def _same_size(
        self, paths: dict[str, Path], role: str, size: tuple[int, ...], other: tuple[int, ...]
    ) -> None:
        if tuple(size) != tuple(other):
            raise ValueError(
                f"{paths[role]} is {other[1]}x{other[0]} but {paths['left']} is "
                f"{size[1]}x{size[0]}; all files of a pair have one size. Fetch both again"
            )

    def _wanted(self) -> str:
        return f"give the folder that holds {self.place}"

    def _first_problem(self) -> str:
        more = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
        return f"{self.problems[0]}{more}"


def read_grey(
    path: Path,
) -> UInt8[np.ndarray, "height width"] | UInt16[np.ndarray, "height width"]:
    """Read a picture's only channel. Raises as `read_image`."""
    return np.ascontiguousarray(read_image(path)[..., 0])


def read_uint16(path: Path) -> UInt16[np.ndarray, "height width"]:
    """Read a grey picture of 16 bits. Raises ValueError where it holds 8."""
    stored = read_grey(path)
    if stored.dtype != np.uint16:
        raise ValueError(f"{path}: 8 bit, but 16 are published; was it converted? Fetch it again")
    return stored


def read_numpy(path: Path) -> Float32[np.ndarray, "height width"]:
    """Read a `.npy` file of one map. Raises ValueError for anything else; runs no code."""
    try:
        values = np.load(path, allow_pickle=False)
        if values.ndim != 2 or not np.issubdtype(values.dtype, np.number):
            raise ValueError(f"it holds {values.dtype} of shape {values.shape}")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: no such file") from error
    except (ValueError, EOFError, AttributeError) as error:
        raise ValueError(f"{path}: no map of numbers [H, W] ({error}); fetch it again") from error
    return values.astype(np.float32)


def depth_to_disparity_map(depth: Float32[np.ndarray, "H W"], scale: float) -> Map:
    """Disparity = scale / depth where depth is positive; scale = focal length * baseline."""
    known = np.isfinite(depth) & (depth > 0)
    return np.float32(scale) / np.where(known, depth, np.float32(scale)), known


def as_tensor(image: np.ndarray) -> Float[Tensor, "3 H W"]:
    """RGB of 8 or 16 bits as a tensor in [0, 1]."""
    full_scale = np.iinfo(image.dtype).max
    return torch.from_numpy(image.astype(np.float32) / full_scale).permute(2, 0, 1).contiguous()


def _hidden(mine: Truth, other: Truth, way: int) -> Bool[Tensor, "H W"]:
    """Where the other view's truth has something nearer at the partner, x + way * disparity."""
    disparity, valid, _ = mine
    width = disparity.shape[-1]
    partner = torch.arange(width) + way * disparity
    nearest = partner.round().long().clamp(0, width - 1)
    there, known = (map_.gather(-1, nearest) for map_ in other[:2])
    inside = (partner >= 0) & (partner <= width - 1)
    return valid & known & inside & (there > disparity + NEARER)


def _outside(disparity: Float32[np.ndarray, "H W"], right_view: bool) -> Bool[np.ndarray, "H W"]:
    """Where the partner lies beyond the first, or for the right view the last, column."""
    columns = np.arange(disparity.shape[1], dtype=np.float32)
    if right_view:
        return columns + disparity > disparity.shape[1] - 1
    return columns - disparity < 0
