"""Models as graphs in files: ONNX, TorchScript, and what torch.export writes (.pt2).

    write_graph(model, "cstr_small", Path("cstr_small.onnx"), "onnx")

Batch, height and width stay open. The first two come from one trace, which records sizes as the
arithmetic they are; a decision that Python takes on a size is recorded as it fell for the example,
and the models take none between EXAMPLE_SIZE and any larger size. torch.export reasons about sizes
in symbols instead and writes down what has to hold of them. Its convolutions tell one image from
many, so its files take one at a time; and it can't follow the windows of Swin and MOAT (torch
2.13). `stereo-tr export` writes no file that it hasn't seen give the model's results at other
sizes.

Letters  B batch, C channels, H W image, K classes or joint channels
Tests    tests/test_export.py
"""

import io
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.fx.experimental._config as fx_config
from torch import Tensor, nn
from torch.onnx import symbolic_helper

import stereo_tr

from . import exported
from .datasets.files import write_bytes
from .pretrained import list_models, stereo_models
from .stereo.expectation import Expectation
from .stereo.output import maps_only
from .stereo.scales import Scales

if TYPE_CHECKING:
    import onnx

FORMATS = {"onnx": ".onnx", "torchscript": ".torchscript", "pt2": ".pt2"}
"""and the suffix of their files"""
OPSET = 20
"""of ONNX: the first that resizes and samples as torch does, for maps of any rank"""
ONE_AT_A_TIME = ("pt2",)
"""formats whose batches are of one"""
EXAMPLE_SIZE = (141, 174)
"""pixels: multiples of nothing, so that everything that pads or cuts does; large enough for every
window of every model"""
LARGEST_ONNX = 2**31
"""bytes that its container can hold"""


class Graph(NamedTuple):
    """A model as a function of tensors that returns a tuple of tensors."""

    module: nn.Module
    inputs: dict[str, int]
    """and their channels; 0: maps without, [B, H, W]"""
    outputs: tuple[str, ...]
    scales: Scales | None
    """None where it matches no pairs"""

    def example(self, batch: int = 2, size: tuple[int, int] = EXAMPLE_SIZE) -> tuple[Tensor, ...]:
        """Inputs of a size that graphs are recorded for; any other works as well."""
        draw = torch.Generator().manual_seed(0)
        return tuple(
            torch.rand((batch, channels, *size) if channels else (batch, *size), generator=draw)
            for channels in self.inputs.values()
        )


class _Maps(nn.Module):
    """A stereo model without what only its losses read."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, left: Tensor, right: Tensor, *told: Tensor) -> tuple[Tensor, ...]:
        expected = (Expectation(*told),) if told else ()
        with maps_only():
            found = self.model(left, right, *expected)
        return (*found[:3], *(found.candidates or ()))


class _Scores(nn.Module):
    """A vision model; of CLIP the image tower."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor]:
        encode = getattr(self.model, "encode_images", self.model)
        return (encode(images),)


def graph_of(model: nn.Module, name: str) -> Graph:
    """Return `model` (called `name`, see `list_models`) as a graph can hold it, in eval mode.

    Stereo models take `left` and `right` and give `disparity`, `occlusion` and `confidence`; those
    that can be guided also take the disparity that is `expected` (pixels, [B, H, W]) and the
    `certainty` of that, in [0, 1]: 0 where nothing is known. Those that are asked at several scales
    also give what a pixel's token was `matched` to and the `match_confidence` of that. Vision
    models take `images` and give `scores` (TransUNet a score for each pixel); CLIP gives `vectors`
    of images. Raises ValueError for other models.
    """
    model = model.eval().requires_grad_(False)
    if name in stereo_models():
        scales = getattr(model, "scales", Scales())
        inputs = dict.fromkeys(exported.VIEWS, 3)
        if scales.guided:
            inputs |= dict.fromkeys(exported.GUIDE, 0)
        outputs = exported.OUTPUTS
        if scales.coarse is not None:
            outputs += exported.CANDIDATES
        return Graph(_Maps(model).eval(), inputs, outputs, scales)
    tower = getattr(model, "image", model)
    if name not in list_models() or not hasattr(tower, "in_channels"):
        raise ValueError(f"{name} can't be exported: stereo and vision models can")
    outputs = ("scores",) if tower is model else ("vectors",)
    return Graph(_Scores(model).eval(), {"images": tower.in_channels}, outputs, None)


