"""A training run at some step: what a checkpoint holds, and what one step does with it.

One step: the processes share its samples, average their gradients (DistributedDataParallel), clip
them, and take one AdamW step; a running average of the weights is what is validated and exported.
Averaging over processes equals one process with all the samples where a model's losses are means
over samples of something computed for each sample, and where it has no batch norm: that sees a
process's part of the samples alone.

Tests  tests/test_training.py: two processes equal one, infinity names its step and its sample
"""

import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from . import pretrained
from .checkpoint import load_checkpoint
from .datasets.files import write_bytes
from .processes import Processes, seed_step
from .recipe import TrainingSettings, autocast, learning_rate, make_optimizer, parse_overrides
from .recomputing import recompute_blocks
from .tasks import Task
from .training_data import pick, to_device
from .training_log import TrainingLog


class TrainingError(ValueError):
    """A run that can't go on; the message says why, and from which checkpoint it can later."""


class TrainingStep(nn.Module):
    """A model and its losses as one module, so that one forward pass is what gets distributed."""

    def __init__(self, model: nn.Module, device: torch.device, precision: str) -> None:
        super().__init__()
        self.model, self.device, self.precision = model, device, precision

    def forward(self, batch: Any) -> dict[str, Tensor]:
        """Return the model's weighted losses for a batch; the total is their sum."""
        with autocast(self.precision, self.device):
            return self.model.training_losses(batch)


