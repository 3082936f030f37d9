"""The training loop: any task, on one process or many, stopped and resumed at any step.

    results = train(TrainingSettings(out=Path("run"), steps=1000))

A run is a folder: checkpoints (checkpoint.py), log (training_log.py) and, at the end,
`weights.safetensors`. The recipe is in recipe.py, the order of the data in training_data.py, what
is learned in tasks.py, one step in training_run.py. Here is what happens between the steps.

Tests  tests/test_training.py: learns one pair by heart, resumes to the same bits, signals
       tests/test_training_kills.py, tests/test_training_failures.py: what it survives
"""

import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch

from .checkpoint import LAST, has_run, load_last, remove_leftovers, save_checkpoint
from .processes import Processes, StopSignal
from .progress import Progress, progress
from .recipe import TrainingSettings, uses_bf16
from .tasks import task_for
from .training_data import DataError, HelperError, StepBatches, make_loader, read, to_device
from .training_log import TrainingLog
from .training_run import Run, TrainingError, write_weights

WEIGHTS = "weights.safetensors"


def train(settings: TrainingSettings) -> dict[str, Any]:
    """Train as the settings say; see `TrainingSettings`. Called alike in each process of torchrun.

    Returns {"step", "finished", "first" (True in the one process that prints), "signal" (what
    stopped the run, or None), "weights" (path, or None)} and the last validation's scores.

    Raises ValueError for settings that can't be, FileNotFoundError where there is nothing to
    resume, OSError where the folder can't be written, and TrainingError for what ends a run that
    has begun: a step that isn't finite, a sample that can't be read, a full disk, a helper or
    another process that died. The last checkpoint, which it names, is whole in each case.
    """
    started = time.monotonic()
    state = None
    if settings.resume:
        state, source = load_last(settings.out)
        settings = settings.continued(state["settings"])
    else:
        settings = settings.filled()
        if has_run(settings.out):
            raise ValueError(f"{settings.out} holds a run: add --resume, or take another folder")
    task = task_for(settings.model)
    task.check(settings)
    data = task.data(settings)
    with Processes(settings.device) as processes, StopSignal() as signals:
        run = Run(settings, task, processes, state)
        batches = StepBatches(
            run.step, settings.steps, settings.batch, processes.rank, processes.count
        )
        processes.wait()  # everyone has looked into the folder before it changes
        log = None
        if processes.first:
            settings.out.mkdir(parents=True, exist_ok=True)
            remove_leftovers(settings.out)
            log = TrainingLog(settings.out, run.step)
            log.scalars(run.step, {}, **_about(settings, processes))
            if state is not None:
                print(f"going on after step {run.step} of {settings.steps} ({source})", flush=True)
        on_gpu = processes.device.type == "cuda"
        loader = make_loader(data, batches, settings.workers, task.collate, on_gpu)
        loaded = read(loader)
        bar = progress(loaded, total=settings.steps, label="train", initial=run.step)
        loop = _Loop(run, log, bar, started)
        try:
            try:
                scores = loop.go(bar if processes.first else loaded, signals)
            finally:
                if log is not None:
                    log.close()
        except (ValueError, OSError, RuntimeError) as error:
            reason = _reason(error, processes)
            if reason is None:
                raise
            raise TrainingError(f"{reason}. {loop.where_to_go_on()}") from error
        finished, weights = run.step >= settings.steps, None
        if finished and processes.first:
            weights = settings.out / WEIGHTS
            write_weights(run.average.module, settings.stored_form(), weights)
    return {
        "step": run.step,
        "finished": finished,
        "first": processes.first,
        "signal": signals.received,
        "weights": weights,
        **scores,
    }