def write_graph(model: nn.Module, name: str, path: Path, form: str = "onnx") -> None:
    """Write `model` to `path` as `form`, a key of FORMATS, whole or not at all.

    Raises ValueError for a model or a format that can't be, or where a package is missing; OSError.
    """
    graph = graph_of(model, name)
    with torch.no_grad(), _quiet():  # torch.export takes no inference mode
        if form == "onnx":
            data = _onnx(graph, name)
        elif form == "torchscript":
            buffer = io.BytesIO()
            torch.jit.save(_trace(graph), buffer, _extra_files=_metadata(graph, name))
            data = buffer.getvalue()
        elif form == "pt2":
            data = _pt2(graph, name)
        else:
            raise ValueError(f"format {form!r}; allowed are {', '.join(FORMATS)}")
    write_bytes(path, data)


def _metadata(graph: Graph, name: str) -> dict[str, str]:
    told = {"model": name, "stereo_tr": stereo_tr.__version__}
    return told | ({} if graph.scales is None else {"scales": json.dumps(graph.scales)})


def _trace(graph: Graph) -> torch.jit.ScriptModule:
    return torch.jit.trace(graph.module, graph.example(), check_trace=False)


def _pt2(graph: Graph, name: str) -> bytes:
    """What torch.export makes of it. ValueError where it can't follow what becomes of sizes."""
    free = torch.export.Dim.DYNAMIC
    images, maps = {2: free, 3: free}, {1: free, 2: free}
    sizes = [images if channels else maps for channels in graph.inputs.values()]
    views, told = sizes[:2], tuple(sizes[2:])
    shapes = (*views, told) if told else tuple(views)  # what is told comes as *told
    try:
        # Else sides that are multiples of 16 or hold one token become cases of their own.
        with fx_config.patch(backed_size_oblivious=True):
            program = torch.export.export(
                graph.module, graph.example(batch=1), dynamic_shapes=shapes, strict=False
            )
        buffer = io.BytesIO()
        torch.export.save(program, buffer, extra_files=_metadata(graph, name))
    except Exception as error:  # of many kinds, from deep within torch
        raise ValueError(
            f"{name} can't be written as .pt2, since torch.export can't follow its sizes; another "
            f"--format may ({str(error).strip().splitlines()[0]})"
        ) from error
    return buffer.getvalue()


def _onnx(graph: Graph, name: str) -> bytes:
    try:
        import onnx
    except ImportError as error:
        raise ValueError("--format onnx needs onnx: pip install 'stereo-tr[export]'") from error
    size = sum(parameter.numel() for parameter in graph.module.parameters()) * 4
    if size > LARGEST_ONNX:
        raise ValueError(
            f"{name} has {size / 1e9:.1f} GB of weights, and an .onnx file holds 2.1 GB; "
            "take --format torchscript"
        )
    buffer = io.BytesIO()
    map_axes = {0: "batch", 1: "height", 2: "width"}
    image_axes = {0: "batch", 2: "height", 3: "width"}
    axes = {each: image_axes if channels else map_axes for each, channels in graph.inputs.items()}
    for each in graph.outputs:
        axes[each] = {0: "batch"} if graph.scales is None else map_axes
    for operation, ours in _OURS.items():
        torch.onnx.register_custom_op_symbolic(operation, ours, OPSET)
    try:
        torch.onnx.export(
            graph.module,
            graph.example(),
            buffer,
            dynamo=False,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_axes=axes,
            opset_version=OPSET,
        )
    finally:
        for operation in _OURS:
            torch.onnx.unregister_custom_op_symbolic(operation, OPSET)
    model = onnx.load_from_string(buffer.getvalue())
    _take_means_by_axis(model.graph)
    onnx.helper.set_model_props(model, _metadata(graph, name))
    return model.SerializeToString()


