"""A training run at some step: what a checkpoint holds, and what one step does with it.

One step: the processes share its pairs, average their gradients (DistributedDataParallel), clip
them, and take one AdamW step; a running average of the weights is what is validated and exported.
Averaging over processes equals one process with all the pairs where a model's losses are means over
samples of something computed for each sample.

Letters  B batch, H W image height and width in pixels
Tests    tests/test_training.py: two processes equal one, infinity names its step and its sample
"""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from . import pretrained
from .checkpoint import load_checkpoint
from .datasets.files import write_bytes
from .datasets.sample import StereoSample
from .processes import Processes, seed_step
from .recipe import TrainingSettings, learning_rate, make_optimizer, parse_overrides, uses_bf16
from .stereo.metrics import bad_n, epe
from .training_data import collate, open_validation, pick, to_device
from .training_log import TrainingLog


class TrainingError(ValueError):
    """A step whose loss or gradient isn't finite; the message names the step and the samples."""


class TrainingStep(nn.Module):
    """A model and its losses as one module, so that one forward pass is what gets distributed."""

    def __init__(self, model: nn.Module, device: torch.device, bf16: bool) -> None:
        super().__init__()
        self.model = model
        self._autocast = {"device_type": device.type, "dtype": torch.bfloat16, "enabled": bf16}

    def forward(self, sample: StereoSample) -> dict[str, Tensor]:
        """Return the model's weighted losses for a batch; the total is their sum."""
        with torch.autocast(**self._autocast):
            return self.model.training_losses(sample)


class Run:
    """A training run at some step: what a checkpoint holds, and what one step does with it."""

    def __init__(
        self, settings: TrainingSettings, processes: Processes, state: dict[str, Any] | None
    ) -> None:
        """Start a run, or go on from the `state` that `Run.state` returned."""
        self.settings, self.processes = settings, processes
        torch.manual_seed(settings.seed)
        self.model = _create(settings.stored_form()).to(processes.device).train()
        if settings.weights and state is None:
            pretrained.load_weights(self.model, settings.weights)
        self.average = _average(self.model, settings.ema)
        self.optimizer = make_optimizer(settings, self.model)
        self.step = 0
        self.validated = -1
        self.best = float("inf")
        if state is not None:
            self._restore(state)
        bf16 = uses_bf16(settings.precision, processes.device)
        self.single = TrainingStep(self.model, processes.device, bf16)
        self.parallel: nn.Module = self.single
        if settings.compile:
            self.parallel = torch.compile(self.parallel)
        if processes.count > 1:
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
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.step, self.validated, self.best = state["step"], state["validated"], state["best"]
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])

    def learn(self, sample: StereoSample, stop: bool) -> tuple[dict[str, float], bool]:
        """Take one step with this process's share of the pairs.

        Returns means over all processes (each loss, their total, the gradient's norm), and whether
        any process wants to `stop`. Raises TrainingError, with the weights as they were, if the
        loss or the gradient isn't finite.
        """
        rate = learning_rate(self.settings, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        seed_step(self.settings.seed, self.step, self.processes.rank)
        self.optimizer.zero_grad(set_to_none=True)
        losses = self.parallel(sample)
        total = torch.stack(list(losses.values())).sum()
        total.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        values = torch.stack([*losses.values(), total, total.new_tensor(stop)]).detach().double()
        *means, mean_total, stops = (self.processes.total(values) / self.processes.count).tolist()
        report = dict(zip(losses, means, strict=True)) | {"total": mean_total, "norm": norm.item()}
        # The norm is that of the averaged gradient: every process sees the same numbers here.
        if not all(map(torch.isfinite, torch.tensor([mean_total, report["norm"]]))):
            raise TrainingError(self._blame(sample, report))
        self.optimizer.step()
        self.average.update_parameters(self.model)
        self.step += 1
        return report, stops > 0

    def _blame(self, sample: StereoSample, report: dict[str, float]) -> str:
        """Find the samples that spoil the step one by one, save them, and word the error."""
        suspects, files = [], []
        for index in range(len(sample.name)):
            alone = pick(sample, index)
            seed_step(self.settings.seed, self.step, self.processes.rank)
            self.optimizer.zero_grad(set_to_none=True)
            total = torch.stack(list(self.single(alone).values())).sum()
            total.backward()
            gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
            if not all(bool(x.isfinite().all()) for x in [total, *gradients]):
                suspects.append(alone)
        # If none does it alone, the cause lies in the batch or in the weights: show all of it.
        suspects = suspects or [pick(sample, index) for index in range(len(sample.name))]
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
            f"{', '.join(files)} in {self.settings.out}. The last checkpoint is from before it"
        )

    @torch.no_grad()
    def validate(self, log: TrainingLog | None) -> dict[str, float]:
        """Score the averaged weights on pairs never trained on, shared among the processes.

        Means over images, in pixels and percent, over pixels that both cameras see ("all": also
        over those that the right camera doesn't see).
        """
        model, device = self.average.module.eval(), self.processes.device
        bf16 = uses_bf16(self.settings.precision, device)
        scenes = open_validation(self.settings)
        names = ["epe", "bad_1", "bad_2", "bad_3", "epe_all"]
        sums = torch.zeros(2, len(names), dtype=torch.float64, device=device)
        for index in range(self.processes.rank, self.settings.validate_pairs, self.processes.count):
            sample = to_device(collate([scenes[index]]), device)
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                guess = model(sample.left, sample.right).disparity.float()
            seen = sample.valid & ~sample.occluded
            scores = [epe(guess, sample.disparity, seen)]
            scores += [bad_n(guess, sample.disparity, seen, n) for n in (1, 2, 3)]
            scores += [epe(guess, sample.disparity, sample.valid)]
            row = torch.cat(scores).double()
            sums += torch.stack([row.nan_to_num(nan=0.0), (~row.isnan()).double()])
            if index == 0 and log is not None:
                log.picture(self.step, sample.left[0], guess[0], sample.disparity[0])
        total, count = self.processes.total(sums)
        self.validated = self.step
        return dict(zip(names, (total / count.clamp(min=1)).tolist(), strict=True))


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
    pretrained.require_stereo(stored["model"])
    return pretrained.create_model(stored["model"], **parse_overrides(stored["override"]))


def _average(model: nn.Module, decay: float) -> AveragedModel:
    """A running average of the weights, shorter-lived at the start; decay 0 is the last weights."""

    def update(average: list[Tensor], now: list[Tensor], count: Tensor) -> None:
        # After n steps an average over more than about n / 10 of them would remember the start.
        n = float(count)
        torch._foreach_lerp_(average, now, 1 - min(decay, (1 + n) / (10 + n)))

    return AveragedModel(model, multi_avg_fn=update)