class _Loop:
    """Runs the steps and does what is due between two of them: log, validate, save, stop."""

    def __init__(
        self, run: Run, log: TrainingLog | None, bar: Progress[Any], started: float
    ) -> None:
        self.run, self.log, self.bar, self.settings = run, log, bar, run.settings
        minutes = self.settings.minutes
        self.deadline = started + 60 * (float("inf") if minutes is None else minutes)
        self.saved = (-1, -1) if run.step == 0 else (run.step, run.validated)
        self.saved_at = time.monotonic()

    def go(self, batches: Iterable[Any], signals: StopSignal) -> dict[str, float]:
        """Take all steps that are left, or as many as signals and time allow."""
        run, settings = self.run, self.settings
        self.save()  # a run killed early can be resumed, too
        self.start_clock()
        scores = self.validate_if_due()
        try:
            for batch in batches:
                asked = signals.received is not None or time.monotonic() > self.deadline
                report, stop = run.learn(to_device(batch, run.processes.device), asked)
                self.note(report)
                if stop and run.step < settings.steps:  # a finished run is always scored
                    break
                scores = self.validate_if_due() or scores
                if time.monotonic() - self.saved_at > 60 * settings.save_minutes:
                    self.save()
        except DataError:
            self.save()  # the steps before the broken sample aren't lost
            raise
        self.save()
        return scores

    def where_to_go_on(self) -> str:
        """Say what the last checkpoint is, for a run that ends early."""
        if self.saved[0] < 0:
            return "No checkpoint was written yet"
        last, step = self.settings.out / LAST, self.saved[0]
        return f"The last checkpoint is {last}, after step {step}; --resume goes on from it"

    def start_clock(self) -> None:
        """Begin a new stretch of steps to average over."""
        self.sums: dict[str, float] = defaultdict(float)
        self.clock, self.counted = time.monotonic(), 0

    def note(self, report: dict[str, float]) -> None:
        """Add one step's losses to the average, and log that every few steps."""
        for name, value in report.items():
            self.sums[name] += value
        self.counted += 1
        if self.run.step % self.settings.log_every:
            return
        means = {f"train/{name}": value / self.counted for name, value in self.sums.items()}
        means["train/learning_rate"] = self.run.optimizer.param_groups[0]["lr"]
        rate = self.counted * self.settings.batch / (time.monotonic() - self.clock)
        means[f"train/{self.run.task.unit}_per_second"] = rate
        if self.log is not None:
            self.log.scalars(self.run.step, means)
        self.bar.note(f"loss {means['train/total']:.3f}, {rate:.1f} {self.run.task.unit}/s")
        self.start_clock()

    def validate_if_due(self) -> dict[str, float]:
        """Validate before the first step, every few steps, and after the last one.

        A finished run that is resumed is validated again: whoever asks for it wants its scores.
        """
        run = self.run
        last = run.step == self.settings.steps
        due = run.step % self.settings.validate_every == 0 and run.validated != run.step
        if not (due or last):
            return {}
        began = time.monotonic()
        scores = run.validate(self.log)
        best = run.task.better(scores, run.best)
        if best:
            run.best = scores[run.task.decisive]
        if run.processes.first:
            self.log.scalars(run.step, {f"validation/{k}": v for k, v in scores.items()})
            self.bar.print(
                f"step {run.step}: validation {run.task.describe(scores)}"
                f"{' (best)' if best else ''}"
            )
            if best:
                save_checkpoint(self.settings.out, run.state(), best=True)
        self.clock += time.monotonic() - began  # the rate is that of training
        return scores

    def save(self) -> None:
        """Write the last checkpoint, unless it is written already."""
        run = self.run
        self.saved_at = time.monotonic()
        if self.saved != (run.step, run.validated):
            if run.processes.first:
                save_checkpoint(self.settings.out, run.state())
            self.saved = (run.step, run.validated)


def _reason(error: Exception, processes: Processes) -> str | None:
    """Say what ended the run; None for what looks like a mistake of ours and needs its traceback.

    torch tells the death of a helper that it hears of, and of another process, by the text of a
    RuntimeError only.
    """
    text = " ".join(str(error).split())
    if isinstance(error, torch.OutOfMemoryError):
        return f"the device's memory is full; take less --batch, or more --accumulate ({text})"
    if "DataLoader worker" in text or isinstance(error, HelperError):
        return f"a helper that loads the data died; is memory short? ({text.rstrip('. ')})"
    if not isinstance(error, RuntimeError):
        return text
    lost = ("gloo", "NCCL", "Connection", "connection", "Broken pipe", "Timed out", "timed out")
    if processes.count > 1 and any(sign in text for sign in lost):
        return f"process {processes.rank} has lost another process of this run ({text})"
    return None


def _about(settings: TrainingSettings, processes: Processes) -> dict[str, Any]:
    """What a reader of the log needs to repeat the run."""
    return {
        "settings": settings.stored_form(),
        "command": sys.argv,
        "processes": processes.count,
        "threads": torch.get_num_threads(),
        "device": str(processes.device),
        "bf16": uses_bf16(settings.precision, processes.device),
        "torch": torch.__version__,
        "time": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }
