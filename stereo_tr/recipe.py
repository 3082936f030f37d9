"""How a model is trained: the settings, which are also the help text, and what follows from them.

A recipe is a frozen `TrainingSettings`. What isn't given comes from its preset; the filled recipe
is stored in every checkpoint. On resuming, four kinds of setting behave differently:

    where and how     out, resume, export, minutes, device, workers, checkpointing, compile,
                      log_every, save_minutes: always those of the command at hand, never stored
    may be changed    steps, learning_rate, schedule, epoch, warmup, validate_every,
                      validate_pairs, precision, accumulate, and where the data lie: root,
                      validate_root: the stored value unless another one is given
    fixed             everything else: giving another value than the stored one is an error
    preset            only says what an unstated setting of a new run is

The presets are in presets.py.

Tests  tests/test_recipe.py, tests/test_training.py
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from .presets import PRESETS
from .tasks import task_for

PER_LAUNCH = (
    "out",
    "resume",
    "export",
    "preset",
    "minutes",
    "device",
    "workers",
    "checkpointing",
    "compile",
    "log_every",
    "save_minutes",
)
CHANGEABLE = (
    "steps",
    "learning_rate",
    "schedule",
    "epoch",
    "warmup",
    "validate_every",
    "validate_pairs",
    "precision",
    "accumulate",
    "root",
    "validate_root",
)


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of a training run. What is None comes from the preset, or from the resumed run."""

    out: Path
    """folder of the run: checkpoints, logs, weights"""
    resume: bool = False
    """go on with the run in --out, with its settings, exactly where its last checkpoint stands"""
    export: Path | None = None
    """train nothing: write the averaged weights of the last checkpoint in --out to this file"""
    preset: Literal[*PRESETS] | None = None
    """small: our recipe for cstr_small; cstr (also called published) and sttr: pre-training on
    FlyingThings3D as published; kitti: STTR's fine-tuning on KITTI, which starts from --weights;
    classify: vision models on images by class (stereo-tr classify)"""
    model: str | None = None
    """name of the model (small: cstr_small, cstr: cstr, sttr and kitti: sttr)"""
    override: tuple[str, ...] | None = None
    """changes to the model, name=value each; a value is JSON (false, 3, [1, 2]), False, or plain
    text"""
    weights: str | None = None
    """start from these weights (a file or a packaged name) and not from random ones"""
    data: tuple[str, ...] | None = None
    """what to train on: generated, or names of data sets on disk (an unknown name lists them), with
    weights where there are several: sceneflow:0.7 generated:0.3 (small: generated)"""
    root: tuple[str, ...] | None = None
    """where data on disk lie: a folder (or packed file), or NAME=FOLDER for each data set"""
    augmentation: str | None = None
    """how pairs from disk are changed before the crop: none, sttr, sttr_kitti, raft_stereo,
    crestereo, strong (small: strong, cstr and sttr: sttr, kitti: sttr_kitti)"""
    height: int | None = None
    """rows of a training pair (small: 160, cstr and sttr: 360, kitti: 200)"""
    width: int | None = None
    """columns of a training pair (small: 320, others: 640)"""
    batch: int | None = None
    """pairs a step, over all processes together (small: 4, others: 1)"""
    steps: int | None = None
    """steps of the whole run, from its beginning (small: 100,000; cstr: 559,750; sttr: 335,850;
    kitti: 128,000)"""
    learning_rate: float | None = None
    """highest learning rate of AdamW (small: 7e-4, others: 1e-4)"""
    weight_decay: float | None = None
    """weight decay of AdamW (1e-4)"""
    schedule: Literal["cosine", "trapezoid", "exponential", "constant"] | None = None
    """learning rate after the warm-up. cosine: falls to zero over all steps (small); trapezoid:
    stays and falls to zero over the last quarter, so that --steps can be raised until then;
    exponential: times 0.99 an epoch (kitti); constant: stays (cstr, sttr)"""
    epoch: int | None = None
    """pairs between two falls of the exponential schedule (kitti: 320; others: 22,390, the pairs of
    FlyingThings3D)"""
    warmup: int | None = None
    """steps over which the learning rate rises from zero (small: 500, others: 0)"""
    clip: float | None = None
    """largest norm of the gradient (small: 1, others: 0.1)"""
    ema: float | None = None
    """decay of the running average of the weights, which is validated and exported; 0: no average
    (small: 0.999, others: 0)"""
    seed: int | None = None
    """seed of the weights, the data and whatever the model draws (0)"""
    validate: str | None = None
    """name of the data that a validation scores, whole pairs; not given: the part that the first
    data set of --data holds back, where it does, else generated pairs"""
    validate_root: str | None = None
    """where those lie (not given: as --root says for that data set)"""
    validate_every: int | None = None
    """steps between two validations (2000); one comes before the first step, one after the last"""
    validate_pairs: int | None = None
    """pairs that a validation scores at most (32)"""
    precision: Literal["auto", "float32", "bf16", "fp16"] | None = None
    """auto: bf16 autocast where the processor computes with it, float32 elsewhere; fp16: autocast
    with scaled losses, on cuda only (auto)"""
    accumulate: int | None = None
    """compute each step's pairs in so many equal parts, one after the other: less memory, the same
    result up to rounding. Not where the model has batch norm (cstr, sttr, sttr_light, mask models):
    its statistics are then those of a part (1)"""
    checkpointing: bool = False
    """compute blocks again for their gradients and keep less: less memory, slower steps"""
    device: str = "cpu"
    """where to train: cpu, cuda, cuda:1, ..."""
    workers: int = 1
    """helpers that make the pairs, for each training process; 0: it makes them itself"""
    minutes: float | None = None
    """save and stop, with exit code 0, after so many minutes"""
    save_minutes: float = 10.0
    """minutes between two checkpoints"""
    log_every: int = 50
    """steps between two entries of the log"""
    compile: bool = False
    """compile the model with torch.compile: a slow start, then faster steps on a GPU"""

    def filled(self) -> "TrainingSettings":
        """Take what isn't given from the preset, and the preset from the model's task.

        Raises ValueError for values that can't be.
        """
        name = self.preset or (task_for(self.model).preset if self.model else "small")
        preset = PRESETS[name]
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        missing = {name: value for name, value in preset.items() if given[name] is None}
        return replace(self, **missing).checked()

    def continued(self, stored: dict[str, Any]) -> "TrainingSettings":
        """Take what isn't given from the `stored` settings of a run (see `stored_form`).

        Raises ValueError where a setting that is fixed for the whole run was given differently.
        """
        taken = {}
        for name, old in stored.items():
            old = tuple(old) if isinstance(old, list) else old
            new = getattr(self, name)
            if new is None:
                taken[name] = old
            elif new != old and name not in CHANGEABLE:
                raise ValueError(
                    f"{name} is {old} in this run and can't become {new}: leave it out, or start a "
                    "new run in another folder (from this one's weights: --weights FILE). "
                    f"Only {', '.join(CHANGEABLE)} may change"
                )
        # What an older version didn't store comes from the preset, which means what that did.
        return replace(self, **taken).filled()

    def stored_form(self) -> dict[str, Any]:
        """Return what belongs to the run, as plain values that a checkpoint can hold."""
        plain = {k: v for k, v in asdict(self).items() if k not in PER_LAUNCH}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in plain.items()}

    def checked(self) -> "TrainingSettings":
        """Return the settings unchanged; raises ValueError for values that can't be."""
        for name, value in asdict(self).items():
            endless = value == math.inf and name != "learning_rate"  # no clipping, no end of time
            if isinstance(value, float) and not (math.isfinite(value) or endless):
                raise ValueError(f"--{name.replace('_', '-')} takes a finite number, not {value}")
        positive = ("height", "width", "batch", "steps", "learning_rate", "clip", "epoch")
        for name in (*positive, "validate_every", "validate_pairs", "log_every", "accumulate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"--{name.replace('_', '-')} must be positive")
        for name in ("workers", "warmup", "seed", "weight_decay", "minutes", "save_minutes"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"--{name.replace('_', '-')} can't be negative")
        if not 0 <= self.ema < 1:
            raise ValueError(f"--ema is a decay from 0 to below 1, not {self.ema}")
        parse_overrides(self.override)
        if self.batch % self.accumulate:
            raise ValueError(
                f"--batch {self.batch} can't be split into --accumulate {self.accumulate} equal "
                "parts; take numbers that divide"
            )
        return self


def parse_overrides(override: Sequence[str]) -> dict[str, Any]:
    """Turn ("layers=3", "bias=false") into {"layers": 3, "bias": False}, or raise ValueError."""
    values: dict[str, Any] = {}
    for text in override:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise ValueError(f"--override takes name=value, not {text!r}")
        values[name] = _value(value)
    return values


def _value(text: str) -> Any:
    """Read JSON, or Python's own spelling of its constants; else take the text as it is."""
    text = {"True": "true", "False": "false", "None": "null"}.get(text, text)
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def learning_rate(settings: TrainingSettings, step: int) -> float:
    """Return the learning rate of the step after `step` steps; it depends on nothing else.

    So a run can be resumed anywhere, also with more steps or another rate. The warm-up is linear
    and reaches the full rate at step `warmup`.
    """
    rate, warmup = settings.learning_rate, settings.warmup
    if step < warmup:
        return rate * (step + 1) / (warmup + 1)
    if settings.schedule == "exponential":
        return rate * 0.99 ** (step * settings.batch // settings.epoch)
    if settings.schedule == "constant":
        return rate
    if settings.schedule == "trapezoid":
        return rate * min(1.0, (settings.steps - step) / (settings.steps / 4))
    gone = (step - warmup) / max(1, settings.steps - warmup)
    return rate * (1 + math.cos(math.pi * min(1.0, gone))) / 2


def make_optimizer(settings: TrainingSettings, model: nn.Module) -> torch.optim.AdamW:
    """AdamW over the model's parameters. Each group's rate is `learning_rate` times its "scale".

    As published, weight decay acts on everything and parameters whose name contains "regression"
    learn twice as fast; a model without such a name has one group.
    """
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault(2.0 if "regression" in name else 1.0, []).append(parameter)
    return torch.optim.AdamW(
        [{"params": parameters, "scale": scale} for scale, parameters in groups.items()],
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=True,
    )


def uses_bf16(precision: str, device: torch.device) -> bool:
    """Say whether to compute in bf16: `precision` decides, and with "auto" the hardware does."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # No public name yet: a CPU without these instructions emulates bf16, slower than float32.
    checks = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, c, bool)() for c in checks)


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Compute with `precision` inside a `with` block.

    Raises ValueError for fp16 anywhere but on a GPU: its gradients need scaled losses, and only
    there is it faster.
    """
    if precision == "fp16" and device.type != "cuda":
        raise ValueError(
            f"--precision fp16 is for cuda devices, not {device.type}; take bf16 or float32"
        )
    reduced = precision == "fp16" or uses_bf16(precision, device)
    kind = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, kind, enabled=reduced)
