"""A data set in one HDF5 file, as `stereo-tr pack` writes it: a sample is one read.

    root/NAME.h5     the folder's only .h5, or root is the file itself
        /records     uint8 [bytes], contiguous: one record a sample, see records.py
        /starts      int64 [samples]: where a record begins in `records` ...
        /lengths     int64 [samples]: ... and how many bytes it has
        /checksums   uint32 [samples]: CRC-32 of the record
        /names       bytes [samples]: UTF-8, in the order of the data set
        /occlusion_known   bool [samples]
        attributes   about: JSON; which data set, and what was published of it

Any HDF5 program reads it. As the records lie in the file one behind the other, `PackedPairs` asks
h5py once where they begin and then reads a sample with one seek and one read: nothing is kept open,
so any number of worker processes and threads read at once, however they were started. Every record
is held against its checksum when it is read.

Tests  tests/datasets/test_packed.py
"""

import hashlib
import json
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .indexed import Entry, IndexedPairs
from .records import decode
from .sample import StereoSample

FORMAT = "stereo-tr packed pairs, 1"
"""raise the number when older code couldn't read what newer code writes"""


class PackedPairs(IndexedPairs):
    """The samples of a packed data set, bit by bit as its loader gave them.

    `about` says which data set it is. Raises FileNotFoundError where there is no such file,
    ValueError where it isn't whole or not of this kind; reading a sample raises ValueError where
    its bytes aren't those that were written.
    """

    title, place = "a packed data set", "NAME.h5, or that file"

    def __init__(self, root: str | os.PathLike[str], incomplete: bool = False) -> None:
        self.root = self.path = _file_of(Path(root).expanduser().resolve(), self.place)
        index = _read_index(self.path)
        self.about: dict[str, Any] = index["about"]
        self.required = tuple(self.about["required"])
        self.published = tuple(self.about["published"])
        self.size = tuple(self.about["size"]) if self.about["size"] else None
        self.entries = [Entry(name.decode(), {}) for name in index["names"].tolist()]
        self.problems = []
        self._starts = index["starts"] + index["offset"]
        self._lengths, self._checksums = index["lengths"], index["checksums"]
        self._occlusion_known = index["occlusion_known"]

    def __getitem__(self, index: int) -> StereoSample:
        """Read, check and decode one record."""
        name, length = self.entries[index].name, int(self._lengths[index])
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(int(self._starts[index]))
                record = file.read(length)
        except OSError as error:
            raise type(error)(f"{self.path}: cannot read {name}: {error.strerror}") from error
        if len(record) != length or zlib.crc32(record) != self._checksums[index]:
            raise ValueError(
                f"{self.path}: the record of {name} is damaged (its checksum differs); delete the "
                f"file and pack {self.about['data']} again, or copy it again from where it is whole"
            )
        return decode(record)

    def occlusion_known(self, index: int) -> bool:
        """As the data set said."""
        return bool(self._occlusion_known[index])


def digest(names: Sequence[str]) -> str:
    """What tells two lists of samples apart."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def h5py_module() -> Any:
    """Import h5py, or raise ValueError that says how to get it."""
    try:
        import h5py
    except ImportError as error:
        raise ValueError("packed data need h5py: pip install 'stereo-tr[train]'") from error
    return h5py


def _file_of(root: Path, place: str) -> Path:
    if root.is_file():
        return root
    wanted = f"give the folder that holds {place}"
    if not root.exists():
        unfinished = root.with_name(root.name + ".partial")
        if unfinished.exists():
            raise FileNotFoundError(
                f"{root} isn't finished; run the `stereo-tr pack` that began {unfinished} again"
            )
        raise FileNotFoundError(f"{root} doesn't exist; {wanted}")
    files = sorted(path for path in root.glob("*.h5") if not path.name.startswith("."))
    if not files:
        raise FileNotFoundError(f"no packed data set in {root}; {wanted}")
    if len(files) > 1:
        raise ValueError(f"{root} holds {len(files)} packed files; give one, such as {files[0]}")
    return files[0]


def _read_index(path: Path) -> dict[str, Any]:
    h5py = h5py_module()
    try:
        with h5py.File(path, "r", locking=False) as file:
            about = json.loads(file.attrs["about"])
            if about["format"] != FORMAT:
                raise ValueError(f"its format is {about['format']!r}, this program's {FORMAT!r}")
            columns = ("starts", "lengths", "checksums", "names", "occlusion_known")
            index = {name: file[name][:] for name in columns}
            offset = file["records"].id.get_offset()
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise ValueError(
            f"{path}: no whole file of `stereo-tr pack` ({error}); pack the data set again"
        ) from error
    if offset is None:
        raise ValueError(
            f"{path}: its records aren't contiguous any more; was it repacked by another program? "
            "Pack the data set again"
        )
    return index | {"about": about, "offset": offset}
