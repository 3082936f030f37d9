"""What a run learns: the task, which the training loop asks for data, batches and scores.

The loop (training.py, training_run.py) knows no data set and no measure. A task is chosen by its
model's kind, which is the folder the model lives in:

    mask      an image in, segments out        panoptic_training.py
    stereo    two views in, disparity out      stereo_training.py
    vision    an image in, its class out       classification.py

A new kind of model is trained by writing a `Task` and adding it to TASKS. Its models have
`training_losses(batch) -> dict[str, Tensor]`: weighted scalars, each a mean over samples of
something computed for each sample, whose sum is lowered.

Letters  B samples in a batch, K numbers that a score is made of
Tests    tests/test_tasks.py
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any, ClassVar

from jaxtyping import Float64
from torch import Tensor, nn
from torch.utils.data import Dataset

from . import pretrained

if TYPE_CHECKING:
    from .recipe import TrainingSettings
    from .training_log import TrainingLog

TASKS = {
    "mask": "panoptic_training:PanopticTask",
    "stereo": "stereo_training:StereoTask",
    "vision": "classification:ClassificationTask",
}
"""kind of model -> module and class; imported when somebody trains such a model"""


class Task(ABC):
    """What is learned from what, and how well. Samples and batches are NamedTuples with `name`."""

    unit: ClassVar[str]
    """what a step counts, for the log: "pairs", "images\""""
    decisive: ClassVar[str]
    """the score that says which checkpoint is best"""
    higher_is_better: ClassVar[bool]
    """of the decisive score"""
    preset: ClassVar[str]
    """name in PRESETS of what is taken where neither the settings nor a preset say"""

    @abstractmethod
    def check(self, settings: TrainingSettings) -> None:
        """Raise ValueError for settings that this task can't be done with; called first of all."""

    @abstractmethod
    def data(self, settings: TrainingSettings) -> Dataset[Any]:
        """What is trained on: takes every index from 0 on, and depends on (seed, index) alone."""

    @abstractmethod
    def validation(self, settings: TrainingSettings) -> Dataset[Any]:
        """What is scored, never trained on: samples 0 to min(len, settings.validate_pairs) - 1."""

    @abstractmethod
    def collate(self, samples: Sequence[Any]) -> Any:
        """Make a batch: the samples' NamedTuple with a leading B, and the list of their names."""

    @abstractmethod
    def tally(self, model: nn.Module, batch: Any) -> Float64[Tensor, " K"]:
        """Numbers that add up over samples and processes, and that `scores` are made of."""

    @abstractmethod
    def scores(self, tally: Float64[Tensor, " K"]) -> dict[str, float]:
        """Scores by name, from the sum of all tallies; `decisive` is one of them."""

    def describe(self, scores: Mapping[str, float]) -> str:
        """The scores in words, for people who watch the run."""
        return ", ".join(f"{name} {value:.4g}" for name, value in scores.items())

    def picture(self, log: TrainingLog, step: int, model: nn.Module, batch: Any) -> None:
        """Show in the `log` what the model makes of a batch, where a task has something to show."""
        return

    def better(self, scores: Mapping[str, float], best: float | None) -> bool:
        """Whether the scores beat the `best` decisive one so far (None: there is none).

        One that isn't finite beats nothing, and everything finite beats it.
        """
        value = scores[self.decisive]
        if not isfinite(value):
            return False
        if best is None or not isfinite(best):
            return True
        return value > best if self.higher_is_better else value < best


def require_unused(settings: TrainingSettings, names: Sequence[str], reason: str) -> None:
    """Raise ValueError for a given option that a task doesn't look at, and say why it doesn't."""
    for name in names:
        if getattr(settings, name):
            raise ValueError(f"--{name.replace('_', '-')} is of no use: {reason}; leave it out")


def task_for(model: str) -> Task:
    """Return the task that the model called `model` learns.

    A name that isn't known counts as a stereo model: `create_model` words that error. Raises
    ValueError for a kind of model that no task is written for.
    """
    kind = pretrained.model_kind(model) or "stereo"
    if kind not in TASKS:
        pretrained.require_stereo(model)
    module, name = TASKS[kind].split(":")
    return getattr(importlib.import_module(f".{module}", __package__), name)()
