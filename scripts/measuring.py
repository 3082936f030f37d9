"""What runs in the process of one method that the benchmark measures: its work, and its facts.

A method is a model of this package by name; `NAME:textbook`, the same with every tensor of its
equations made whole (tests/stereo/textbook.py, in a checkout only); `NAME:onnx` or
`NAME:torchscript`, the file that it exports to; or one of peers.MODES. Networks without packaged
weights have random ones: the time doesn't depend on them.

Tests  tests/scripts/test_benchmark.py
"""

import importlib.util
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stereo_tr.scripts.ceilings import bytes_moved, multiply_accumulates

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from stereo_tr.datasets.sample import StereoSample

SEED = 0
"""of the pair, the weights and the labels; others take the same time"""

TEXTBOOK = ":textbook"
"""ends the name of a published model that is to be written out"""

STEP = 3
"""a training step's arithmetic over that of its forward pass: the way back has two products for
each (torch's own counter counts grouped convolutions too high there)"""

OPERATIONS = 10
"""that a profile names"""


class Task(NamedTuple):
    """One method at one size, and how it is to run."""

    method: str
    height: int
    width: int
    threads: int | None = None
    device: str = "cpu"
    training: bool = False
    max_memory: str | None = None
    precision: str = "float32"
    file: Path | None = None
    """that the method is to run"""


class Facts(NamedTuple):
    """What doesn't change from run to run."""

    parameters: int | None
    multiply_accumulates: int | None
    """None where the method is no network"""
    threads: int
    predicted_bytes: int | None
    """resident memory that was predicted, where the model can tell"""
    bytes_moved: int | None = None
    """that torch's operations read and write, on a GPU"""


class Operation(NamedTuple):
    """A line of a profile."""

    name: str
    share: float
    """of the time, in [0, 1]"""
    calls: int


class _Work(NamedTuple):
    run: Callable[[], object]
    network: "nn.Module | None" = None
    counted: Callable[[], object] | None = None
    """what the arithmetic is counted of"""
    kept: int | None = None
    """bytes of maps that the model says it keeps"""


_work: _Work
_empty: int
_task: Task


def prepare(task: Task) -> None:
    """Leave this process its work."""
    global _work, _empty, _task
    import cv2
    import torch

    from stereo_tr.heap import keep_freed_memory

    keep_freed_memory()  # as every command does
    if task.threads is not None:
        torch.set_num_threads(task.threads)
        cv2.setNumThreads(task.threads)
    torch.manual_seed(SEED)
    _task = task
    _work = _make(task)
    _empty = peak_memory()


def textbook_file() -> Path:
    """Return where the textbook lies; FileNotFoundError outside a checkout."""
    path = Path(__file__).resolve().parents[1] / "tests" / "stereo" / "textbook.py"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: --baseline textbook needs a checkout, tests are not installed"
        )
    return path


def _make(task: Task) -> _Work:
    from stereo_tr.pretrained import create_model, stereo_models
    from stereo_tr.scripts import peers

    name = task.method.removesuffix(TEXTBOOK)
    if task.file is not None:
        return _file_work(task.method.partition(":")[0], task)
    if name in stereo_models():
        model = _stereo_model(name)
        return _stereo_work(_textbook(model) if name != task.method else model, task)
    if name in peers.MODES:
        sample, views = _pair(task)
        return _Work(partial(peers.match, *views, sample.disparity.max().item(), name))
    return _vision_work(create_model(name), task)


def write_file(name: str, form: str, path: Path) -> None:
    """Export the model called `name` to `path`; raises as `write_graph` does."""
    import torch

    from stereo_tr.exporting import write_graph
    from stereo_tr.pretrained import create_model, stereo_models

    torch.manual_seed(SEED)
    model = _stereo_model(name) if name in stereo_models() else create_model(name)
    write_graph(model, name, path, form)


def _file_work(name: str, task: Task) -> _Work:
    """Run an exported file as its model runs."""
    import torch

    from stereo_tr.matcher import StereoMatcher
    from stereo_tr.pretrained import create_model, stereo_models
    from stereo_tr.scripts.export import runner
    from stereo_tr.stereo.output import StereoOutput, of_graph
    from stereo_tr.stereo.scales import Scales

    written = runner(task.file)
    with torch.device("meta"):
        model = create_model(name)
    if name not in stereo_models():
        tower = getattr(model, "image", model)
        image = torch.rand(1, tower.in_channels, task.height, task.width)
        return _Work(partial(_inferred, written, image))

    scales = getattr(model, "scales", Scales())

    class File(torch.nn.Module):
        def forward(
            self, left: "Tensor", right: "Tensor", expected: "Sequence[Tensor] | None" = None
        ) -> "StereoOutput":
            nothing = torch.zeros_like(left[:, 0])
            told = expected or (nothing, nothing)
            return of_graph(written(left, right, *(told if scales.guided else ())))

    matcher = StereoMatcher(File(), scales=scales)
    return _Work(partial(matcher, *_pair(task)[1]))


def _inferred(function: Callable[..., object], image: "Tensor") -> object:
    import torch

    with torch.inference_mode():
        return function(image)


def _stereo_model(name: str) -> "nn.Module":
    from stereo_tr.pretrained import create_model, model_from_weights, packaged_weights

    try:
        return model_from_weights(packaged_weights(name), stereo=True)
    except ValueError:
        return create_model(name)


