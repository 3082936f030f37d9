"""Models by name, and their weights from files: ours, or the published checkpoints.

    model = create_model("cstr")
    load_weights(model, "sceneflow.pth.tar")      # a file, a packaged name, or a mapping
    model = model_from_weights("mine.safetensors")

Weights files that this package writes are safetensors in half precision; their metadata names the
model they were made for. Reading a file never runs code from it.

Tests  tests/test_pretrained.py
"""

import importlib
import inspect
import json
from collections.abc import Callable, Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from .checkpoint import write_bytes
from .datasets.naming import closest
from .recognition import best_fit, differences, translated
from .weight_files import SUFFIXES, read_weights

Weights = Mapping[str, Any]
"""name -> tensor or NumPy array, as `state_dict()` returns it; may be nested in a checkpoint"""

_MODELS = {
    "cmt_deeplab_max_s": "mask.cmt_deeplab:cmt_deeplab_max_s",
    "convnext_base": "vision.convnext:convnext_base",
    "convnext_large": "vision.convnext:convnext_large",
    "convnext_small": "vision.convnext:convnext_small",
    "convnext_tiny": "vision.convnext:convnext_tiny",
    "cstr": "stereo.published:cstr",
    "cstr_small": "stereo.model:ContextStereoTransformer",
    "kmax_convnext_base": "mask.kmax_deeplab:kmax_convnext_base",
    "kmax_convnext_large": "mask.kmax_deeplab:kmax_convnext_large",
    "kmax_convnext_small": "mask.kmax_deeplab:kmax_convnext_small",
    "kmax_convnext_tiny": "mask.kmax_deeplab:kmax_convnext_tiny",
    "kmax_max_s": "mask.kmax_deeplab:kmax_max_s",
    "kmax_resnet50": "mask.kmax_deeplab:kmax_resnet50",
    "kmax_small": "mask.kmax_deeplab:kmax_small",
    "max_deeplab_l": "mask.max_deeplab:max_deeplab_l",
    "max_deeplab_s": "mask.max_deeplab:max_deeplab_s",
    "moat_0": "vision.moat:moat_0",
    "moat_1": "vision.moat:moat_1",
    "moat_2": "vision.moat:moat_2",
    "moat_3": "vision.moat:moat_3",
    "moat_4": "vision.moat:moat_4",
    "resnet50": "vision.resnet:resnet50",
    "sttr": "stereo.published:sttr",
    "sttr_light": "stereo.published:sttr_light",
    "swin_base_patch4_window12_384": "vision.swin:swin_base_patch4_window12_384",
    "swin_base_patch4_window7_224": "vision.swin:swin_base_patch4_window7_224",
    "swin_large_patch4_window12_384": "vision.swin:swin_large_patch4_window12_384",
    "swin_large_patch4_window7_224": "vision.swin:swin_large_patch4_window7_224",
    "swin_small_patch4_window7_224": "vision.swin:swin_small_patch4_window7_224",
    "swin_tiny_patch4_window7_224": "vision.swin:swin_tiny_patch4_window7_224",
    "tiny_moat_0": "vision.moat:tiny_moat_0",
    "tiny_moat_1": "vision.moat:tiny_moat_1",
    "tiny_moat_2": "vision.moat:tiny_moat_2",
    "tiny_moat_3": "vision.moat:tiny_moat_3",
    "transunet_r50_vit_b16": "vision.transunet:transunet_r50_vit_b16",
    "transunet_vit_b16": "vision.transunet:transunet_vit_b16",
    "vit_base_patch16_224": "vision.vit:vit_base_patch16_224",
    "vit_base_patch32_224": "vision.vit:vit_base_patch32_224",
    "vit_huge_patch14_224": "vision.vit:vit_huge_patch14_224",
    "vit_large_patch14_224": "vision.vit:vit_large_patch14_224",
    "vit_large_patch16_224": "vision.vit:vit_large_patch16_224",
    "vit_small_patch16_224": "vision.vit:vit_small_patch16_224",
    "vit_small_patch32_224": "vision.vit:vit_small_patch32_224",
    "vit_tiny_patch16_224": "vision.vit:vit_tiny_patch16_224",
    "vitamin_base_224": "vision.vitamin:vitamin_base_224",
    "vitamin_base_clip": "vision.clip:vitamin_base_clip",
    "vitamin_large2_224": "vision.vitamin:vitamin_large2_224",
    "vitamin_large_224": "vision.vitamin:vitamin_large_224",
    "vitamin_large_clip": "vision.clip:vitamin_large_clip",
    "vitamin_small_224": "vision.vitamin:vitamin_small_224",
    "vitamin_small_clip": "vision.clip:vitamin_small_clip",
    "vitamin_xlarge_256": "vision.vitamin:vitamin_xlarge_256",
}
"""name -> module and constructor; imported when somebody asks for the model"""