@symbolic_helper.parse_args("v", "i", "v")
def _unflatten(graph: Any, x: torch.Value, dim: int, sizes: torch.Value) -> torch.Value:
    """`Tensor.unflatten` in ONNX, its other axes taken over from the shape by number.

    torch's own way computes their numbers within the graph. Its shape inference can't follow that,
    and whatever reads a size behind it reads the example's (torch 2.13).
    """
    axes = x.type().dim()
    dim = dim % axes
    parts = [*_sizes(graph, x, 0, dim), sizes, *_sizes(graph, x, dim + 1, axes)]
    return graph.op("Reshape", x, graph.op("Concat", *parts, axis_i=0))


@symbolic_helper.parse_args("v", "i", "v", "v", "f", "none")
def _group_norm(
    graph: Any,
    x: torch.Value,
    groups: int,
    weight: torch.Value,
    bias: torch.Value,
    epsilon: float,
    _: None,
) -> torch.Value:
    """`group_norm` in ONNX, step by step, so that `_take_means_by_axis` sees its means.

    onnxruntime's own norms add up a whole map one by one: off by 3e-5 at 1242x375 px (measured).
    """
    axes = x.type().dim()
    split = [_integers(graph, 0, groups, -1), *_sizes(graph, x, 2, axes)]
    apart = graph.op("Reshape", x, graph.op("Concat", *split, axis_i=0))
    within = _integers(graph, *range(2, axes + 1))
    centred = graph.op("Sub", apart, graph.op("ReduceMean", apart, within))
    variance = graph.op("ReduceMean", graph.op("Mul", centred, centred), within)
    floor = graph.op("Constant", value_t=torch.tensor(epsilon))
    deviation = graph.op("Sqrt", graph.op("Add", variance, floor))
    standard = graph.op("Reshape", graph.op("Div", centred, deviation), graph.op("Shape", x))
    of_channel = _integers(graph, *range(1, axes - 1))
    scaled = graph.op("Mul", standard, graph.op("Unsqueeze", weight, of_channel))
    return graph.op("Add", scaled, graph.op("Unsqueeze", bias, of_channel))


_OURS = {"aten::unflatten": _unflatten, "aten::group_norm": _group_norm}
"""operations that torch's own exporter writes less well"""


def _integers(graph: Any, *values: int) -> torch.Value:
    return graph.op("Constant", value_t=torch.tensor(values))


def _sizes(graph: Any, x: torch.Value, start: int, end: int) -> list[torch.Value]:
    """Sizes of axes from `start` up to `end`, as parts of a shape; none where there are none."""
    part = [graph.op("Shape", x), *(_integers(graph, place) for place in (start, end, 0))]
    return [graph.op("Slice", *part)] if start < end else []


def _take_means_by_axis(graph: "onnx.GraphProto") -> None:
    """Let means over several axes be means over one after the other.

    onnxruntime adds all of them up one by one: the mean of a photograph was off by 2e-5 of its
    contrast, sixty times float32's rounding, and moved 0.2 % of the disparities by more than
    0.001 px (measured).
    """
    import onnx

    axes_of = {
        node.output[0]: onnx.numpy_helper.to_array(node.attribute[0].t)
        for node in graph.node
        if node.op_type == "Constant"
    }
    nodes = []
    for node in graph.node:
        axes = axes_of.get(node.input[1]) if node.op_type == "ReduceMean" else None
        if axes is None or len(axes) < 2:
            nodes.append(node)
            continue
        value = node.input[0]
        # In an order in which numbers stay valid, those from the front and those from the back.
        for axis in sorted(axes.tolist(), key=abs, reverse=True):
            step = f"{node.output[0]}_axis_{axis}"
            number = onnx.numpy_helper.from_array(np.array([axis]))
            nodes.append(onnx.helper.make_node("Constant", [], [f"{step}_number"], value=number))
            mean = onnx.helper.make_node("ReduceMean", [value, f"{step}_number"], [step])
            mean.attribute.extend(node.attribute)
            nodes.append(mean)
            value = step
        mean.output[0] = node.output[0]
    used = {name for node in nodes for name in node.input}
    unused = [node for node in nodes if node.op_type == "Constant" and node.output[0] not in used]
    del graph.node[:]
    graph.node.extend(node for node in nodes if node not in unused)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence torch about decisions in Python (the tests know better) and about its own future."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