def _textbook(model: "nn.Module") -> "nn.Module":
    specification = importlib.util.spec_from_file_location("textbook", textbook_file())
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.Textbook(model)


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call `function` in a new process, so that this one stays small."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


def _pair(task: Task) -> tuple["StereoSample", list["NDArray"]]:
    """A generated pair, and its views as arrays [H, W, 3]."""
    import torch

    from stereo_tr.datasets.sample import StereoSample

    *maps, name = alone(scene, task.height, task.width)
    sample = StereoSample(*map(torch.from_numpy, maps), name)
    return sample, [view.permute(1, 2, 0).numpy() for view in (sample.left, sample.right)]


def scene(height: int, width: int) -> "list[NDArray | str]":
    """Make a generated pair: the fields of its sample."""
    from stereo_tr.datasets.generated import GeneratedScenes

    # Rectified exactly: a pair that isn't is looked at once more.
    scenes = GeneratedScenes(height, width, seed=SEED, photographs=False, camera=False)
    return [field if isinstance(field, str) else field.numpy() for field in scenes[0]]


def _stereo_work(model: "nn.Module", task: Task) -> _Work:
    from stereo_tr.matcher import StereoMatcher, prepare_views
    from stereo_tr.memory_need import kept_memory
    from stereo_tr.stereo.scales import match_at_scales

    sample, views = _pair(task)
    if task.training:
        fields = ([v] if isinstance(v, str) else v[None].to(task.device) for v in sample)
        batch = type(sample)(*fields)
        loss = _in_precision(partial(_total, model, batch), task)
        return _Work(_training_step(model.to(task.device), loss), model, loss)
    how = {"precision": task.precision, "max_memory": task.max_memory}
    matcher = StereoMatcher(model, task.device, **how)
    shown = (view[None].to(matcher.device) for view in prepare_views(*views))
    counted = partial(match_at_scales, matcher.model, *shown, matcher.scales)
    kept = kept_memory(model, matcher.scales, task.height, task.width)
    return _Work(partial(matcher, *views), model, counted, kept)


def _in_precision(function: Callable[[], "Tensor"], task: Task) -> Callable[[], "Tensor"]:
    """`function` with products and convolutions in the precision that the task names."""
    import torch

    from stereo_tr.devices import autocast

    def lower() -> "Tensor":
        with autocast(torch.device(task.device), task.precision):
            return function()

    return lower


def _total(model: "nn.Module", batch: Any) -> "Tensor":
    return sum(model.training_losses(batch).values())


def _vision_work(model: "nn.Module", task: Task) -> _Work:
    import torch

    model = model.to(task.device)
    image = torch.rand(1, 3, task.height, task.width, device=task.device)

    def loss() -> "Tensor":
        target = torch.zeros(1, dtype=torch.long, device=task.device)
        return torch.nn.functional.cross_entropy(model(image), target)

    def infer() -> "Tensor":
        return _inferred(model, image).cpu()

    work = _in_precision(loss if task.training else infer, task)
    if task.training:
        return _Work(_training_step(model, work), model, work)
    model.eval()
    return _Work(work, model, work)


def _training_step(model: "nn.Module", loss: Callable[[], "Tensor"]) -> Callable[[], None]:
    import torch

    model.train()
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, fused=True)  # as training does

    def step() -> None:
        optimizer.zero_grad()
        total = loss()
        total.backward()
        optimizer.step()
        total.item()  # a GPU has finished then

    return step


def run() -> float:
    """Return the seconds of one run."""
    start = time.perf_counter()
    _work.run()  # its result lies in NumPy arrays or a number, so a GPU has finished
    return time.perf_counter() - start


def facts() -> Facts:
    """Count parameters and arithmetic; to be asked after the peak memory."""
    import cv2
    import torch

    if _work.network is None:
        return Facts(None, None, cv2.getNumThreads(), None)
    parameters = sum(parameter.numel() for parameter in _work.network.parameters())
    counted = multiply_accumulates(_work.counted) * (STEP if _task.training else 1)
    predicted = None
    if _work.kept is not None and not _on_gpu():
        from stereo_tr.attention.memory import DEFAULT

        predicted = _empty + _work.kept + DEFAULT
    moved = bytes_moved(_work.run) if _on_gpu() else None
    return Facts(parameters, counted, torch.get_num_threads(), predicted, moved)


def _on_gpu() -> bool:
    return _task.device.startswith("cuda")


def profile() -> list[Operation]:
    """Name the operations that took longest in one run, themselves and not what they call."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as record

    on_gpu = _on_gpu()
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with record(activities=kinds) as recorded:
        _work.run()
    events = recorded.key_averages()

    def spent(event: Any) -> float:
        return event.self_device_time_total if on_gpu else event.self_cpu_time_total

    total = sum(map(spent, events)) or 1.0
    dearest = sorted(events, key=spent, reverse=True)[:OPERATIONS]
    return [Operation(event.key, spent(event) / total, event.count) for event in dearest]


def peak_memory() -> int:
    """Largest memory of this process so far, in bytes: on a GPU of its tensors, else resident.

    `getrusage` is no help on Linux: a new process starts with its parent's peak there.
    """
    if "_task" in globals() and _on_gpu():
        import torch

        return torch.cuda.max_memory_allocated(_task.device)
    status = Path("/proc/self/status")
    if status.is_file():
        return 1024 * int(status.read_text().split("VmHWM:")[1].split()[0])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