class Run:
    """A training run at some step: what a checkpoint holds, and what one step does with it."""

    def __init__(
        self,
        settings: TrainingSettings,
        task: Task,
        processes: Processes,
        state: dict[str, Any] | None,
    ) -> None:
        """Start a run, or go on from the `state` that `Run.state` returned."""
        self.settings, self.task, self.processes = settings, task, processes
        autocast(settings.precision, processes.device)  # says now what can't be
        share = settings.batch // processes.count
        if share % settings.accumulate:
            raise ValueError(
                f"a process's {share} {task.unit} a step can't be split into --accumulate "
                f"{settings.accumulate} equal parts; take a number that divides"
            )
        torch.manual_seed(settings.seed)
        self.model = _create(settings.stored_form()).to(processes.device).train()
        if settings.weights and state is None:
            pretrained.load_weights(self.model, settings.weights)
        self.average = _average(self.model, settings.ema)
        # A compiler would take a momentum that changes for another program.
        self.norms = [] if settings.compile else batch_norms(self.model)
        self.optimizer = make_optimizer(settings, self.model)
        fp16 = settings.precision == "fp16"
        self.scaler = torch.amp.GradScaler(processes.device.type, enabled=fp16)
        self.validation = task.validation(settings)
        self.step = 0
        self.validated = -1
        self.best: float | None = None
        if state is not None:
            self._restore(state)
        if settings.checkpointing:
            recompute_blocks(self.model)
        self.single = TrainingStep(self.model, processes.device, settings.precision)
        self.parallel: nn.Module = self.single
        if settings.compile:
            self.parallel = torch.compile(self.parallel)
        if processes.count > 1:
            # A depthwise weight has one input channel, and the stride along one means nothing.
            warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
            self.parallel = DistributedDataParallel(self.parallel, gradient_as_bucket_view=True)

    def state(self) -> dict[str, Any]:
        """Return everything the next step depends on, as tensors and plain values."""
        return {
            "settings": self.settings.stored_form(),
            "step": self.step,
            "validated": self.validated,
            "best": self.best,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.step, self.validated, self.best = state["step"], state["validated"], state["best"]
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scaler.is_enabled() and state.get("scaler"):
            self.scaler.load_state_dict(state["scaler"])

    def learn(self, batch: Any, stop: bool) -> tuple[dict[str, float], bool]:
        """Take one step with this process's share of the pairs.

        Returns means over all processes (each loss, their total, the gradient's norm), and whether
        any process wants to `stop`. Raises TrainingError, with the weights as they were, if the
        loss or the gradient isn't finite.
        """
        rate = learning_rate(self.settings, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        forget_start(self.norms, self.step)
        seed_step(self.settings.seed, self.step, self.processes.rank)
        self.optimizer.zero_grad(set_to_none=True)
        losses, total = self._gradients(batch)
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        values = torch.stack([*losses.values(), total, total.new_tensor(stop)]).double()
        *means, mean_total, stops = (self.processes.total(values) / self.processes.count).tolist()
        report = dict(zip(losses, means, strict=True)) | {"total": mean_total, "norm": norm.item()}
        # The norm is that of the averaged gradient: every process sees the same numbers here.
        # A gradient beyond half precision is no error as long as the scale of the loss can fall.
        overflow = self.scaler.is_enabled() and self.scaler.get_scale() > 1
        if not (isfinite(mean_total) and (isfinite(report["norm"]) or overflow)):
            raise TrainingError(self._blame(batch, report))
        self.scaler.step(self.optimizer)  # takes no step where the gradient overflowed
        self.scaler.update()
        self.average.update_parameters(self.model)
        self.step += 1
        return report, stops > 0

    def _gradients(self, batch: Any) -> tuple[dict[str, Tensor], Tensor]:
        """Compute the gradient of this process's samples, part by part; return losses and total."""
        parts = self.settings.accumulate
        share = len(batch.name) // parts
        sums: dict[str, Tensor] = {}
        for part in range(parts):
            # The gradients travel between the processes once, with the last part.
            last = part + 1 == parts or self.processes.count == 1
            with nullcontext() if last else self.parallel.no_sync():
                losses = self.parallel(pick(batch, part * share, share))
                total = torch.stack(list(losses.values())).sum()
                self.scaler.scale(total / parts).backward()
            for name, loss in (losses | {"total": total}).items():
                sums[name] = sums.get(name, 0) + loss.detach() / parts
        return sums, sums.pop("total")

    def _blame(self, batch: Any, report: dict[str, float]) -> str:
        """Find the samples that spoil the step one by one, save them, and word the error."""
        suspects, files = [], []
        for index in range(len(batch.name)):
            alone = pick(batch, index)
            seed_step(self.settings.seed, self.step, self.processes.rank)
            self.optimizer.zero_grad(set_to_none=True)
            total = torch.stack(list(self.single(alone).values())).sum()
            total.backward()
            gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
            if not all(bool(x.isfinite().all()) for x in [total, *gradients]):
                suspects.append(alone)
        # If none does it alone, the cause lies in the batch or in the weights: show all of it.
        suspects = suspects or [pick(batch, index) for index in range(len(batch.name))]
        for index, alone in enumerate(suspects):
            name = f"not_finite_step{self.step}_process{self.processes.rank}_{index}.safetensors"
            tensors = {k: v for k, v in alone._asdict().items() if isinstance(v, Tensor)}
            data = {k: v.contiguous().cpu() for k, v in tensors.items()}
            about = {"name": alone.name[0], "step": str(self.step)}
            write_bytes(self.settings.out / name, save(data, metadata=about))
            files.append(name)
        names = self.processes.gather([alone.name[0] for alone in suspects])
        files = self.processes.gather(files)
        return (
            f"step {self.step}: the loss ({report['total']:g}) or the gradient's norm "
            f"({report['norm']:g}) isn't finite; sample {', '.join(names)}, saved as "
            f"{', '.join(files)} in {self.settings.out}"
        )

    @torch.no_grad()
    def validate(self, log: TrainingLog | None) -> dict[str, float]:
        """Score the averaged weights on the task's samples, shared among the processes."""
        model, device = self.average.module.eval(), self.processes.device
        task, samples = self.task, self.validation
        count = min(len(samples), self.settings.validate_pairs)
        # A process without a sample of its own looks at one, too: it has to add zeros to a sum
        # whose length only the task knows.
        mine = list(range(self.processes.rank, count, self.processes.count))
        sums: Tensor | None = None
        with autocast(self.settings.precision, device):
            for index in mine or [0]:
                batch = to_device(task.collate([samples[index]]), device)
                tally = task.tally(model, batch)
                sums = tally if sums is None else sums + tally
                if index == 0 and log is not None and log.shows_pictures:
                    task.picture(log, self.step, model, batch)
        total = self.processes.total(sums if mine else torch.zeros_like(sums))
        self.validated = self.step
        return task.scores(total)


def export_weights(checkpoint: Path, path: Path) -> None:
    """Write the averaged weights of a checkpoint as packaged weights (half precision) to `path`.

    Raises ValueError where `path` doesn't end in .safetensors: nothing would load it.
    """
    if path.suffix != ".safetensors":
        raise ValueError(f"{path}: weights are exported as .safetensors; give such a name")
    state = load_checkpoint(checkpoint)
    average = _average(_create(state["settings"]), 0.0)
    average.load_state_dict(state["average"])
    write_weights(average.module, state["settings"], path)


def write_weights(model: nn.Module, stored: dict[str, Any], path: Path) -> None:
    """Write `model` as packaged weights, with its name and overrides from the `stored` settings."""
    pretrained.save_weights(model, path, stored["model"], parse_overrides(stored["override"]))


def _create(stored: dict[str, Any]) -> nn.Module:
    return pretrained.create_model(stored["model"], **parse_overrides(stored["override"]))


def _average(model: nn.Module, decay: float) -> AveragedModel:
    """A running average of the weights, shorter-lived at the start; decay 0 is the last weights."""

    def update(average: list[Tensor], now: list[Tensor], count: Tensor) -> None:
        torch._foreach_lerp_(average, now, 1 - decay_after(int(count), decay))

    return AveragedModel(model, multi_avg_fn=update)


def decay_after(steps: int, decay: float) -> float:
    """Decay of a running average after `steps` steps: at most `decay`, lower at the start.

    After n steps an average over more than about n / 10 of them would remember the start.
    """
    return min(decay, (1 + steps) / (10 + steps))


def batch_norms(model: nn.Module) -> list[tuple[_BatchNorm, float]]:
    """Batch norms whose statistics are running averages, each with its momentum (1 - decay)."""
    found = (module for module in model.modules() if isinstance(module, _BatchNorm))
    return [(norm, norm.momentum) for norm in found if norm.momentum is not None]


def forget_start(norms: Sequence[tuple[_BatchNorm, float]], steps: int) -> None:
    """Set momenta for the step after `steps` steps: else short runs keep statistics of the start.

    MOAT's decay of 0.99, as published, holds a fifth of them after 150 steps.
    """
    for norm, momentum in norms:
        norm.momentum = max(momentum, 1 - decay_after(steps, 1.0))