_NESTED = ("average", "state_dict", "model")
"""where checkpoints keep their weights; a training run's average goes before its last step"""

_WRAPPERS = ("module.", "_orig_mod.")
"""put before every name by torch's DataParallel and compile"""

_SHOWN = 3
"""differing names that an error lists"""


def list_models() -> list[str]:
    """Return the names that `create_model` knows."""
    return sorted(_MODELS)


def model_kind(name: str) -> str | None:
    """Return the kind of the model: "stereo", "vision" or "mask"; None for an unknown name."""
    return _MODELS[name].partition(".")[0] if name in _MODELS else None


def stereo_models() -> list[str]:
    """Return the names of the models that match two views; the others take one picture."""
    return [name for name in list_models() if model_kind(name) == "stereo"]


def require_stereo(name: str) -> None:
    """Raise ValueError if `name` is one of our models that takes one picture, not two views.

    A name that isn't known passes: `create_model` words that error.
    """
    if name in _MODELS and name not in stereo_models():
        raise ValueError(f"{name} is no stereo model; stereo models: {', '.join(stereo_models())}")


def create_model(name: str, **overrides: Any) -> nn.Module:
    """Make a model with random weights; `overrides` are arguments of its constructor.

    The `encoder` of a stereo model may be the name of a vision model. Raises ValueError for an
    unknown name (naming near matches) or an override that the model doesn't take (naming those it
    does) or can't use.
    """
    constructor = _constructor(name)
    parameters = inspect.signature(constructor).parameters
    allowed = list(parameters)
    unknown = [override for override in overrides if override not in allowed]
    if unknown:
        raise ValueError(
            f"{name} takes no {', '.join(unknown)}; what can be overridden: {', '.join(allowed)}"
        )
    for override, value in overrides.items():
        # Any text is true to Python, "no" as well.
        if parameters[override].annotation in (bool, "bool") and not isinstance(value, bool):
            raise ValueError(f"{override} is {value!r}; {name} takes true or false there")
    made = dict(overrides)
    if model_kind(name) == "stereo" and "encoder" in made:
        made["encoder"] = _encoder(made["encoder"])
    try:
        return constructor(**made)
    except (TypeError, ZeroDivisionError, RuntimeError, LookupError) as error:
        if not overrides:
            raise
        given = ", ".join(f"{override}={value!r}" for override, value in overrides.items())
        raise ValueError(f"{name} can't be made with {given}: {error}") from error


def packaged_weights(name: str) -> Path:
    """Return the file of the weights that come with the package for model `name`.

    Raises ValueError if there is no such model or no weights of it come along.
    """
    _constructor(name)
    folder = Path(__file__).parent / "weights"
    path = folder / f"{name}.safetensors"
    if not path.is_file():
        there = ", ".join(sorted(file.stem for file in folder.glob("*.safetensors"))) or "none"
        raise ValueError(
            f"no weights of {name} come with the package (there: {there}); give a file"
        )
    return path


def load_weights(
    model: nn.Module, source: str | Path | Weights, *, keep: Collection[str] = ()
) -> None:
    """Put weights into `model`, in our layout or the published one, recognised by its names.

    `source` is a file (.safetensors .pth .pth.tar .pt .ckpt .npz), the name of a model whose
    weights come with the package, or a mapping name -> array. Nesting (`state_dict`, `model`) and
    prefixes (`module.`) are undone; numbers take the model's own precision and device. The parts in
    `keep` stay as they are in the model: ("head",) for weights that were made for other classes.

    Raises FileNotFoundError where there is no such file, and ValueError where it can't be read or
    holds code, where its names or shapes are not the model's (the first differing ones are named,
    and the model is then as it was), or where the model has no part that is to be kept.
    """
    weights, _ = _read(source)
    _load(model, weights, _called(source), keep)


