"""What a benchmark's server asks for: disparity maps under its names, in its formats, zipped.

    stereo-tr submit --benchmark kitti2015 --root ~/data/kitti2015 --out submission

    kitti2012           000000_10.png                    16 bit, disparity * 256, 0 = invalid
    kitti2015           disp_0/000000_10.png             the same
    middlebury_v3_q     trainingQ/Piano/disp0METHOD.pfm  float32, pixels of that size; also _h, _f
                                       timeMETHOD.txt    seconds, nothing else
                        testQ/...
    eth3d               low_res_two_view/delivery_area_1l.pfm   of both splits
                                         delivery_area_1l.txt   "runtime 1.23", seconds

The folder --out holds the files as the archive does, and, beside them, the archive. KITTI takes its
test pairs alone. Middlebury and ETH3D take test and training pairs; a split whose folder isn't
there is left out, which is told. Truth isn't needed. With torchrun, n processes share the pairs.

Source  https://www.cvlibs.net/datasets/kitti/user_submit.php, development kits of 2012 and 2015
        https://vision.middlebury.edu/stereo/submit3/upload-format.html
        https://www.eth3d.net/documentation, result submission
Tests   tests/scripts/test_submit.py
"""

import re
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Literal

from stereo_tr.scripts.command import NO_DEFAULT, run

if TYPE_CHECKING:
    import numpy as np

    from stereo_tr.datasets.indexed import IndexedPairs

Benchmark = Literal[
    "kitti2012", "kitti2015", "middlebury_v3_f", "middlebury_v3_h", "middlebury_v3_q", "eth3d"
]
METHOD_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]*"
"""what a method may be called: a part of Middlebury's file names, of which "_s" at the end says
that a map is sparse"""
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # zip's first moment: the same maps make the same archive


@dataclass(frozen=True)
class Submit:
    """Settings of `stereo-tr submit`."""

    benchmark: Benchmark
    """whose server the archive is for"""
    root: Path
    """the data set's folder, as `stereo-tr check --data BENCHMARK` wants it"""
    out: Path
    """folder for the files and the archive; made if it isn't there"""
    method: Annotated[str | None, NO_DEFAULT] = None
    """what the method is called in the benchmark's table (default: the model's name)"""
    weights: Annotated[str | None, NO_DEFAULT] = None
    """weights: a file or a packaged name (default: the packaged ones)"""
    model: Annotated[str | None, NO_DEFAULT] = None
    """the model's name, where the weights don't tell"""
    device: str = "cpu"
    """where to compute: cpu, cuda, cuda:1, mps ..."""


def submit(settings: Submit) -> Path:
    """Match every pair that the benchmark asks for; return the path of the archive.

    Raises ValueError or OSError, naming the file, for what can't be read or written.
    """
    from stereo_tr.datasets.files import writable_folder
    from stereo_tr.matcher import StereoMatcher
    from stereo_tr.processes import Processes
    from stereo_tr.progress import progress

    method = settings.method or settings.model or _model_name(settings.weights)
    if not re.fullmatch(METHOD_NAME, method) or method.endswith("_s"):
        raise ValueError(
            f"--method {method!r}: letters, digits, - and _ make a file name, without _s at the "
            'end, which says "sparse" at Middlebury'
        )
    splits, remarks = _splits(settings.benchmark, settings.root.expanduser())
    pairs = [(split, index) for split in splits for index in range(len(split))]
    with Processes(settings.device) as processes:
        matcher = StereoMatcher.from_pretrained(
            weights=settings.weights, model=settings.model, device=processes.device
        )
        writable_folder(settings.out)
        mine = pairs[processes.rank :: processes.count]
        steps = progress(mine, label="pairs", hidden=not processes.first)
        names: list[str] = []
        for split, index in steps:
            names += _write_pair(settings, method, matcher, split, index)
        names = sorted(processes.gather(names))
        archive = settings.out / f"{settings.benchmark}_{method}.zip"
        if processes.first:
            _write_archive(archive, settings.out, names)
            print("\n".join([*remarks, f"{len(pairs)} pairs; upload {archive}"]))
        processes.wait()  # a process that ended now would take the others down with it
    return archive


