"""Time and memory of the vision models, in turn with Hugging Face's, and cost against image size.

    stereo-tr benchmark_vision
    stereo-tr benchmark_vision --models swin_tiny_patch4_window7_224 --plot cost.png

Prints a Markdown table: each model beside the same one of Hugging Face's transformers, forward on
one thread, a process of its own each, run by run in turn. Seconds are those that the processor
worked for the process (median; fastest to slowest), so that other programs matter little. Peak
memory is resident, Python, torch and (for theirs) transformers included.

With --plot, how the cost grows with the image: quadratically in its area for ViT, whose tokens all
meet, linearly for Swin, whose tokens meet in windows.

Tests  tests/scripts/test_benchmark_vision.py
"""

import json
import math
import multiprocessing
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from stereo_tr.scripts.command import NO_DEFAULT, run
from stereo_tr.scripts.measuring import multiply_accumulates, peak_memory

if TYPE_CHECKING:
    from torch import nn

PEERS = {
    "vit_base_patch16_224": ("vit", "ViT"),
    "swin_tiny_patch4_window7_224": ("swin", "Swin"),
}
"""our name -> Hugging Face's module and prefix of the model that their default settings make"""

GROWING = ("vit_tiny_patch16_224", "swin_tiny_patch4_window7_224")
"""models of the plot: narrow ones, whose attention outweighs the rest early"""


@dataclass(frozen=True)
class BenchmarkVision:
    """Settings of the benchmark."""

    models: tuple[str, ...] = tuple(PEERS)
    """models to measure beside Hugging Face's"""
    batch: int = 8
    """images at a time"""
    runs: int = 5
    """timed runs of each model"""
    plot: Annotated[Path | None, NO_DEFAULT] = None
    """draw cost against image size into this file, .png"""
    sides: tuple[int, ...] = (224, 448, 672, 896)
    """sides of the plot's square images, in pixels"""
    json: Annotated[Path | None, NO_DEFAULT] = None
    """write the same numbers to this file"""


@dataclass(frozen=True)
class Row:
    """One model, ours or theirs."""

    model: str
    parameters: int
    seconds: tuple[float, ...]
    """of the processor, each run"""
    median_seconds: float
    ratio: float
    """median over that of the peer"""
    peak_bytes: int


@dataclass(frozen=True)
class Growth:
    """One model of the plot at one size."""

    model: str
    side: int
    """pixels"""
    seconds: float
    multiply_accumulates: int


def benchmark_vision(settings: BenchmarkVision) -> tuple[list[Row], list[Growth]]:
    """Measure, print, and write the files that the settings name.

    Raises ValueError for a model without a peer, impossible numbers, or without transformers.
    """
    from stereo_tr.datasets.files import atomic, writable_folder

    unknown = [name for name in settings.models if name not in PEERS]
    if unknown:
        raise ValueError(f"no peer of {unknown[0]} is known; models with one: {', '.join(PEERS)}")
    if settings.runs < 1 or settings.batch < 1 or min(settings.sides, default=0) < 1:
        raise ValueError("--runs, --batch and --sides must be 1 or more")
    if settings.plot is not None and settings.plot.suffix != ".png":
        raise ValueError(f"--plot must end in .png, got {settings.plot}")
    for path in (settings.plot, settings.json):
        if path is not None:
            writable_folder(path.parent)
    rows = [row for name in settings.models for row in _compared(name, settings)]
    print("| model | parameters | seconds | times the peer's | peak memory |")
    print("|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row.model} | {row.parameters / 1e6:.2f} M | {row.median_seconds:.3f} "
            f"({min(row.seconds):.3f} to {max(row.seconds):.3f}) | {row.ratio:.2f} "
            f"| {row.peak_bytes / 1e9:.2f} GB |"
        )
    growth = []
    if settings.plot is not None:
        growth = [point for name in GROWING for point in _grown(name, settings.sides)]
        with atomic(settings.plot) as path:
            draw(growth, path)
        print(f"\n{settings.plot} shows cost against image size; over the last two sizes:")
        for name in GROWING:
            print(f"{name}: seconds grow as area to the power {power(growth, name):.2f}")
    if settings.json is not None:
        held = {"rows": [asdict(row) for row in rows], "growth": [asdict(p) for p in growth]}
        with atomic(settings.json) as path:
            path.write_text(json.dumps(held, indent=1) + "\n")
    return rows, growth


