"""Writes a packed data set, so that a kill at any moment costs at most one sample.

While it grows, OUT.partial is a plain file that is only appended to:

    0           empty
    IDENTITY    JSON: which data set, how many samples
    RESERVED    for each sample MARK, checksum, length, whether occlusion is known; then its record

What a kill leaves is found again by going through it, and a half-written end is cut off. HDF5 alone
couldn't do that: a file that was open when its writer died is often beyond repair. At the end HDF5
lays out an empty file of the same shape, whose `records` begin at RESERVED; what it wrote before
and behind them goes into the empty places of OUT.partial, which is then renamed. So nothing is
copied, and the disk needs room for one file only.

Tests  tests/datasets/test_packed.py; the kills: tests/scripts/test_pack.py
"""

import fcntl
import json
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from .indexed import IndexedPairs
from .packed import FORMAT, digest, h5py_module
from .records import Compress, encode, identical

RESERVED = 2**16
"""bytes before the first record; HDF5 needs about 2,000, attributes included"""
IDENTITY = RESERVED - 2**13
"""where the JSON begins: HDF5's own bytes must end before it"""
PREFIX = struct.Struct("<4sIQB")
MARK = b"pair"
SYNCED = 2**28
"""bytes between two flushes to the disk: what a power failure can cost"""
SMALLEST = 2**12
"""bytes of records at least, so that HDF5 aligns them and not its own small blocks"""


class Encoded(Dataset[tuple[bytes, bool]]):
    """The records of a data set, each with whether occlusion is known."""

    def __init__(self, source: IndexedPairs, compress: Compress) -> None:
        self.source, self.compress = source, compress

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[bytes, bool]:
        return encode(self.source[index], self.compress), self.source.occlusion_known(index)


class Compared(Dataset[str]):
    """For each sample its name where two data sets differ in a bit, and nothing where not."""

    def __init__(self, one: IndexedPairs, other: IndexedPairs) -> None:
        self.one, self.other = one, other

    def __len__(self) -> int:
        return len(self.other)

    def __getitem__(self, index: int) -> str:
        same = identical(self.one[index], self.other[index])
        same = same and self.one.occlusion_known(index) == self.other.occlusion_known(index)
        return "" if same else self.other.entries[index].name


