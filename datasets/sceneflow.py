"""SceneFlow: FlyingThings3D (all of it, or the DispNet subset), Monkaa, Driving; 960x540, rendered.

    root/FlyingThings3D/frames_cleanpass/TRAIN/A/0000/left/0006.png     also TEST; A, B, C; right
                        frames_finalpass/...                            a second rendering: blur
                        disparity/TRAIN/A/0000/left/0006.pfm            also right
                        all_unused_files.txt                            frames to leave out
                        occlusion/TRAIN/...                             see below
         Monkaa/frames_finalpass/<scene>/left/0000.png    disparity/<scene>/left/0000.pfm
         Driving/frames_finalpass/<focal length>/<direction>/<speed>/left/0001.png   disparity/...
         FlyingThings3D_subset/train/image_clean/left/0000000.png       also val; right
                                     disparity/left/0000000.pfm
                                     disparity_occlusions/left/0000000.png

Frames may be .png or .webp (then below frames_finalpass_webp too). A root may also be the folder
FlyingThings3D, Monkaa or Driving itself. Disparity is PFM in pixels: **positive** in the full sets,
**negative** in the subset. Occlusion exists in the subset alone (not black = occluded, within the
picture; what lies outside follows from the disparity), the final pass in the full set alone. To
have both, put occlusion maps below the full set, named by frame in one of three ways:

    occlusion/TRAIN/A/0000/left/0006.png      as the frames
    occlusion/TRAIN/left/A-0000-0006.png      as in STTR's sample
    occlusion/TRAIN/left/0000000.png          as the subset is published, or the subset itself
                                              beside FlyingThings3D

The subset counts the frames that all_unused_files.txt doesn't list, in the order of their names,
over a whole split. So its numbers name a frame only if that list is there and the split complete;
otherwise they are refused rather than guessed. Frames of the full set without a map stay in; what
is hidden then follows from the disparities of both views (to learn from, not to score with).

Source  Mayer et al. 2016; https://lmb.informatik.uni-freiburg.de/resources/datasets/SceneFlow/;
        the numbering: 21,818 + 4,248 frames of the subset = 22,390 + 4,370 less the list's 694
Tests   tests/datasets/test_sceneflow.py
"""

import os
import re
from collections.abc import Iterator
from typing import Literal

from .indexed import Entry, IndexedPairs
from .tree import Tree, join

Rendering = Literal["clean", "final"]
Split = Literal["TRAIN", "TEST"]

FLYING_THINGS = {"TRAIN": (22390, 21818), "TEST": (4370, 4248)}
"""pairs with and without the frames of all_unused_files.txt"""
MONKAA, DRIVING = 8664, 4400
SUBSET_SPLITS = {"TRAIN": "train", "TEST": "val"}


class _Full(IndexedPairs):
    """What the full sets share."""

    size = (540, 960)

    def __init__(
        self,
        root: str | os.PathLike[str],
        rendering: Rendering = "final",
        split: Split = "TRAIN",
        incomplete: bool = False,
    ) -> None:
        self.rendering, self.split = rendering, split
        super().__init__(root, incomplete)


class FlyingThings3D(_Full):
    """FlyingThings3D: 22,390 pairs to train on, 4,370 to test; fewer with all_unused_files.txt."""

    title = "FlyingThings3D"
    place = "frames_finalpass/TRAIN/A/0000/left and disparity/TRAIN/A/0000/left"

    def __init__(
        self,
        root: str | os.PathLike[str],
        rendering: Rendering = "final",
        split: Split = "TRAIN",
        incomplete: bool = False,
    ) -> None:
        self.published = FLYING_THINGS[split]
        super().__init__(root, rendering, split, incomplete)

    def find(self, tree: Tree) -> Iterator[Entry | str]:
        """Go through the frames of the split."""
        yield from _flying_things(tree, self.rendering, self.split)


class Monkaa(_Full):
    """Monkaa: 8,664 pairs from an animated film."""

    title, published = "Monkaa", (MONKAA,)
    place = "frames_finalpass/<scene>/left and disparity/<scene>/left"

    def find(self, tree: Tree) -> Iterator[Entry | str]:
        """Go through the frames of all scenes."""
        yield from _frames(tree, "Monkaa", self.rendering)


class Driving(_Full):
    """Driving: 4,400 pairs of one drive, at two focal lengths, two directions and two speeds."""

    title, published = "Driving", (DRIVING,)
    place = (
        "frames_finalpass/15mm_focallength/scene_forwards/fast/left and the same below disparity"
    )

    def find(self, tree: Tree) -> Iterator[Entry | str]:
        """Go through the frames of all drives."""
        yield from _frames(tree, "Driving", self.rendering)


class SceneFlow(_Full):
    """All three: 35,454 pairs to train on; to test, FlyingThings3D's 4,370, as in the papers."""

    title = "SceneFlow"
    place = "FlyingThings3D, Monkaa and Driving"

    def __init__(
        self,
        root: str | os.PathLike[str],
        rendering: Rendering = "final",
        split: Split = "TRAIN",
        incomplete: bool = False,
    ) -> None:
        others = MONKAA + DRIVING if split == "TRAIN" else 0
        self.published = tuple(count + others for count in FLYING_THINGS[split])
        super().__init__(root, rendering, split, incomplete)

    def find(self, tree: Tree) -> Iterator[Entry | str]:
        """Go through the three sets, one after the other; a set that isn't there is a problem."""
        parts = [("FlyingThings3D", _flying_things(tree, self.rendering, self.split))]
        if self.split == "TRAIN":
            parts += [(name, _frames(tree, name, self.rendering)) for name in ("Monkaa", "Driving")]
        for name, entries in parts:
            if name in tree.folders():
                yield from entries
            else:
                yield f"{name}: no folder {tree.root / name}"


