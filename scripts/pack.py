"""Pack a data set into one HDF5 file that is read several times as fast, losing no bit of a pair.

    stereo-tr pack --data sceneflow --root ~/data/sceneflow --out sceneflow.h5 --workers 8
    stereo-tr pack --data sceneflow --root ~/data/sceneflow --out sceneflow.h5 --verify
    stereo-tr evaluate --data packed --root sceneflow.h5

Run again after a stop of any kind, it goes on where it was; where the file is finished, it only
does what --verify and --measure ask for. What lies in the file: datasets/packed.py; KITTI 2015's
obj_map doesn't, so that D1-bg and D1-fg need the raw folder.

Tests  tests/scripts/test_pack.py
"""

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

# Absolute, so that `python scripts/pack.py` works as well.
from stereo_tr.scripts.command import run

if TYPE_CHECKING:
    from torch.utils.data import Dataset

    from stereo_tr.datasets.indexed import IndexedPairs
    from stereo_tr.datasets.packed import PackedPairs


@dataclass(frozen=True)
class Pack:
    """Settings of one packing."""

    data: str
    """name of the data set; a wrong one lists those that are known"""
    root: Path
    """folder that its loader's description draws"""
    out: Path
    """file to write, NAME.h5"""
    compress: Literal["truth", "all", "none"] = "truth"
    """what is deflated: truth makes the file smaller than the raw files, and quick to read; all is
    smaller still, and slower; none is the quickest where the disk or its cache keeps up"""
    workers: int = 0
    """processes that read and encode beside this one"""
    verify: bool = False
    """read both the file and what it came from once more, and compare them bit by bit"""
    measure: int = 0
    """time reading of this many pairs, from the raw files and from the packed one"""


class Speed(NamedTuple):
    """How fast pairs are read, by one process, in an order that jumps about as training does."""

    megabytes: float
    """a pair, on disk"""
    cold: float | None
    """pairs a second, none of the file in memory; None where the system can't be told to forget"""
    warm: float
    """pairs a second, all of the file in memory"""


@dataclass(frozen=True)
class Packed:
    """What a run did."""

    pairs: int
    packed_now: int
    seconds: float
    bytes: int
    raw_bytes: int
    verified: bool
    speeds: dict[str, Speed]
    """of "raw files" and "packed"; empty unless measured"""
    remarks: tuple[str, ...]
    """what the source has and the file hasn't"""


def pack(settings: Pack) -> Packed:
    """Pack what isn't packed yet; verify and measure if asked for.

    Raises ValueError or OSError, naming the file, for what can't be read, written or confirmed.
    """
    from stereo_tr.datasets.files import writable_folder
    from stereo_tr.datasets.packed import PackedPairs, digest
    from stereo_tr.datasets.registry import open_dataset

    for name in ("workers", "measure"):
        if getattr(settings, name) < 0:
            raise ValueError(f"--{name} {getattr(settings, name)}: give 0 or more")
    if settings.out.suffix != ".h5":
        raise ValueError(f"--out {settings.out}: give a file that ends in .h5")
    writable_folder(settings.out.absolute().parent)
    source = open_dataset(settings.data, settings.root)
    start, packed_now = time.perf_counter(), 0
    if not settings.out.exists():
        packed_now = _write(settings, source)
    seconds = time.perf_counter() - start
    packed = PackedPairs(settings.out)
    names = [entry.name for entry in source.entries]
    if packed.about["names"] != digest(names):
        raise ValueError(
            f"{settings.out} holds {len(packed)} pairs of {packed.about['data']}, others than the "
            f"{len(source)} of {settings.data} in {settings.root}; delete it, or give another --out"
        )
    # Equal names tell little: two folders of numbered pairs, or two renderings of the same scenes.
    held = packed.about["data"], packed.about["root"]
    wanted = settings.data, str(source.root)
    if held[0] != wanted[0] or (held[1] != wanted[1] and not settings.verify):
        moved = "; or see with --verify whether they are the same" if held[0] == wanted[0] else ""
        raise ValueError(
            f"{settings.out} holds {' of '.join(held)}, not {' of '.join(wanted)}; delete it, or "
            f"give another --out{moved}"
        )
    if settings.verify:
        _verify(settings, packed, source)
    return Packed(
        pairs=len(packed),
        packed_now=packed_now,
        seconds=seconds,
        bytes=settings.out.stat().st_size,
        raw_bytes=sum(path.stat().st_size for path in _files(source, range(len(source)))),
        verified=settings.verify,
        speeds=_measure(settings.measure, packed, source) if settings.measure else {},
        remarks=_remarks(source),
    )


def _remarks(source: "IndexedPairs") -> tuple[str, ...]:
    """What would only be missed much later, as dashes in a table."""
    from stereo_tr.datasets.kitti import Kitti2015

    if isinstance(source, Kitti2015):
        left = source.root / str(source.entries[0].files["left"])
        if (left.parents[1] / "obj_map").is_dir():
            return ("obj_map isn't packed: D1-bg and D1-fg of `evaluate` need the raw folder",)
    return ()


