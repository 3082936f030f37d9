"""Folders below a root, listed once, and what was found in them, kept on disk for the next time.

Listing the 160,000 files of SceneFlow takes seconds on a local disk and minutes over a network. So
an index is written down with the time at which each listed folder last changed; as long as none
has changed it is taken from there, and otherwise made anew.

Tests  tests/datasets/test_indexed.py
"""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from .files import IMAGE_SUFFIXES, atomic

FORMAT = 1
"""raise it when what is kept changes its meaning"""
SETTLED = 2.0
"""seconds: a folder that changed later than this before it was listed may change again within the
same tick of the file system's clock, so such an index isn't kept"""
ABSENT = -1


class Tree:
    """The folders and files below `root`; paths are text, from the root, with forward slashes.

    `changed` says for each folder or text file looked at when it last changed, in nanoseconds.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.changed: dict[str, int] = {}
        self._listed: dict[str, tuple[list[str], set[str]]] = {}

    def folders(self, folder: str = "") -> list[str]:
        """Names of the folders in `folder`, sorted; none where it doesn't exist."""
        return self._list(folder)[0]

    def file(self, folder: str, name: str) -> str | None:
        """The path of a file, or None where there is none."""
        return join(folder, name) if name in self._list(folder)[1] else None

    def files(self, folder: str, suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> dict[str, str]:
        """Name without suffix -> path, sorted, of the files in `folder` with such a suffix."""
        found = {}
        for name in sorted(self._list(folder)[1]):
            stem, dot, suffix = name.rpartition(".")
            if (dot + suffix).lower() in suffixes:
                found[stem] = join(folder, name)
        return found

    def walk(self, folder: str, holds: str) -> Iterator[str]:
        """Every folder at or below `folder` that holds a folder `holds`; nothing below those."""
        folders = self.folders(folder)
        if holds in folders:
            yield folder
            return
        for name in folders:
            yield from self.walk(join(folder, name), holds)

    def lines(self, path: str) -> list[str] | None:
        """The lines of a text file, or None where there is none."""
        self.changed[path] = changed(self.root / path)
        try:
            return (self.root / path).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{self.root / path}: cannot be read as text ({error})") from error

    def _list(self, folder: str) -> tuple[list[str], set[str]]:
        if folder not in self._listed:
            folders, files = [], set()
            self.changed[folder] = changed(self.root / folder)
            with (
                suppress(FileNotFoundError, NotADirectoryError),
                os.scandir(self.root / folder) as entries,
            ):
                for entry in entries:
                    if not entry.name.startswith("."):  # also what macOS leaves beside each file
                        folders.append(entry.name) if entry.is_dir() else files.add(entry.name)
            self._listed[folder] = sorted(folders), files
        return self._listed[folder]


def join(*parts: str) -> str:
    """A path from its parts, leaving out empty ones."""
    return "/".join(part for part in parts if part)


def changed(path: Path) -> int:
    """When a file or folder last changed, in nanoseconds; ABSENT where there is none."""
    try:
        return path.stat().st_mtime_ns
    except (FileNotFoundError, NotADirectoryError):
        return ABSENT


def keep(key: tuple[object, ...], tree: Tree, found: Any) -> None:
    """Write down what was `found` in `tree`; `key` names the question. Never fails."""
    if max(tree.changed.values(), default=0) > time.time_ns() - SETTLED * 1e9:
        return
    path = _place(key, tree.root)
    with suppress(OSError):  # a home that can't be written to costs time, no more
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as temporary:
            kept = {"format": FORMAT, "changed": tree.changed, "found": found}
            temporary.write_text(json.dumps(kept))


def kept(key: tuple[object, ...], root: Path) -> Any:
    """What was found before, or None where nothing is kept or a folder has changed since."""
    try:
        before = json.loads(_place(key, root).read_text())
        if before["format"] != FORMAT:
            return None
        for path, when in before["changed"].items():
            if changed(root / path) != when:
                return None
        return before["found"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def cache_folder() -> Path:
    """Where indices are kept: $STEREO_TR_CACHE, else stereo_tr in the user's cache folder."""
    if chosen := os.environ.get("STEREO_TR_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stereo_tr"


def _place(key: tuple[object, ...], root: Path) -> Path:
    name = hashlib.sha256(repr((*key, str(root))).encode()).hexdigest()[:24]
    return cache_folder() / "index" / f"{name}.json"
