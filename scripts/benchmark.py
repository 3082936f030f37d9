"""Time, memory and arithmetic of models, measured in turn on the same pair.

    stereo-tr benchmark
    stereo-tr benchmark --models cstr cstr_small sttr_light --sizes 480x640 384x768 --peer sgbm

Prints a Markdown table; every ratio is against the first model. Each model runs in a process of its
own, through `StereoMatcher`, on a generated pair; what each number means is PROTOCOL, printed below
the table. The time doesn't depend on the weights, so models without packaged ones run with random
ones.

Tests  tests/scripts/test_benchmark.py
"""

import json
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from stereo_tr.scripts.command import NO_DEFAULT, run

if TYPE_CHECKING:
    from torch import Tensor

    from stereo_tr.matcher import StereoMatcher

SEED = 0
"""of the generated pair; another pair takes the same time"""

PROTOCOL = (
    "Seconds: median (fastest to slowest) of the runs of one pair, its views arrays in memory, in "
    "turn with the other models, after one run that isn't counted. Peak memory: resident, of a "
    "process that has run nothing else, Python and torch included. Multiply-accumulates: of matrix "
    "products, convolutions and attention; nothing else is counted. All of it at the scales that "
    "the model asks for: cstr_small sees a pair twice, and a small pair enlarged."
)


@dataclass(frozen=True)
class Benchmark:
    """Settings of one benchmark."""

    models: tuple[str, ...] = ("cstr", "cstr_small")
    """names of models; the first is what the others are compared with"""
    sizes: tuple[str, ...] = ("480x640",)
    """sizes of the pair in pixels, HEIGHTxWIDTH each"""
    runs: int = 5
    """timed runs of each model at each size"""
    threads: Annotated[int | None, NO_DEFAULT] = None
    """threads of each model (default: what torch and OpenCV take, the cores)"""
    device: str = "cpu"
    """where the models run: cpu, cuda, ..."""
    peer: Annotated[Literal["sgbm"] | None, NO_DEFAULT] = None
    """sgbm: OpenCV's StereoSGBM too, in both modes"""
    json: Annotated[Path | None, NO_DEFAULT] = None
    """write the same numbers to this file"""


class Facts(NamedTuple):
    """What doesn't change from run to run."""

    parameters: int | None
    multiply_accumulates: int | None
    """None where the method is no network"""
    threads: int


@dataclass(frozen=True)
class Row:
    """One method at one size."""

    model: str
    height: int
    width: int
    seconds: tuple[float, ...]
    """of each run, in their order"""
    median_seconds: float
    times_as_fast: float
    """as the first model at this size"""
    peak_bytes: int
    parameters: int | None
    multiply_accumulates: int | None
    threads: int


def benchmark(settings: Benchmark) -> list[Row]:
    """Measure what `settings` ask for, print it, and write the file that they name.

    Raises ValueError for an unknown model or an impossible size, MemoryError where a process dies
    for lack of memory.
    """
    from stereo_tr.datasets.files import atomic, writable_folder

    sizes = [_size(text) for text in settings.sizes]
    methods = _methods(settings)
    if settings.json:
        writable_folder(settings.json.parent)
    rows = [row for size in sizes for row in _measure(methods, size, settings)]
    print(as_table(rows))
    print("\n" + PROTOCOL.replace(". ", ".\n"))
    about = _about()
    print(f"{about['processor']}, {about['cores']} cores, {about['python']}, {about['torch']}")
    if settings.json:
        found = {"rows": [asdict(row) for row in rows], "protocol": PROTOCOL, **about}
        with atomic(settings.json) as path:
            path.write_text(json.dumps(found, indent=1) + "\n")
        print(f"{settings.json} holds the same numbers")
    return rows


def _size(text: str) -> tuple[int, int]:
    from stereo_tr.matcher import SMALLEST_SIDE

    parts = text.split("x")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise ValueError(f"--sizes takes HEIGHTxWIDTH (480x640), not {text!r}")
    height, width = map(int, parts)
    if min(height, width) < SMALLEST_SIDE:
        raise ValueError(f"--sizes {text}: at least {SMALLEST_SIDE}x{SMALLEST_SIDE} px are needed")
    return height, width


def _methods(settings: Benchmark) -> list[str]:
    """Names of all methods; refuse what can't be measured before anything takes time."""
    import torch

    from stereo_tr.pretrained import create_model
    from stereo_tr.scripts import peers

    if settings.runs < 1 or (settings.threads is not None and settings.threads < 1):
        raise ValueError("--runs and --threads must be 1 or more")
    if not settings.models:
        raise ValueError("--models needs at least one name")
    if len(set(settings.models)) < len(settings.models):
        raise ValueError("--models names a model twice")
    for name in settings.models:
        with torch.device("meta"):  # a wrong name is told at once; no weights are drawn for it
            create_model(name)
    return [*settings.models, *(peers.MODES if settings.peer else ())]