def model_from_weights(
    source: str | Path | Weights, stereo: bool = False, name: str | None = None
) -> nn.Module:
    """Make the model that the weights were made for, and load them.

    The file's metadata says which model that is; without them `name` does, and without that the
    weights' own names (default sizes then).
    Raises as `load_weights`, and ValueError where no model fits, where the metadata describe none
    or another than `name`, or where only a `stereo` model will do and it is none.
    """
    weights, metadata = _read(source)
    told = metadata.get("model")
    if told is not None and name is not None and told != name:
        raise ValueError(f"{_called(source)} holds weights of {told}, not of {name}; leave out one")
    name = told or name or _recognise(weights)
    if name is None:
        raise ValueError(
            f"{_called(source)} holds weights of none of our models; name one: "
            + ", ".join(list_models())
        )
    if stereo:
        require_stereo(name)
    try:
        model = create_model(name, **_overrides(metadata))
    except ValueError as error:
        if told is None:
            raise
        raise ValueError(f"{_called(source)} has bad metadata: {error}") from error
    _load(model, weights, _called(source))
    return model


def save_weights(
    model: nn.Module, path: str | Path, name: str, overrides: Mapping[str, Any] | None = None
) -> None:
    """Write `model`'s weights to `path` (.safetensors) in half precision, whole or not at all.

    `name` and `overrides` are what `create_model` needs to make it again. Numbers beyond half
    precision's range keep their tensor in full precision. Raises OSError if it can't be written,
    ValueError for a weight that isn't finite.
    """
    tensors = {key: _halved(key, value) for key, value in model.state_dict().items()}
    metadata = {"model": name, "overrides": json.dumps(dict(overrides or {}))}
    write_bytes(Path(path), save(tensors, metadata))


def read_metadata(source: str | Path) -> dict[str, str]:
    """Return what a weights file says about itself: "model" and "overrides" (JSON) if we wrote it.

    Raises as `load_weights`.
    """
    return _read(source)[1]


def _constructor(name: str) -> Callable[..., nn.Module]:
    if name not in _MODELS:
        raise ValueError(f"no model is called {name!r}; {closest(name, list_models())}")
    module, attribute = _MODELS[name].split(":")
    return getattr(importlib.import_module(f".{module}", __package__), attribute)


def _encoder(given: Any) -> Any:
    """Make the vision model called `given`; a model, or None, passes."""
    if given is None or isinstance(given, nn.Module):
        return given
    names = [n for n in list_models() if _MODELS[n].startswith("vision.")]
    names = [n for n in names if not _MODELS[n].startswith("vision.clip:")]  # two towers, no maps
    if given not in names:
        raise ValueError(f"no encoder is called {given!r}; {closest(str(given), names)}")
    return create_model(given)


def _overrides(metadata: Mapping[str, str]) -> dict[str, Any]:
    text = metadata.get("overrides", "{}")
    try:
        overrides = json.loads(text)
    except json.JSONDecodeError:
        overrides = None
    if not isinstance(overrides, dict):
        raise ValueError(f'overrides is {text!r}; it holds JSON such as {{"layers": 2}}')
    # JSON has no tuples, which is what the constructors ask for.
    return {k: tuple(v) if isinstance(v, list) else v for k, v in overrides.items()}


def _called(source: str | Path | Weights) -> str:
    return str(source) if isinstance(source, str | Path) else "the mapping"