def _write(settings: Pack, source: "IndexedPairs") -> int:
    """Pack what an earlier run hasn't; returns how many pairs that were."""
    from stereo_tr.datasets.packed import h5py_module
    from stereo_tr.datasets.packing import RESERVED, Encoded, Packer
    from stereo_tr.progress import progress

    h5py_module()  # before hours of work, not after
    about = {
        "data": settings.data,
        "root": str(source.root),
        "required": source.required,
        "published": source.published,
        "size": source.size,
    }
    names = [entry.name for entry in source.entries]
    with Packer(settings.out, about, names) as packer:
        if packer.partial.stat().st_size > RESERVED:  # an earlier run's records
            for _ in progress(packer.resume(), total=len(names), label="checking what is there"):
                pass
        before = packer.done
        records = _each(Encoded(source, settings.compress), before, settings.workers)
        for record, known in progress(records, total=len(names), label="packing", initial=before):
            packer.append(record, known)
        packer.finish()
        return packer.done - before


def _verify(settings: Pack, packed: "PackedPairs", source: "IndexedPairs") -> None:
    from stereo_tr.datasets.packing import Compared
    from stereo_tr.progress import progress

    problems = _each(Compared(packed, source), 0, settings.workers)
    for problem in progress(problems, total=len(source), label="verifying"):
        if problem:
            raise ValueError(
                f"{settings.out}: {problem} isn't what {settings.root} holds now; if that is right "
                "as it is, delete the file and pack it again"
            )


def _each(dataset: "Dataset", start: int, workers: int) -> Iterable[Any]:
    """Go through the items from `start` on, in order."""
    from stereo_tr.training_data import StepBatches, make_loader, read

    one_by_one = StepBatches(start, len(dataset), batch=1, rank=0, count=1)
    return read(make_loader(dataset, one_by_one, workers, _only))


def _only(items: Sequence[Any]) -> Any:
    return items[0]


def _measure(count: int, packed: "PackedPairs", source: "IndexedPairs") -> dict[str, Speed]:
    """Time both, on the same pairs in the same order."""
    import numpy as np

    from stereo_tr.progress import progress

    order = np.random.default_rng(0).permutation(len(source))[:count].tolist()
    raw_files = list(_files(source, order))
    raw_bytes = sum(path.stat().st_size for path in raw_files) / len(order)
    speeds = {}
    runs = [
        ("raw files", source, raw_files, raw_bytes),
        ("packed", packed, [packed.path], packed.path.stat().st_size / len(packed)),
    ]
    for name, pairs, files, size in progress(runs, label="measuring"):
        pairs[order[0]]  # what is imported or set up at the first pair isn't timed
        forgotten = sum(map(_forget, files)) == len(files)
        first = _rate(pairs, order)
        speeds[name] = Speed(size / 1e6, first if forgotten else None, _rate(pairs, order))
    return speeds


def _rate(pairs: "IndexedPairs", order: list[int]) -> float:
    start = time.perf_counter()
    for index in order:
        pairs[index]
    return len(order) / (time.perf_counter() - start)


def _files(source: "IndexedPairs", order: Iterable[int]) -> Iterable[Path]:
    for index in order:
        yield from (source.root / path for path in source.entries[index].files.values() if path)


def _forget(path: Path) -> bool:
    """Drop a file from the system's memory, and no other's; whether that can be asked for."""
    if not hasattr(os, "posix_fadvise"):
        return False
    with path.open("rb") as file:
        os.fsync(file.fileno())  # what isn't on the disk yet would stay
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True


def _print_packed(settings: Pack) -> None:
    done = pack(settings)
    print(
        f"{settings.out}: {done.pairs:,} pairs, {done.bytes / 1e6:,.1f} MB "
        f"({done.bytes / 1e6 / done.pairs:.2f} MB a pair); the raw files "
        f"{done.raw_bytes / 1e6:,.1f} MB"
    )
    for remark in done.remarks:
        print(remark)
    if done.packed_now:
        rate = done.packed_now / done.seconds
        print(f"packed {done.packed_now:,} now, {rate:.1f} a second")
    if done.verified:
        print(f"verified: all {done.pairs:,} are what {settings.root} holds, bit by bit")
    if done.speeds:
        print(f"{'pairs a second':<16}{'cold':>8}{'warm':>8}{'MB a pair':>12}")
    for name, speed in done.speeds.items():
        cold = "?" if speed.cold is None else f"{speed.cold:.1f}"
        print(f"{name:<16}{cold:>8}{speed.warm:>8.1f}{speed.megabytes:>12.2f}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `stereo-tr pack`."""
    run(Pack, _print_packed, "pack", __doc__.partition("\n")[0], arguments)


if __name__ == "__main__":
    main()