def _measure(methods: Sequence[str], size: tuple[int, int], settings: Benchmark) -> list[Row]:
    """Measure all methods at one size, each in a process of its own, run by run in turn."""
    from stereo_tr.progress import progress

    fresh = multiprocessing.get_context("spawn")
    with ExitStack() as processes:
        workers = {}
        for method in methods:
            workers[method] = processes.enter_context(ProcessPoolExecutor(1, fresh))

        def ask(method: str, function: Callable[..., Any], *arguments: Any) -> Any:
            try:
                return workers[method].submit(function, *arguments).result()
            except BrokenProcessPool as error:
                raise MemoryError(
                    f"{method} at {size[0]}x{size[1]} px: its process was ended, most likely for "
                    "lack of memory; leave out this size or this model"
                ) from error

        peaks, facts = {}, {}
        for method in methods:  # one after the other, so that no two need their peak at once
            ask(method, _prepare, method, size, settings.threads, settings.device)
            ask(method, _run)
            peaks[method] = ask(method, peak_memory)
            facts[method] = ask(method, _facts)
        seconds: dict[str, list[float]] = {method: [] for method in methods}
        for _ in progress(range(settings.runs), label=f"{size[0]}x{size[1]}"):
            for method in methods:
                seconds[method].append(ask(method, _run))
    medians = {method: statistics.median(seconds[method]) for method in methods}
    return [
        Row(
            method,
            *size,
            seconds=tuple(seconds[method]),
            median_seconds=medians[method],
            times_as_fast=medians[methods[0]] / medians[method],
            peak_bytes=peaks[method],
            **facts[method]._asdict(),
        )
        for method in methods
    ]


# From here to `peak_memory` all runs in the process of one method. `_prepare` leaves it its work.
_work: Callable[[], object]
_network: "tuple[StereoMatcher, Tensor, Tensor] | None" = None


def _prepare(method: str, size: tuple[int, int], threads: int | None, device: str) -> None:
    """Make the pair and the method of this process."""
    global _work, _network
    import cv2
    import torch

    from stereo_tr.datasets.generated import GeneratedScenes
    from stereo_tr.matcher import prepare_views
    from stereo_tr.scripts import peers

    if threads is not None:
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
    sample = GeneratedScenes(*size, seed=SEED, photographs=False)[0]
    views = [view.permute(1, 2, 0).numpy() for view in (sample.left, sample.right)]
    if method in peers.MODES:
        largest = sample.disparity.max().item()
        _work = partial(peers.match, *views, largest, method)
        return
    matcher = _matcher(method, device)
    _network = (matcher, *(view[None].to(device) for view in prepare_views(*views)))
    _work = partial(matcher, *views)


def _matcher(name: str, device: str) -> Any:
    """The model as users run it; with random weights where none come along."""
    import torch

    from stereo_tr.matcher import StereoMatcher
    from stereo_tr.pretrained import create_model, packaged_weights

    try:
        weights = packaged_weights(name)
    except ValueError:
        torch.manual_seed(SEED)
        return StereoMatcher(create_model(name), device)
    return StereoMatcher.from_pretrained(weights, device=device)


def _run() -> float:
    """Seconds of one run."""
    start = time.perf_counter()
    _work()  # its result lies in NumPy arrays, so a GPU has finished
    return time.perf_counter() - start


def _facts() -> Facts:
    import cv2
    import torch

    from stereo_tr.stereo.scales import match_at_scales

    if _network is None:
        return Facts(None, None, cv2.getNumThreads())
    matcher, left, right = _network
    parameters = sum(parameter.numel() for parameter in matcher.model.parameters())
    work = partial(match_at_scales, matcher.model, left, right, matcher.scales)
    return Facts(parameters, multiply_accumulates(work), torch.get_num_threads())


def multiply_accumulates(work: Callable[[], Any]) -> int:
    """Count the multiplications in matrix products, convolutions and attention while `work` runs.

    Fused attention is counted in its written-out form, because torch's counter doesn't know the
    fused kernel of a CPU.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        work()
    return counter.get_total_flops() // 2  # a multiplication and an addition each


def peak_memory() -> int:
    """Largest resident memory of this process so far, in bytes.

    `getrusage` is no help on Linux: a new process starts with its parent's peak there.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        return 1024 * int(status.read_text().split("VmHWM:")[1].split()[0])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def as_table(rows: Sequence[Row]) -> str:
    """Lay the rows out as Markdown that reads well as it is, too."""
    head = (
        "height x width",
        "model",
        "threads",
        "parameters",
        "multiply-accumulates",
        "seconds",
        f"times as fast as {rows[0].model}",
        "peak memory",
    )
    table = [head, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(head))]
    table.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in table
    )


def _cells(row: Row) -> tuple[str, ...]:
    def scaled(value: int | None, unit: float, ending: str) -> str:
        return "-" if value is None else f"{value / unit:.2f} {ending}"

    return (
        f"{row.height}x{row.width}",
        row.model,
        str(row.threads),
        scaled(row.parameters, 1e6, "M"),
        scaled(row.multiply_accumulates, 1e9, "G"),
        f"{row.median_seconds:.3f} ({min(row.seconds):.3f} to {max(row.seconds):.3f})",
        f"{row.times_as_fast:.2f}",
        scaled(row.peak_bytes, 1e9, "GB"),
    )


def _about() -> dict[str, Any]:
    """The machine and the versions."""
    import torch

    information = Path("/proc/cpuinfo")
    names = [
        line.partition(":")[2].strip()
        for line in (information.read_text().splitlines() if information.is_file() else ())
        if line.startswith("model name")
    ]
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "python": f"Python {platform.python_version()}",
        "torch": f"torch {torch.__version__}",
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `stereo-tr benchmark`."""
    run(Benchmark, benchmark, "benchmark", __doc__.partition("\n")[0], arguments)


if __name__ == "__main__":
    main()
