"""Time, memory and arithmetic of models, measured in turn on the same pair.

    stereo-tr benchmark
    stereo-tr benchmark --models cstr cstr_small sttr_light --sizes 480x640 384x768 --peer sgbm
    stereo-tr benchmark --models cstr sttr --sizes 384x768 --baseline textbook
    stereo-tr benchmark --models cstr --sizes 160x320 --baseline textbook --training
    stereo-tr benchmark --models cstr cstr_small --sizes 384x768 540x960 --memory
    stereo-tr benchmark --models cstr_small --formats onnx torchscript
    stereo-tr benchmark --models cstr_small --precision bf16
    stereo-tr benchmark --models vit_base_patch16_224 swin_tiny_patch4_window7_224 --sizes 224x224

Prints a Markdown table; each method runs in a process of its own, stereo models through
`StereoMatcher` on a generated pair. What each number means is PROTOCOL, printed below the table.

Tests  tests/scripts/test_benchmark.py
"""

import json
import multiprocessing
import os
import platform
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from stereo_tr.scripts import benchmark_tables, ceilings, measuring
from stereo_tr.scripts.command import NO_DEFAULT, run

PROTOCOL = (
    "Seconds: median (fastest to slowest) of the runs of one pair (or picture), its views arrays "
    "in memory, in turn with the other methods, after one run that isn't counted. Peak memory: "
    "resident, of a process that has run nothing else, Python and torch included. "
    "Multiply-accumulates: of matrix products, convolutions and attention; nothing else is "
    "counted. Share of peak: of the rate at which the same threads multiply large float32 matrices "
    "in the faster of torch's libraries; on a GPU, of that in the models' precision. Bandwidth "
    "(GPU): the sizes of all tensors that torch's operations read and write, over the rate of a "
    "large copy; peak memory there is that of the tensors. All of it at the scales that the model "
    "asks for: cstr_small sees a pair twice, and a small pair enlarged. Textbook: every tensor of "
    "the model's equations made whole, the same weights. NAME:onnx, NAME:torchscript and "
    "NAME:pt2: the exported file, run by onnxruntime and by torch. A training step: forward, "
    "backward, optimizer, one pair; its arithmetic is taken as three times the forward pass's."
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
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    """of matrix products and convolutions; fp16 on CUDA only"""
    formats: tuple[Literal["onnx", "torchscript", "pt2"], ...] = ()
    """files to export each model to and to run beside it, on the CPU"""
    baseline: Annotated[Literal["textbook"] | None, NO_DEFAULT] = None
    """textbook: beside each published model the same equations with every tensor made whole"""
    peer: Annotated[Literal["sgbm"] | None, NO_DEFAULT] = None
    """sgbm: OpenCV's StereoSGBM too, in both modes"""
    training: bool = False
    """measure a training step in place of inference"""
    max_memory: Annotated[str | None, NO_DEFAULT] = None
    """what a stereo model's process may take, like 2GB; the result is the same up to rounding"""
    memory: bool = False
    """one run a size: predicted and measured memory by image size, no times"""
    profile: bool = False
    """also name the ten operations that took longest"""
    json: Annotated[Path | None, NO_DEFAULT] = None
    """write the same numbers to this file"""


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
    times_as_fast_as_textbook: float | None
    """None where the textbook wasn't measured"""
    memory_of_textbook: float | None
    """peak memory as a share of the textbook's"""
    images_per_second: float
    """pairs, for stereo models"""
    peak_bytes: int
    predicted_bytes: int | None
    parameters: int | None
    multiply_accumulates: int | None
    share_of_peak: float | None
    """of the measured rate of matrix products"""
    bytes_moved: int | None
    """that torch's operations read and write, on a GPU"""
    share_of_bandwidth: float | None
    """of the measured rate at which a GPU copies"""
    threads: int
    operations: tuple[measuring.Operation, ...] = ()


def benchmark(settings: Benchmark) -> list[Row]:
    """Measure what `settings` ask for, print it, and write the file that they name.

    Raises ValueError for an unknown model or an impossible size, FileNotFoundError where there is
    no textbook, MemoryError where a process dies for lack of memory.
    """
    from stereo_tr.datasets.files import atomic, writable_folder

    sizes = [_size(text) for text in settings.sizes]
    methods = _methods(settings)
    if settings.json:
        writable_folder(settings.json.parent)
    on_gpu = settings.device.startswith("cuda")
    rate = measuring.alone(
        ceilings.matrix_product_rate, settings.threads, settings.device, settings.precision
    )
    bandwidth = measuring.alone(ceilings.copy_rate, settings.device) if on_gpu else None
    with tempfile.TemporaryDirectory() as folder:
        files = _export(settings, Path(folder))
        rows = [
            row
            for size in sizes
            for row in _measure(methods, size, settings, files, rate, bandwidth)
        ]
    if settings.memory:
        print(benchmark_tables.memory_table(rows))
    else:
        print(benchmark_tables.as_table(rows))
    for row in rows if settings.profile else ():
        print("\n" + benchmark_tables.profile_table(row))
    print("\n" + PROTOCOL.replace(". ", ".\n"))
    about = _about(settings.device) | {"matrix_products_per_second": rate}
    speed = f"{2 * rate / 1e9:.0f} GFLOP/s in matrix products"
    if bandwidth is not None:
        about["bytes_copied_per_second"] = bandwidth
        speed += f" ({settings.precision}), {bandwidth / 1e9:.0f} GB/s in copies"
    machine = f"{about['processor']}, {about['cores']} cores"
    print(f"{machine}, {about['python']}, {about['torch']}, {speed}")
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

    from stereo_tr.devices import autocast, usable_device
    from stereo_tr.exporting import graph_of
    from stereo_tr.memory_need import in_bytes
    from stereo_tr.pretrained import create_model
    from stereo_tr.scripts import peers

    if settings.runs < 1 or (settings.threads is not None and settings.threads < 1):
        raise ValueError("--runs and --threads must be 1 or more")
    if not settings.models:
        raise ValueError("--models needs at least one name")
    if len(set(settings.models)) < len(settings.models):
        raise ValueError("--models names a model twice")
    if settings.max_memory is not None:
        in_bytes(settings.max_memory)
    autocast(usable_device(settings.device), settings.precision)
    whole = settings.training or settings.device != "cpu" or settings.precision != "float32"
    if settings.formats and whole:
        raise ValueError(
            "--formats runs files on the cpu, in float32, without training; leave out --training, "
            "--device and --precision"
        )
    if len(set(settings.formats)) < len(settings.formats):
        raise ValueError("--formats names a format twice")
    if settings.training and settings.peer:
        raise ValueError("sgbm can't be trained; leave out --peer sgbm, or --training")
    methods = []
    for name in settings.models:
        with torch.device("meta"):  # a wrong name is told at once; no weights are drawn for it
            model = create_model(name)
        methods.append(name)
        if settings.formats:
            graph_of(model, name)  # refuses what can't be exported
        methods += (f"{name}:{form}" for form in settings.formats)
        if settings.baseline and type(model).__name__ == "PublishedStereo":
            methods.append(name + measuring.TEXTBOOK)
    if settings.baseline and methods == list(settings.models):
        raise ValueError("--baseline textbook is for the published models cstr, sttr, sttr_light")
    if settings.baseline:
        measuring.textbook_file()
    return [*methods, *(peers.MODES if settings.peer else ())]


def _export(settings: Benchmark, folder: Path) -> dict[str, Path]:
    """Write the files that are to be run; by the names of their methods."""
    from stereo_tr.exporting import FORMATS

    files = {}
    for form in settings.formats:
        for name in settings.models:
            path = files[f"{name}:{form}"] = folder / f"{name}{FORMATS[form]}"
            measuring.alone(measuring.write_file, name, form, path)
    return files


def _measure(
    methods: Sequence[str],
    size: tuple[int, int],
    settings: Benchmark,
    files: Mapping[str, Path],
    rate: float,
    bandwidth: float | None,
) -> list[Row]:
    """Measure all methods at one size, each in a process of its own, run by run in turn."""
    from stereo_tr.progress import progress

    fresh = multiprocessing.get_context("spawn")
    with ExitStack() as processes:
        workers = {}

        def ask(method: str, function: Callable[..., Any], *arguments: Any) -> Any:
            try:
                return workers[method].submit(function, *arguments).result()
            except BrokenProcessPool as error:
                raise MemoryError(
                    f"{method} at {size[0]}x{size[1]} px: its process was ended, most likely for "
                    "lack of memory; leave out this size or this model"
                ) from error

        peaks, facts, operations = {}, {}, {}
        seconds: dict[str, list[float]] = {method: [] for method in methods}
        options = settings.threads, settings.device, settings.training, settings.max_memory
        options = *options, settings.precision
        for method in methods:  # one after the other, so that no two need their peak at once
            workers[method] = processes.enter_context(ProcessPoolExecutor(1, fresh))
            ask(
                method,
                measuring.prepare,
                measuring.Task(method, *size, *options, files.get(method)),
            )
            first = ask(method, measuring.run)
            peaks[method] = ask(method, measuring.peak_memory)
            facts[method] = ask(method, measuring.facts)
            operations[method] = ask(method, measuring.profile) if settings.profile else ()
            if settings.memory:
                seconds[method].append(first)
        for _ in progress(
            range(0 if settings.memory else settings.runs), label=f"{size[0]}x{size[1]}"
        ):
            for method in methods:
                seconds[method].append(ask(method, measuring.run))
    medians = {method: statistics.median(seconds[method]) for method in methods}
    rows = []
    for method in methods:
        textbook = method + measuring.TEXTBOOK
        known = textbook in medians
        counted, moved = facts[method].multiply_accumulates, facts[method].bytes_moved
        row = Row(
            method,
            *size,
            seconds=tuple(seconds[method]),
            median_seconds=medians[method],
            times_as_fast=medians[methods[0]] / medians[method],
            times_as_fast_as_textbook=medians[textbook] / medians[method] if known else None,
            memory_of_textbook=peaks[method] / peaks[textbook] if known else None,
            images_per_second=1 / medians[method],
            peak_bytes=peaks[method],
            share_of_peak=counted and counted / medians[method] / rate,
            share_of_bandwidth=moved and bandwidth and moved / medians[method] / bandwidth,
            operations=tuple(operations[method]),
            **facts[method]._asdict(),
        )
        rows.append(row)
    return rows


def _about(device: str) -> dict[str, Any]:
    """The machine and the versions."""
    import torch

    information = Path("/proc/cpuinfo")
    names = [
        line.partition(":")[2].strip()
        for line in (information.read_text().splitlines() if information.is_file() else ())
        if line.startswith("model name")
    ]
    processor = names[0] if names else platform.machine()
    if device.startswith("cuda"):
        processor = f"{torch.cuda.get_device_name(device)} ({processor})"
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "python": f"Python {platform.python_version()}",
        "torch": f"torch {torch.__version__}",
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `stereo-tr benchmark`."""
    run(Benchmark, benchmark, "benchmark", __doc__.partition("\n")[0], arguments)


if __name__ == "__main__":
    main()