class Packer:
    """Appends records to OUT.partial, from where an earlier run stopped, and finishes OUT.

    about: what `PackedPairs.about` will hold, with `data` and `root` among it; names: of all
    samples, in order. `done` counts the records that are there. Use it in a `with` block. Raises
    ValueError where OUT.partial holds something else, BlockingIOError where another process writes
    it.
    """

    def __init__(self, path: Path, about: dict[str, Any], names: Sequence[str]) -> None:
        self.path, self.partial = path, path.with_name(path.name + ".partial")
        self._names = list(names)
        identity = {"format": FORMAT, "count": len(names), "names": digest(names)}
        self.about = about | identity
        self._starts: list[int] = []
        self._lengths: list[int] = []
        self._checksums: list[int] = []
        self._occlusion_known: list[bool] = []
        self._file = _opened(self.partial)
        try:
            self._begin()
        except BaseException:
            self._file.close()
            raise
        self._synced = self._end = RESERVED

    def __enter__(self) -> "Packer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    @property
    def done(self) -> int:
        """How many samples are there."""
        return len(self._starts)

    def resume(self) -> Iterator[int]:
        """Go through what an earlier run has written, checking it; gives 1, 2, ... as it goes.

        The first record that isn't whole, and all behind it, is cut off.
        """
        with _named(self.partial):
            while self.done < len(self._names):
                prefix = self._read(self._end, PREFIX.size)
                if len(prefix) < PREFIX.size or not prefix.startswith(MARK):
                    break
                _, checksum, length, known = PREFIX.unpack(prefix)
                if self._end + PREFIX.size + length > self.partial.stat().st_size:
                    break
                if zlib.crc32(self._read(self._end + PREFIX.size, length)) != checksum:
                    break
                self._note(checksum, length, bool(known))
                yield self.done
            self._file.truncate(self._end)

    def append(self, record: bytes, occlusion_known: bool) -> None:
        """Add the record of the next sample."""
        checksum = zlib.crc32(record)
        with _named(self.partial):
            prefix = PREFIX.pack(MARK, checksum, len(record), occlusion_known)
            self._write(self._end, prefix + record)
            self._note(checksum, len(record), occlusion_known)
            if self._end - self._synced > SYNCED:
                os.fsync(self._file.fileno())
                self._synced = self._end

    def finish(self) -> None:
        """Make the HDF5 file of it and give it its name. Raises ValueError while samples lack."""
        if self.done < len(self._names):
            raise ValueError(f"{self.partial} holds {self.done} of {len(self._names)} samples")
        size = max(self._end - RESERVED, SMALLEST)
        skeleton = self.path.with_name(self.path.name + ".skeleton")
        with _named(self.partial):
            try:
                self._lay_out(skeleton, size)
                with skeleton.open("rb") as empty:
                    head = empty.read(IDENTITY)
                    empty.seek(RESERVED + size)
                    tail = empty.read()
            finally:
                skeleton.unlink(missing_ok=True)
            self._file.truncate(RESERVED + size)
            self._write(RESERVED + size, tail)
            self._write(0, head)
            os.fsync(self._file.fileno())
            self.partial.replace(self.path)

    def _begin(self) -> None:
        """Write who the file belongs to, or see whether it is the one that is to go on."""
        if self.partial.stat().st_size <= RESERVED:  # new, or killed before the first record
            text = json.dumps(self.about).encode()
            if len(text) > RESERVED - IDENTITY:
                raise ValueError(f"{len(text)} bytes about the data set are too many")
            with _named(self.partial):
                self._file.truncate(0)
                self._file.truncate(RESERVED)
                self._write(IDENTITY, text)
        text = self._read(IDENTITY, RESERVED - IDENTITY).rstrip(b"\0")
        try:
            before = json.loads(text)
            keys = ("format", "data", "root", "names")
            same = all(before[key] == self.about[key] for key in keys)
            data = f"{before['count']} pairs of {before['data']} in {before['root']}"
        except (ValueError, KeyError, TypeError):
            same, data = False, "something else"
        if not same:
            raise ValueError(
                f"{self.partial} holds {data}, not the {self.about['count']} of "
                f"{self.about['data']} in {self.about['root']}; delete it, or give another --out"
            )

    def _note(self, checksum: int, length: int, occlusion_known: bool) -> None:
        self._starts.append(self._end + PREFIX.size - RESERVED)
        self._lengths.append(length)
        self._checksums.append(checksum)
        self._occlusion_known.append(occlusion_known)
        self._end += PREFIX.size + length

    def _lay_out(self, path: Path, size: int) -> None:
        """An HDF5 file with the index and room for the records, of which nothing is written."""
        h5py = h5py_module()
        layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        with h5py.File(
            path, "w", alignment_threshold=SMALLEST, alignment_interval=RESERVED
        ) as file:
            # of fixed length: h5py keeps others in a heap, which would take the records' place
            file.attrs["about"] = np.bytes_(json.dumps(self.about).encode())
            records = file.create_dataset("records", (size,), np.uint8, dcpl=layout)
            if records.id.get_offset() != RESERVED:
                raise ValueError(
                    f"this HDF5 ({h5py.version.hdf5_version}) lays files out in another way, "
                    f"records at {records.id.get_offset()}; take the h5py of constraints.txt"
                )
            file["starts"] = np.array(self._starts, np.int64)
            file["lengths"] = np.array(self._lengths, np.int64)
            file["checksums"] = np.array(self._checksums, np.uint32)
            file["names"] = np.array([name.encode() for name in self._names], np.bytes_)
            file["occlusion_known"] = np.array(self._occlusion_known, bool)

    def _read(self, start: int, length: int) -> bytes:
        """`length` bytes, or fewer at the end of the file."""
        parts = []
        while length and (part := os.pread(self._file.fileno(), length, start)):
            parts.append(part)
            start, length = start + len(part), length - len(part)
        return b"".join(parts)

    def _write(self, start: int, data: bytes) -> None:
        """All of it, without a buffer that would try again when the file is closed."""
        rest = memoryview(data)
        while rest:
            written = os.pwrite(self._file.fileno(), rest, start)
            start, rest = start + written, rest[written:]


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Let an OSError say which file couldn't be written, and that nothing is lost."""
    try:
        yield
    except OSError as error:
        raise type(error)(
            f"cannot write {path}: {error.strerror or error}; what is there stays, and the same "
            "command goes on with it"
        ) from error


def _opened(path: Path) -> FileIO:
    """Open for reading and writing, new or not, and keep other processes out."""
    with _named(path):
        file = FileIO(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise BlockingIOError(f"{path} is being written by another process") from error
    except OSError:
        pass  # a file system that knows no locks
    return file