def _model_name(weights: str | None) -> str:
    """What the weights say they are of: a table must not name another model than was run."""
    from stereo_tr.exported import is_exported, open_session
    from stereo_tr.matcher import DEFAULT_MODEL
    from stereo_tr.pretrained import read_metadata

    if weights is None:
        return DEFAULT_MODEL
    if is_exported(weights):
        name = open_session(weights).get_modelmeta().custom_metadata_map.get("model")
    else:
        name = read_metadata(weights).get("model")
    if not name:
        raise ValueError(f"{weights} doesn't say of which model it is; give --method NAME")
    return name


def _splits(benchmark: str, root: Path) -> "tuple[list[IndexedPairs], list[str]]":
    """The pairs to match, and what is worth telling about them."""
    from stereo_tr.datasets.eth3d import Eth3d
    from stereo_tr.datasets.kitti import Kitti2012, Kitti2015
    from stereo_tr.datasets.middlebury import MiddleburyV3

    if benchmark.startswith("kitti"):
        kitti = Kitti2012 if benchmark == "kitti2012" else Kitti2015
        splits, remarks = [kitti(root, "testing")], []
    else:
        size = benchmark[-1].upper()  # eth3d has but one
        folder = "two_view_{}" if benchmark == "eth3d" else f"{{}}{size}"
        there = {
            split: any(
                (root / above / folder.format(split)).is_dir() for above in ("", "MiddEval3")
            )
            for split in ("test", "training")
        }
        # Where neither is there, opening the first one says what is wanted.
        wanted = [split for split, found in there.items() if found] or ["test"]
        splits = [
            Eth3d(root, split, truth=False)
            if benchmark == "eth3d"
            else MiddleburyV3(root, size, split, truth=False)
            for split in wanted
        ]
        remarks = [
            f"left out: there is no folder {folder.format(split)} in {root}"
            for split, found in there.items()
            if not found
        ]
    for pairs in splits:
        if len(pairs) not in pairs.published:
            published = " or ".join(map(str, pairs.published))
            remarks.append(
                f"{pairs.title}: {len(pairs)} pairs, but {published} are published: the server "
                f"will refuse this; see `stereo-tr check --data {benchmark}`"
            )
    return splits, remarks


def _write_pair(
    settings: Submit, method: str, matcher: Callable, split: "IndexedPairs", index: int
) -> list[str]:
    """Match one pair and write its files; return their names below --out."""
    from stereo_tr.datasets.files import writable_folder, write_files

    entry = split.entries[index]
    views = [split.root / str(entry.files[side]) for side in ("left", "right")]
    start = time.perf_counter()
    disparity = matcher(*views).disparity
    seconds = time.perf_counter() - start
    contents = dict(_contents(settings.benchmark, method, entry.name, disparity, seconds))
    paths = {settings.out / name: content for name, content in contents.items()}
    for path in paths:
        writable_folder(path.parent)
    write_files(paths)
    return list(contents)


def _contents(
    benchmark: str, method: str, name: str, disparity: "np.ndarray", seconds: float
) -> Iterator[tuple[str, bytes]]:
    """File names as the server asks, and what is in them."""
    from stereo_tr.datasets.files import encode_disparity_png, encode_pfm

    *_, above, scene = ("", *PurePosixPath(name).parts)
    if benchmark.startswith("kitti"):
        folder = "disp_0/" if benchmark == "kitti2015" else ""
        yield f"{folder}{scene}.png", encode_disparity_png(disparity)
    elif benchmark == "eth3d":
        yield f"low_res_two_view/{scene}.pfm", encode_pfm(disparity)
        yield f"low_res_two_view/{scene}.txt", f"runtime {seconds:.3f}\n".encode()
    else:
        yield f"{above}/{scene}/disp0{method}.pfm", encode_pfm(disparity)
        yield f"{above}/{scene}/time{method}.txt", f"{seconds:.3f}\n".encode()


def _write_archive(archive: Path, folder: Path, names: Sequence[str]) -> None:
    from stereo_tr.datasets.files import atomic

    with atomic(archive) as path, zipfile.ZipFile(path, "w") as file:
        for name in names:
            entry = zipfile.ZipInfo(name, _LONG_AGO)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            file.writestr(entry, (folder / name).read_bytes())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `stereo-tr submit`."""
    run(Submit, submit, "submit", __doc__.partition("\n")[0], arguments)


if __name__ == "__main__":
    main()