def _compared(name: str, settings: BenchmarkVision) -> list[Row]:
    """Measure a model and its peer, each in a process of its own, run by run in turn."""
    from stereo_tr.progress import progress

    fresh = multiprocessing.get_context("spawn")
    makers: dict[str, tuple[Callable[[str], Any], str]] = {
        name: (_ours, name),
        f"Hugging Face {PEERS[name][1]}": (_theirs, name),
    }
    with ExitStack() as processes:
        workers, peaks, parameters = {}, {}, {}
        for label, (maker, argument) in makers.items():
            worker = workers[label] = processes.enter_context(ProcessPoolExecutor(1, fresh))
            parameters[label] = worker.submit(_prepare, maker, argument, settings.batch).result()
            worker.submit(_run).result()  # not counted
            peaks[label] = worker.submit(peak_memory).result()
        seconds: dict[str, list[float]] = {label: [] for label in makers}
        for _ in progress(range(settings.runs), label=name):
            for label, worker in workers.items():
                seconds[label].append(worker.submit(_run).result())
    medians = {label: statistics.median(times) for label, times in seconds.items()}
    peer = list(medians.values())[1]
    return [
        Row(
            label,
            parameters[label],
            tuple(times),
            medians[label],
            medians[label] / peer,
            peaks[label],
        )
        for label, times in seconds.items()
    ]


# From here to `_run` all runs in the process of one model. `_prepare` leaves it its work.
_work: Callable[[], object]


def _prepare(maker: "Callable[[str], nn.Module]", name: str, batch: int) -> int:
    """Make the model and the images of this process; returns the number of parameters."""
    global _work
    import torch

    torch.set_num_threads(1)
    model, images = maker(name).eval(), torch.rand(batch, 3, 224, 224)

    def work() -> object:
        with torch.inference_mode():
            return model(images)

    _work = work
    return sum(parameter.numel() for parameter in model.parameters())


def _ours(name: str) -> "nn.Module":
    from stereo_tr import create_model

    return create_model(name)


def _theirs(name: str) -> "nn.Module":
    import importlib

    family, prefix = PEERS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what other people's imports warn about isn't ours
        try:
            module = importlib.import_module(f"transformers.models.{family}")
        except ImportError as error:
            raise ValueError(
                "the peers need transformers: pip install 'stereo-tr[test]'"
            ) from error
        config = getattr(module, f"{prefix}Config")(num_labels=1000)
        return getattr(module, f"{prefix}ForImageClassification")(config)


def _run() -> float:
    """Seconds that the processor works for one run."""
    start = time.process_time()
    _work()
    return time.process_time() - start


def _grown(name: str, sides: Sequence[int]) -> list[Growth]:
    """Time one image of each size, the faster of two runs, and count its arithmetic."""
    import torch

    from stereo_tr.progress import progress

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model = _ours(name).eval()
    points = []
    for side in progress(sides, label=f"{name} by size"):
        image = torch.rand(1, 3, side, side)

        def work(image: Any = image) -> float:
            start = time.process_time()
            with torch.inference_mode():
                model(image)
            return time.process_time() - start

        seconds = min(work(), work())
        with torch.device("meta"):
            skeleton, shape = _ours(name).eval(), torch.rand(1, 3, side, side)
        count = multiply_accumulates(lambda model=skeleton, x=shape: model(x))
        points.append(Growth(name, side, seconds, count))
    torch.set_num_threads(threads)
    return points


def power(growth: Sequence[Growth], model: str) -> float:
    """Slope of log time over log area between the two largest images of a model."""
    points = sorted((p for p in growth if p.model == model), key=lambda point: point.side)
    if len(points) < 2:
        return math.nan
    small, large = points[-2:]
    return math.log(large.seconds / small.seconds) / math.log((large.side / small.side) ** 2)


def draw(growth: Sequence[Growth], path: Path) -> None:
    """Seconds over pixels, both logarithmic, with lines that grow as the area and its square."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name in dict.fromkeys(point.model for point in growth):
        points = [point for point in growth if point.model == name]
        areas = [point.side**2 for point in points]
        (line,) = axes.loglog(areas, [point.seconds for point in points], "o-", label=name)
        # the arithmetic, laid through the first time: what the measured times should follow
        scale = points[0].seconds / points[0].multiply_accumulates
        counted = [scale * point.multiply_accumulates for point in points]
        axes.loglog(
            areas, counted, ":", color=line.get_color(), label=f"{name}: multiply-accumulates"
        )
    first = min(growth, key=lambda point: (point.seconds, point.side))
    areas = sorted({point.side**2 for point in growth})
    for exponent, words in ((1, "as the area"), (2, "as its square")):
        axes.loglog(
            areas,
            [0.6 * first.seconds * (area / areas[0]) ** exponent for area in areas],
            color="0.75",
            linewidth=1,
        )
        axes.annotate(
            words,
            (areas[-1], 0.6 * first.seconds * (areas[-1] / areas[0]) ** exponent),
            color="0.5",
        )
    axes.set_xlabel("pixels of the image")
    axes.set_ylabel("seconds on one thread")
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=120, format="png")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `stereo-tr benchmark_vision`."""
    run(
        BenchmarkVision,
        benchmark_vision,
        "benchmark_vision",
        __doc__.split("\n\nTests")[0],
        arguments,
    )


if __name__ == "__main__":
    main()
