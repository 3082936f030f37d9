"""Which left view belongs to which right view, and what its results are called.

Tests  tests/scripts/test_pairing.py
"""

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from stereo_tr.datasets.files import IMAGE_SUFFIXES


class ViewPair(NamedTuple):
    """Two files, and the name that their results begin with."""

    left: Path
    right: Path
    name: str


def find_pairs(left: str, right: str) -> list[ViewPair]:
    """Pair what `left` and `right` name: two files, two folders of pictures, or two globs.

    Folders and globs are sorted and paired in that order; where the two sides share names (KITTI's
    image_2 and image_3 do), every name must be on both sides. A result is called as its left file
    without the suffix; where several left files share that, folder names are put before it. Raises
    FileNotFoundError or ValueError for sides that don't make pairs.
    """
    lefts, rights = find_pictures(left), find_pictures(right)
    if len(lefts) != len(rights):
        raise ValueError(
            f"{left} has {len(lefts)} picture(s) and {right} {len(rights)}; each left view needs "
            "its right one"
        )
    if len(lefts) > 1:
        _check_shared(left, right, _identities(lefts), _identities(rights))
    return [ViewPair(*pair) for pair in zip(lefts, rights, _result_names(lefts), strict=True)]


def find_pictures(source: str) -> list[Path]:
    """List what `source` names, sorted: a file, the pictures of a folder, or those of a glob.

    A file is listed whether it is there or not: reading it tells. Raises FileNotFoundError for a
    folder or a glob without pictures.
    """
    path = Path(source)
    if path.is_dir():
        found = [p for p in path.iterdir() if _is_picture(p)]
        if not found:
            raise FileNotFoundError(f"{source}: no pictures in this folder")
    elif path.exists() or not glob.has_magic(source):  # a file may have [ in its name
        found = [path]
    else:
        matches = [Path(match) for match in glob.glob(source, recursive=True)]
        found = [p for p in matches if _is_picture(p)]
        if not found:
            raise FileNotFoundError(f"{source}: no pictures match")
    return sorted(found)


def _is_picture(path: Path) -> bool:
    hidden = path.name.startswith(".")
    return path.suffix.lower() in IMAGE_SUFFIXES and not hidden and path.is_file()


def _identities(paths: Sequence[Path]) -> list[str]:
    """What tells the files of one side apart: their names, or where these repeat, their folders."""
    names = [path.name for path in paths]
    return names if len(set(names)) == len(names) else [str(path.parent) for path in paths]


def _check_shared(left: str, right: str, lefts: Sequence[str], rights: Sequence[str]) -> None:
    alone = sorted(set(lefts) ^ set(rights))
    if alone and set(lefts) & set(rights):
        has, lacks = (left, right) if alone[0] in lefts else (right, left)
        raise ValueError(f"{alone[0]} is in {has} but has no partner in {lacks}")


def _result_names(paths: Sequence[Path]) -> list[str]:
    """Stems, with as many folder names before them as it takes to tell all of them apart."""
    absolute = [path.absolute().with_suffix("") for path in paths]
    for depth in range(1, max(len(path.parts) for path in absolute)):
        names = ["_".join(path.parts[1:][-depth:]) for path in absolute]
        if len(set(names)) == len(names):
            return names
    twice = next(path for path in absolute if absolute.count(path) > 1)
    raise ValueError(f"{twice}: several left views differ only in the suffix; rename one")