class FlyingThings3DSubset(IndexedPairs):
    """The DispNet subset of FlyingThings3D: 21,818 pairs to train on, 4,248 to validate on.

    Disparity and occlusion of both views. Published as a clean pass.
    """

    title = "the FlyingThings3D subset"
    place = "train/image_clean/left, train/disparity/left and train/disparity_occlusions/left"
    size = (540, 960)
    stored_sign = -1

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: Literal["train", "val"] = "train",
        rendering: Rendering = "clean",
        incomplete: bool = False,
    ) -> None:
        self.split, self.rendering = split, rendering
        self.published = (21818,) if split == "train" else (4248,)
        super().__init__(root, incomplete)

    def find(self, tree: Tree) -> Iterator[Entry | str]:
        """Go through the frames of the split."""
        above = "FlyingThings3D_subset" if "FlyingThings3D_subset" in tree.folders() else ""
        base = join(above, self.split)
        folders = {
            "left": join(base, f"image_{self.rendering}", "left"),
            "right": join(base, f"image_{self.rendering}", "right"),
            "disparity": join(base, "disparity", "left"),
            "right_disparity": join(base, "disparity", "right"),
            "occlusion": join(base, "disparity_occlusions", "left"),
            "right_occlusion": join(base, "disparity_occlusions", "right"),
        }
        files = {role: tree.files(folder) for role, folder in folders.items()}
        for frame in files["left"]:
            found = {role: of_role.get(frame) for role, of_role in files.items()}
            yield Entry(f"{self.split}/{frame}", found)


def _flying_things(tree: Tree, rendering: Rendering, split: Split) -> Iterator[Entry | str]:
    base = _base(tree, "FlyingThings3D")
    listed = tree.lines(join(base, "all_unused_files.txt"))
    unused = {key for line in listed or () if (key := _frame_of_line(line))}
    entries = [
        entry
        for entry in _frames(tree, "FlyingThings3D", rendering, split)
        if entry.name.removeprefix("FlyingThings3D/") not in unused
    ]
    for view, role in (("left", "occlusion"), ("right", "right_occlusion")):
        maps, problem = _occlusion(tree, base, split, view, entries, listed is not None)
        if problem:
            yield problem
        for entry in entries:
            entry.files[role] = maps.get(entry.name)
    yield from entries


def _frames(tree: Tree, name: str, rendering: Rendering, split: str = "") -> Iterator[Entry]:
    """Every left frame of a full set, with what belongs to it under the same name elsewhere."""
    base = _base(tree, name)
    passes = join(base, f"frames_{rendering}pass")
    if not tree.folders(passes):
        passes += "_webp"
    top = join(passes, split)
    for folder in tree.walk(top, "left"):
        sequence = folder.removeprefix(passes).strip("/")
        places = {
            "right": join(passes, sequence, "right"),
            "disparity": join(base, "disparity", sequence, "left"),
            "right_disparity": join(base, "disparity", sequence, "right"),
        }
        others = {role: tree.files(place) for role, place in places.items()}
        for frame, left in tree.files(join(folder, "left")).items():
            found = {role: files.get(frame) for role, files in others.items()}
            yield Entry(join(name, sequence, frame), {"left": left, **found})


def _occlusion(
    tree: Tree, base: str, split: Split, view: str, entries: list[Entry], list_is_there: bool
) -> tuple[dict[str, str], str | None]:
    """Name of a pair -> occlusion map of one view, and what keeps the maps from being matched."""
    place = join(base, "occlusion", split)
    as_frames = {
        join("FlyingThings3D", split, letter, scene, frame): path
        for letter in tree.folders(place)
        if letter not in ("left", "right")
        for scene in tree.folders(join(place, letter))
        for frame, path in tree.files(join(place, letter, scene, view)).items()
    }
    if as_frames:
        return as_frames, None
    subset = join("FlyingThings3D_subset", SUBSET_SPLITS[split], "disparity_occlusions", view)
    maps = tree.files(join(place, view)) or tree.files(subset)
    if not all(stem.isdigit() for stem in maps):
        return {
            join("FlyingThings3D", split, *stem.split("-")): path for stem, path in maps.items()
        }, None
    if not maps:
        return {}, None
    numbered = list(maps) == [f"{number:07d}" for number in range(len(entries))]
    if numbered and (list_is_there or len(maps) == FLYING_THINGS[split][1]):
        return dict(zip((entry.name for entry in entries), maps.values(), strict=True)), None
    why = (
        f"there are {len(maps)} maps for {len(entries)} frames"
        if not numbered
        else f"{tree.root / base / 'all_unused_files.txt'} is missing"
    )
    folder = (tree.root / next(iter(maps.values()))).parent
    return {}, (
        f"{folder}: the maps are numbered over a complete split without its unused frames, and "
        f"{why}; complete the copy, or name the maps by frame (A-0000-0006.png)"
    )


def _base(tree: Tree, name: str) -> str:
    """Where the set `name` lies below the root: in a folder of that name, or in the root itself."""
    return name if name in tree.folders() else ""


def _frame_of_line(line: str) -> str | None:
    """TRAIN/A/0000/0006 from "TRAIN/A/0000/left/0006.png" in all_unused_files.txt."""
    match = re.search(r"(TRAIN|TEST)/([ABC])/(\d+)/(?:left|right)/(\d+)", line)
    return "/".join(match.groups()) if match else None
