"""A model as a graph in a file, for programs that don't have this package.

    stereo-tr export --out cstr_small.onnx
    stereo-tr export --model sttr --weights sttr.pth.tar --out sttr.onnx
    stereo-tr export --out cstr_small.onnx --time

The graph takes batches of any height and width (.pt2: of one, from 17 px on): stereo models `left`
and `right`, RGB in [0, 1], [B, 3, H, W], and give `disparity` (pixels), `occlusion` and
`confidence`, [B, H, W];
cstr_small also takes the disparity that a look at a smaller scale `expected` and the `certainty` of
that, [B, H, W], or zeros, and also gives what each pixel's token was `matched` to, and the
`match_confidence`. Vision models take `images` and give `scores`. Before the file gets its name it
runs beside the model at two sizes that it wasn't recorded for; where they differ, nothing is
written. `stereo-tr estimate --weights FILE.onnx` runs a stereo model.

Tests  tests/test_export.py
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from stereo_tr.scripts.command import NO_DEFAULT, run

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stereo_tr.exporting import Graph

TOLERANCE = 1e-3
"""difference from the model: pixels, probability or score"""
DRAWN = 0.01
"""share of values that may differ by more: which match is best is decided, and where two draw,
another order of the same sums decides otherwise"""
ROUNDING = 2**-24
"""of float32 numbers, relative"""
ASKED_AGAIN = 4
"""times, with views that differ by ROUNDING, the model is asked where more values differ: one draw
can move a whole map, whose mean and deviation it is part of"""
CHECKED = ((1, 128, 144), (3, 165, 203))
"""batch, height and width: smaller and larger than the example, multiples and not"""
TIMED = (1, 256, 320)
RUNS = 5
SEED = 0
"""of the pairs that are checked with"""
GIVEN = {
    "left": "left",
    "right": "right",
    "expected": "disparity",
    "certainty": "valid",
    "images": "left",
}
"""which part of a pair each input of a graph gets; what is expected is the truth"""


@dataclass(frozen=True, kw_only=True)
class Export:
    """Settings of one export."""

    model: Annotated[str | None, NO_DEFAULT] = None
    """name of the model (default: what the weights say, or cstr_small)"""
    weights: Annotated[str | None, NO_DEFAULT] = None
    """file of weights or a packaged name (default: the packaged ones; random for other models)"""
    format: Literal["onnx", "torchscript", "pt2"] = "onnx"
    """onnx: for onnxruntime and many others; torchscript: torch.jit.load, also in C++; pt2:
    torch.export.load, for torch's own compilers, batches of one"""
    out: Path
    """file to write: .onnx, .torchscript or .pt2"""
    time: bool = False
    """print how fast the file runs beside the model, with one thread and with all"""


def export(settings: Export) -> dict[str, float]:
    """Write the file; return what was measured: `difference`, `faster 1 thread`, ...

    Raises ValueError for a model that can't be exported, also where the check finds a difference.
    """
    from stereo_tr.datasets.files import atomic, writable_folder
    from stereo_tr.exporting import FORMATS, graph_of, write_graph

    suffix = FORMATS[settings.format]
    if settings.out.suffix != suffix:
        raise ValueError(
            f"--out {settings.out}: a file of --format {settings.format} ends {suffix}"
        )
    model, name = _model(settings)
    writable_folder(settings.out.parent)
    graph = graph_of(model, name)
    # Torch can't tell how far it is, which takes from seconds (cstr_small) to minutes (MOAT, .pt2).
    print(f"recording {name} for {settings.out}, which may take minutes ...", flush=True)
    with atomic(settings.out) as path:
        write_graph(model, name, path, settings.format)
        measured = {"difference": _check(graph, path, name, settings.format)}
    print(f"{settings.out}: {settings.out.stat().st_size / 1e6:.1f} MB")
    if settings.time:
        measured |= _time(graph, settings.out)
    return measured


def _model(settings: Export) -> "tuple[nn.Module, str]":
    """The model and its name."""
    import torch

    from stereo_tr.matcher import DEFAULT_MODEL
    from stereo_tr.pretrained import (
        create_model,
        model_from_weights,
        packaged_weights,
        read_metadata,
    )

    weights = settings.weights
    if weights is None and settings.model is None:
        weights = DEFAULT_MODEL
    if settings.model is None:
        name = read_metadata(weights).get("model")
        if name is None:
            raise ValueError(f"{weights} doesn't say which model it is for; add --model")
        return model_from_weights(weights), name
    if weights is None:
        try:
            weights = packaged_weights(settings.model)
        except ValueError:  # none come along; an unknown name is told by create_model
            torch.manual_seed(SEED)
            model = create_model(settings.model)
            print(f"{settings.model}: random weights, since no --weights are given")
            return model, settings.model
        return model_from_weights(weights), settings.model
    return model_from_weights(weights, name=settings.model), settings.model


