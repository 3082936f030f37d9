"""Tasks: which one a model learns, and that the loop works for one that isn't stereo."""

import math
import sys
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from stereo_tr import pretrained, recipe, tasks, training, training_data
from stereo_tr.recipe import TrainingSettings
from stereo_tr.stereo.output import StereoOutput
from stereo_tr.stereo_training import StereoTask
from tests.stand_in import TinyPairs


class Number(NamedTuple):
    value: Tensor
    truth: Tensor
    name: str | list[str]


class Numbers(Dataset[Number]):
    def __init__(self, length: int):
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Number:
        value = torch.tensor(float(index % 7))
        return Number(value, 2 * value, f"number {index}")


class Doubling(nn.Module):
    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(1.0))

    def forward(self, value: Tensor) -> Tensor:
        return self.factor * value

    def training_losses(self, batch: Number) -> dict[str, Tensor]:
        return {"squared": (self(batch.value) - batch.truth).square().mean()}


class DoublingTask(tasks.Task):
    unit, decisive, higher_is_better, preset = "numbers", "hits", True, "small"

    def check(self, settings):
        if settings.data != ("numbers",):
            raise ValueError("this task learns from numbers")

    def data(self, settings):
        return Numbers(10**9)

    def validation(self, settings):
        return Numbers(3)

    def collate(self, samples):
        return training_data.collate(samples)

    def tally(self, model, batch):
        error = (model(batch.value) - batch.truth).abs()
        return torch.stack([(error < 0.5).sum().double(), error.new_tensor(len(error)).double()])

    def scores(self, tally):
        return {"hits": (tally[0] / tally[1]).item(), "seen": tally[1].item()}


def test_another_task_is_learned_by_the_same_loop(tmp_path, monkeypatch, capsys):
    for module in (recipe, training):
        monkeypatch.setattr(module, "task_for", lambda model: DoublingTask())
    monkeypatch.setattr(pretrained, "create_model", lambda name: Doubling())
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    settings = TrainingSettings(
        tmp_path,
        model="doubling",
        data=("numbers",),
        batch=5,
        steps=60,
        learning_rate=0.1,
        warmup=0,
        clip=100.0,
        ema=0.0,
        workers=0,
        validate_every=20,
        log_every=20,
    )
    result = training.train(settings)
    assert result["seen"] == 3  # the data set is shorter than --validate-pairs
    assert result["hits"] == 1
    printed = capsys.readouterr().out
    assert "step 0: validation hits 0.3333, seen 3 (best)" in printed
    assert "step 60: validation hits 1, seen 3\n" in printed  # no better than before
    assert "numbers_per_second" in (tmp_path / "log.jsonl").read_text()
    best = torch.load(tmp_path / "best.pt", weights_only=True)
    assert best["best"] == 1 and 0 < best["step"] < 60


def test_the_model_says_what_is_learned():
    assert type(tasks.task_for("cstr_small")) is StereoTask
    assert type(tasks.task_for("no such model")) is StereoTask


def test_each_process_adds_its_share_to_a_validation(monkeypatch):
    torch.manual_seed(0)
    batches = [
        training_data.collate([TinyPairs(6, 11, 0)[i] for i in part]) for part in ([0, 1], [2])
    ]
    # An image that no camera pair sees anything of counts for "epe_all" alone.
    batches[0].occluded[1] = True

    class Guess(nn.Module):
        def forward(self, left, right):
            return StereoOutput(5 * left[:, 0], None, None, None)

    task = StereoTask()
    scores = task.scores(sum(task.tally(Guess(), batch) for batch in batches))
    together = [
        (5 * b.left[i, 0] - b.disparity[i]).abs() for b in batches for i in range(len(b.left))
    ]
    assert scores["epe"] == pytest.approx((together[0].mean() + together[2].mean()).item() / 2)
    assert scores["epe_all"] == pytest.approx(sum(e.mean() for e in together).item() / 3)
    bad = [(100.0 * (e > 2)).mean() for e in together]
    assert scores["bad_2"] == pytest.approx((bad[0] + bad[2]).item() / 2)


def test_a_guess_that_is_no_number_is_never_the_best():
    batch = training_data.collate([TinyPairs(6, 11, 0)[0]])

    class Guess(nn.Module):
        def forward(self, left, right):
            return StereoOutput(left[:, 0] * torch.nan, None, None, None)

    task = StereoTask()
    broken = task.scores(task.tally(Guess(), batch))
    assert math.isnan(broken["epe"]) and broken["bad_3"] == 100
    assert not task.better(broken, None) and not task.better(broken, 9.0)
    assert task.better({"epe": 9.0}, broken["epe"])
    assert not task.better({"epe": 9.0}, 8.0) and task.better({"epe": 9.0}, None)