def _read(source: str | Path | Weights) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the weights by name, unwrapped, and the metadata of the file."""
    metadata: dict[str, str] = {}
    held: Any = source
    if isinstance(source, str | Path):
        path = Path(source)
        if isinstance(source, str) and not path.exists() and not source.endswith(SUFFIXES):
            if source not in _MODELS:
                raise ValueError(
                    f"{source!r} is neither a file ({' '.join(SUFFIXES)}) nor one of our models; "
                    + closest(source, list_models())
                )
            path = packaged_weights(source)
        held, metadata = read_weights(path)
    return _unwrapped(held, _called(source)), metadata


def _unwrapped(held: Any, called: str) -> dict[str, Tensor]:
    """Undo nesting and prefixes; keep arrays only."""
    while isinstance(held, Mapping):
        inner = next((held[key] for key in _NESTED if isinstance(held.get(key), Mapping)), None)
        if inner is None:
            break
        held = inner
    if not isinstance(held, Mapping):
        raise ValueError(f"{called} holds a {type(held).__name__}, not weights by name")
    # torch's AveragedModel counts its updates beside the weights.
    held = {name: value for name, value in held.items() if name != "n_averaged"}
    wrong = [name for name, value in held.items() if not hasattr(value, "shape")]
    if wrong or not held:
        what = f"{wrong[0]!r} is no array" if wrong else "it is empty"
        raise ValueError(f"{called} holds no weights: {what}")
    prefix = True
    while prefix:
        prefix = next((w for w in _WRAPPERS if all(name.startswith(w) for name in held)), "")
        held = {name.removeprefix(prefix): value for name, value in held.items()}
    weights = {}
    for name, value in held.items():
        try:
            weights[name] = torch.as_tensor(value)
        except TypeError as error:
            raise ValueError(f"{called} holds no weights: {name!r} holds no numbers") from error
    return weights


def _load(
    model: nn.Module, weights: Mapping[str, Tensor], called: str, keep: Collection[str] = ()
) -> None:
    # Older files don't count batches, and with a fixed momentum nobody reads the number.
    counters = (k for k in model.state_dict() if k.endswith(".num_batches_tracked"))
    fitting = {counter: torch.tensor(0) for counter in counters} | dict(translated(model, weights))
    if keep:
        keep = [keep] if isinstance(keep, str) else keep
        parts = [name for name, _ in model.named_modules() if name]
        for part in keep:
            if part not in parts:
                raise ValueError(f"the model has no part {part!r} to keep; {closest(part, parts)}")
        stays = tuple(f"{part}." for part in keep)
        fitting = {k: v for k, v in fitting.items() if not k.startswith(stays)}
        fitting |= {k: v for k, v in model.state_dict().items() if k.startswith(stays)}
    problems = differences(model, fitting)
    if problems:
        shown = "; ".join(problems[:_SHOWN])
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        hint = _classes_hint(model, fitting, problems) or _looks_like(weights)
        raise ValueError(f"{called} doesn't fit the model: {shown}{more}. {hint}")
    model.load_state_dict(fitting)


def _looks_like(weights: Mapping[str, Tensor]) -> str:
    name = _recognise(weights)
    return f"it looks like weights of {name}" if name else "no model of ours has these names"


def _classes_hint(
    model: nn.Module, weights: Mapping[str, Tensor], problems: list[str]
) -> str | None:
    """What to do where nothing but the number of classes differs."""
    own, given = model.state_dict().get("head.weight"), weights.get("head.weight")
    if own is None or given is None or not all(text.startswith("head.") for text in problems):
        return None
    return (
        f"they were made for {given.shape[0]} classes and the model for {own.shape[0]}: make it "
        f'with num_classes={given.shape[0]}, or keep its own classifier (keep=["head"]; '
        "stereo-tr classify: --new-classifier)"
    )


def _recognise(weights: Mapping[str, Tensor]) -> str | None:
    """Return the model that the weights were made for, if there is one."""
    families: dict[str, list[str]] = {}
    for name, place in _MODELS.items():
        # The stereo models of one module differ in more than size.
        family = place if place.startswith("stereo.") else place.split(":")[0]
        families.setdefault(family, []).append(name)
    return best_fit(weights, families.values(), _skeleton)


@cache
def _skeleton(name: str) -> nn.Module:
    """The model with names and shapes only, which costs no memory to keep."""
    with torch.device("meta"):
        return create_model(name)


def _halved(name: str, value: Tensor) -> Tensor:
    value = value.detach().cpu().contiguous()
    if not value.isfinite().all():
        raise ValueError(f"{name} isn't finite; these weights are broken and aren't written")
    if not value.is_floating_point():
        return value
    half = value.half()
    return half if half.isfinite().all() else value