def runner(path: Path) -> "Callable[..., Sequence[Tensor]]":
    """Return a function that runs a file of ours, on the CPU and with as many threads as torch."""
    import torch

    if path.suffix == ".onnx":
        from stereo_tr.exported import open_session

        session = open_session(path)
        names = [each.name for each in session.get_inputs()]
        return lambda *given: [
            torch.from_numpy(found)
            for found in session.run(
                None, {name: x.numpy() for name, x in zip(names, given, strict=True)}
            )
        ]
    if path.suffix == ".pt2":
        return torch.export.load(path).module()
    return torch.jit.load(path)


def _given(graph: "Graph", batch: int, height: int, width: int) -> "tuple[Tensor, ...]":
    """Generated pairs for a stereo model (and their truth, half sure); left views for others."""
    import torch

    from stereo_tr.datasets.generated import GeneratedScenes

    scenes = GeneratedScenes(height, width, seed=SEED, photographs=False)
    samples = [scenes[index] for index in range(batch)]
    views = {
        name: torch.stack([getattr(each, field) for each in samples])
        for name, field in GIVEN.items()
        if name in graph.inputs
    }
    if "certainty" in views:
        views["certainty"] = 0.5 * views["certainty"].float()
    if "images" in views:
        count = graph.inputs["images"]
        views["images"] = views["images"][:, [0, 1, 2, *[0] * count][:count]]
    return tuple(views[name] for name in graph.inputs)


def _check(graph: "Graph", path: Path, model: str, form: str) -> float:
    """Run the file beside the model; return the largest difference, ValueError where it matters."""
    import torch

    from stereo_tr.exporting import ONE_AT_A_TIME

    called = f"{model} as {form}"
    sizes = [(1 if form in ONE_AT_A_TIME else batch, *size) for batch, *size in CHECKED]
    written, largest, beyond = runner(path), 0.0, 0.0
    for size in sizes:
        given = _given(graph, *size)
        with torch.inference_mode():
            expected = graph.module(*given)
            try:
                found = written(*given)
            except Exception as error:  # of whatever runs it: the graph fits one size only
                raise ValueError(
                    f"{called} doesn't run at {size[2]}x{size[1]} px and isn't written; another "
                    f"--format may ({str(error).splitlines()[0]})"
                ) from error
        for name, one, other in zip(graph.outputs, expected, found, strict=True):
            if one.shape != other.shape:
                raise ValueError(f"{called}: {name} is {list(other.shape)}, not {list(one.shape)}")
        difference = [(one - other).abs() for one, other in zip(expected, found, strict=True)]
        for _ in range(ASKED_AGAIN if _beyond(difference) > DRAWN else 0):
            moved = (x * (1 + ROUNDING * torch.randn_like(x)) for x in given)
            with torch.inference_mode():
                again = graph.module(*moved)
            difference = [
                torch.minimum(before, (one - other).abs())
                for before, one, other in zip(difference, again, found, strict=True)
            ]
        largest = max(largest, *(each.max().item() for each in difference))
        beyond = max(beyond, _beyond(difference))
    checked = " and ".join(f"{batch}x{height}x{width}" for batch, height, width in sizes)
    print(
        f"checked at {checked}: differs from the model by {largest:.1e} at most, by more than "
        f"{TOLERANCE} in {beyond:.2%}"
    )
    if beyond > DRAWN:
        raise ValueError(
            f"{called} differs from the model by up to {largest:.2g}, by more than {TOLERANCE} in "
            f"{beyond:.0%} of its values, and isn't written"
        )
    return largest


def _beyond(difference: "Sequence[Tensor]") -> float:
    """Share of values beyond the tolerance, of the output that has most of them."""
    return max((each > TOLERANCE).float().mean().item() for each in difference)


def _time(graph: "Graph", path: Path) -> dict[str, float]:
    """Run the model and the file in turn; the ratio of their medians for each number of threads."""
    import os

    import torch

    given, ratios = _given(graph, *TIMED), {}
    before = torch.get_num_threads()
    try:
        for threads in sorted({1, os.cpu_count() or 1}):
            torch.set_num_threads(threads)
            written, seconds = runner(path), {"model": [], "file": []}
            for index in range(RUNS + 1):
                for name, function in (("model", graph.module), ("file", written)):
                    started = time.perf_counter()
                    with torch.inference_mode():
                        function(*given)
                    if index:  # the first run warms up
                        seconds[name].append(time.perf_counter() - started)
            medians = {name: statistics.median(values) for name, values in seconds.items()}
            ratio = ratios[f"faster, {threads} threads"] = medians["model"] / medians["file"]
            print(
                f"{TIMED[1]}x{TIMED[2]} px, {threads} threads: model {medians['model']:.3f} s, "
                f"file {medians['file']:.3f} s, medians of {RUNS} in turn: "
                f"{ratio:.2f} times as fast"
            )
    finally:
        torch.set_num_threads(before)
    return ratios


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `stereo-tr export`."""
    run(Export, export, "export", __doc__.partition("\n")[0], arguments)


if __name__ == "__main__":
    main()
