"""The training loop on a tiny model and tiny data (stand_in.py)."""

import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from stereo_tr import (
    checkpoint,
    pretrained,
    processes,
    stereo_data,
    training_data,
    training_run,
)
from stereo_tr.recipe import TrainingSettings
from stereo_tr.training import train
from stereo_tr.training_run import TrainingError
from tests.stand_in import TinyModel, TinyPairs, environment, register


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch)


def settings(out: Path, **changes: Any) -> TrainingSettings:
    values = {
        "model": "tiny",
        "data": ("tiny",),
        "height": 6,
        "width": 11,
        "batch": 3,
        "steps": 9,
        "warmup": 2,
        "validate_every": 4,
        "validate_pairs": 5,
        "workers": 0,
        "log_every": 1,
    }
    return TrainingSettings(out=out, **(values | changes))


def final(folder: Path) -> dict[str, Any]:
    """Everything in the last checkpoint, flat: name -> tensor or plain value."""
    flat: dict[str, Any] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict | list):
            items = value.items() if isinstance(value, dict) else enumerate(value)
            for name, inner in items:
                walk(f"{prefix}/{name}", inner)
        else:
            flat[prefix] = value

    walk("", checkpoint.load_checkpoint(folder / "last.pt"))
    return flat


def assert_same_run(folder: Path, other: Path) -> None:
    first, second = final(folder), final(other)
    assert first.keys() == second.keys()
    assert any("exp_avg_sq" in name for name in first)
    assert any(name.startswith("/average/module.") for name in first)
    for name, value in first.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, second[name]), name
        else:
            assert value == second[name], name


def lines(folder: Path, key: str) -> list[tuple[int, float]]:
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [(record["step"], record[key]) for record in records if key in record]


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A run that nothing disturbed."""
    train(settings(tmp_path / "whole"))
    return tmp_path / "whole"


def test_a_model_learns_one_pair_by_heart(tmp_path, monkeypatch):
    class OnePair(TinyPairs):
        def __getitem__(self, index: int):
            return super().__getitem__(7)

    monkeypatch.setitem(stereo_data.DATA, "tiny", OnePair)
    result = train(
        settings(
            tmp_path,
            steps=300,
            batch=1,
            learning_rate=0.05,
            override=("noise=0", "channels=8"),
            validate_every=300,
            ema=0.9,
        )
    )
    errors = lines(tmp_path, "validation/epe")  # of the averaged weights, on that same pair
    assert [step for step, _ in errors] == [0, 300]
    assert errors[1][1] == pytest.approx(result["epe"], rel=1e-5)
    assert errors[1][1] < 0.1 * errors[0][1]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path, whole, workers):
    out = tmp_path / "stopped"
    first = train(settings(out, minutes=1e-9))  # the time is up after one step
    assert (first["step"], first["finished"], first["weights"]) == (1, False, None)
    second = train(TrainingSettings(out, resume=True, workers=workers, log_every=1))
    assert (second["step"], second["finished"]) == (9, True)
    assert_same_run(out, whole)
    names = [f"train/{name}" for name in ("disparity", "occlusion", "total", "norm")]
    for name in [*names, "validation/epe", "validation/bad_2"]:
        assert lines(out, name) == lines(whole, name)
    assert [step for step, _ in lines(whole, "train/total")] == list(range(1, 10))
    assert [step for step, _ in lines(whole, "validation/epe")] == [0, 4, 8, 9]


@pytest.mark.parametrize("save_minutes", [0.0, 10.0])
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path, whole, save_minutes):
    class KilledError(BaseException):
        pass

    def kill():
        raise KilledError

    out = tmp_path / "killed"
    TinyPairs.happen = {5 * 3 + 1: kill}
    with pytest.raises(KilledError):
        train(settings(out, save_minutes=save_minutes))
    assert final(out)["/step"] == (5 if save_minutes == 0 else 0)
    with (out / "log.jsonl").open("a") as log:
        log.write('{"step": 6, "train/to')  # cut off in the middle of a line
    TinyPairs.happen = {}
    train(TrainingSettings(out, resume=True, workers=0, log_every=1))
    assert_same_run(out, whole)
    assert lines(out, "train/total") == lines(whole, "train/total")


@pytest.mark.parametrize(
    ("number", "step"),
    [(signal.SIGTERM, 6), (signal.SIGINT, 8)],  # a validation is due after 8
)
def test_a_signal_finishes_the_step_saves_and_stops(tmp_path, whole, number, step):
    out = tmp_path / "stopped"
    before = signal.getsignal(number)
    TinyPairs.happen = {step * 3 - 3: lambda: os.kill(os.getpid(), number)}
    result = train(settings(out))
    assert (result["step"], result["finished"], result["signal"]) == (step, False, number)
    assert signal.getsignal(number) is before
    TinyPairs.happen = {}
    train(TrainingSettings(out, resume=True, workers=0))
    assert_same_run(out, whole)


def test_a_signal_during_the_last_step_comes_too_late(tmp_path, whole):
    out = tmp_path / "finished"
    TinyPairs.happen = {8 * 3: lambda: os.kill(os.getpid(), signal.SIGINT)}
    result = train(settings(out))
    assert (result["step"], result["finished"]) == (9, True)
    assert_same_run(out, whole)
    assert lines(out, "validation/epe") == lines(whole, "validation/epe")
    again = train(TrainingSettings(out, resume=True, workers=0))  # its scores may have been lost
    assert again["epe"] == result["epe"]


def test_the_second_interrupt_stops_at_once(tmp_path):
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    TinyPairs.happen = {5 * 3: twice}
    with pytest.raises(KeyboardInterrupt):
        train(settings(tmp_path))
    assert final(tmp_path)["/step"] == 0


def test_two_processes_equal_one(tmp_path):
    still = ("noise=0",)  # the processes draw different noise
    train(settings(tmp_path / "one", batch=6, override=still, precision="float32"))
    command = f"""--out {tmp_path / "two"} --model tiny --data tiny --height 6 --width 11 --batch 6
        --steps 9 --warmup 2 --validate-every 4 --validate-pairs 5 --workers 0 --log-every 1
        --precision float32 --override noise=0"""
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    subprocess.run(
        [*launch, "-m", "tests.stand_in", *command.split()],
        check=True,
        timeout=600,  # ends a hang; three processes import torch, on whatever else is going on
        cwd=tmp_path,  # Python looks there first
        env=environment(),
    )
    for name in ("train/disparity", "train/occlusion", "train/norm", "validation/epe"):
        one, two = lines(tmp_path / "one", name), lines(tmp_path / "two", name)
        torch.testing.assert_close(torch.tensor(one), torch.tensor(two), rtol=2e-5, atol=0.0)
    one, two = final(tmp_path / "one"), final(tmp_path / "two")
    weights = [name for name in one if name.startswith(("/model/", "/average/"))]
    for name in weights:
        torch.testing.assert_close(one[name], two[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_processes_share_each_step_and_nothing_changes(count):
    shares = [list(training_data.StepBatches(3, 6, 8, rank, count)) for rank in range(count)]
    steps = [[i for share in shares for i in share[step]] for step in range(3)]
    assert steps == [list(range(24, 32)), list(range(32, 40)), list(range(40, 48))]


def test_a_batch_that_cannot_be_shared():
    with pytest.raises(ValueError, match=r"--batch 7 can't be shared evenly by 3 .* 6 or 9"):
        training_data.StepBatches(0, 1, 7, 0, 3)


def test_infinity_names_its_step_and_its_sample(tmp_path):
    TinyPairs.bad = 5 * 3 + 2
    with pytest.raises(TrainingError, match=r"^step 5: .*inf.* sample tiny 17, saved as \S+ in"):
        train(settings(tmp_path))
    assert final(tmp_path)["/step"] == 0
    [saved] = tmp_path.glob("not_finite*")
    with safe_open(saved, "pt") as file:
        assert file.metadata() == {"name": "tiny 17", "step": "5"}
        assert file.get_tensor("disparity").isinf().all()
        assert torch.equal(file.get_tensor("left")[0], TinyPairs(6, 11, 0)[17].left)


def test_a_gradient_that_is_not_finite_stops_too(tmp_path, monkeypatch):
    class Steep(TinyModel):
        def training_losses(self, sample):
            # sqrt(0) is finite, its slope isn't
            steep = self.regression.bias.mul(0).sqrt()[0]
            return super().training_losses(sample) | {"steep": steep}

    monkeypatch.setattr(pretrained, "create_model", lambda name, **overrides: Steep())
    with pytest.raises(TrainingError, match=r"^step 0: .*sample tiny 0, tiny 1, tiny 2, saved"):
        train(settings(tmp_path))


def test_the_weights_are_the_average_in_half_precision(whole, tmp_path):
    state = final(whole)
    weights = load_file(whole / "weights.safetensors")
    assert weights.keys() == TinyModel().state_dict().keys()
    for name, value in weights.items():
        assert torch.equal(value, state[f"/average/module.{name}"].half())
    training_run.export_weights(whole / "last.pt", tmp_path / "again.safetensors")
    again = load_file(tmp_path / "again.safetensors")
    assert all(torch.equal(weights[name], again[name]) for name in weights)


def test_the_average_forgets_the_start():
    model = nn.Linear(1, 1, bias=False)
    average = training_run._average(model, 0.9)
    expected = 0.0
    for step in range(1, 120):
        with torch.no_grad():
            model.weight.fill_(step)
        average.update_parameters(model)
        decay = min(0.9, step / (step + 9))  # the first update copies
        expected = 1.0 if step == 1 else decay * expected + (1 - decay) * step
    assert average.module.weight.item() == pytest.approx(expected, rel=1e-5)
    assert 119 - expected == pytest.approx(9, abs=0.1)  # a ramp's average lags by d / (1 - d)


def test_batch_statistics_forget_the_start():
    norm = nn.BatchNorm2d(2, momentum=0.01)
    model = nn.Sequential(norm, nn.BatchNorm2d(3, momentum=None), nn.GroupNorm(1, 2))
    norms, means = training_run.batch_norms(model), []
    assert [module for module, _ in norms] == [norm]
    for step in range(60):
        training_run.forget_start(norms, step)
        norm(torch.full((4, 2, 3, 5), 7.0))
        means.append(norm.running_mean[0].item())
    assert means[0] == pytest.approx(0.9 * 7)
    assert means[-1] == pytest.approx(7, abs=1e-4)  # published: 7 * (1 - 0.99**60) = 3.2
    training_run.forget_start(norms, 5000)
    assert norm.momentum == 0.01


def test_parts_of_a_step_equal_the_whole(tmp_path):
    """Six pairs at once and as three times two: the same but for rounding."""
    for parts in (1, 3):
        exact = {"override": ("noise=0",), "precision": "float32"}  # bf16 rounds each part anew
        train(settings(tmp_path / str(parts), batch=6, accumulate=parts, **exact))
    for name in ("train/disparity", "train/total", "train/norm", "validation/epe"):
        one, three = (torch.tensor(lines(tmp_path / n, name)) for n in ("1", "3"))
        torch.testing.assert_close(one, three, rtol=2e-5, atol=0.0)
    one, three = final(tmp_path / "1"), final(tmp_path / "3")
    for name in [name for name in one if name.startswith(("/model/", "/average/"))]:
        torch.testing.assert_close(one[name], three[name], rtol=1e-4, atol=1e-6)


def test_bf16_trains(tmp_path):
    kinds = []

    def remember(module: nn.Module, given: Any, output: torch.Tensor) -> None:
        kinds.append((output.dtype, module.weight.dtype))

    hook = nn.modules.module.register_module_forward_hook(
        lambda module, given, output: (
            remember(module, given, output) if isinstance(module, nn.Conv2d) else None
        )
    )
    with hook:
        train(settings(tmp_path, precision="bf16", steps=2))
    assert set(kinds) == {(torch.bfloat16, torch.float32)}


def test_steps_and_rate_may_change_on_resuming(tmp_path):
    train(settings(tmp_path))
    changed = TrainingSettings(tmp_path, resume=True, steps=11, learning_rate=1e-5, workers=0)
    assert train(changed)["step"] == 11
    assert final(tmp_path)["/settings/learning_rate"] == 1e-5
    with pytest.raises(ValueError, match=r"height is 6 in this run and can't become 7.*Only steps"):
        train(TrainingSettings(tmp_path, resume=True, height=7))


def test_precision_and_parts_are_those_of_the_run_unless_given_again(tmp_path):
    train(settings(tmp_path, steps=4, precision="float32", accumulate=3))
    again = TrainingSettings(tmp_path, resume=True)
    stored = checkpoint.load_checkpoint(tmp_path / "last.pt")["settings"]
    taken = again.continued(stored)
    assert (taken.precision, taken.accumulate) == ("float32", 3)
    taken = replace(again, precision="bf16", accumulate=1).continued(stored)
    assert (taken.precision, taken.accumulate) == ("bf16", 1)
    del stored["precision"], stored["accumulate"]  # written by an older version
    taken = again.continued(stored)
    assert (taken.precision, taken.accumulate) == ("auto", 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": ("tinny",)}, "unknown data 'tinny'; did you mean tiny"),
        ({"data": ("tiny", "tiny")}, "--data names tiny twice; give it one weight, as in tiny:2"),
        ({"batch": 4, "accumulate": 3}, "--batch 4 can't be split into --accumulate 3 equal parts"),
        ({"precision": "fp16"}, "--precision fp16 is for cuda devices, not cpu; take bf16"),
        ({"checkpointing": True}, "--checkpointing: this model has no blocks"),
        ({"augmentation": "strnog"}, "unknown augmentation 'strnog'; did you mean strong"),
        ({"validate_root": "x"}, "--validate-root is of no use: tiny pairs aren't read from disk"),
        ({"batch": 0}, "--batch must be positive"),
        ({"ema": 1.0}, "--ema is a decay"),
        ({"clip": math.nan}, "--clip takes a finite number, not nan"),
        ({"learning_rate": math.inf}, "--learning-rate takes a finite number, not inf"),
        ({"minutes": -1.0}, "--minutes can't be negative"),
        ({"device": "nowhere"}, "device 'nowhere' can't be used; this machine has cpu"),
        ({"model": "huge"}, "unknown model 'huge'"),
        ({"model": "moat_2"}, "moat_2 learns from a folder of images: stereo-tr classify"),
        ({"resume": True}, r"holds no checkpoint \(last.pt\) to go on from"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_written(tmp_path, changes, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        train(settings(tmp_path / "new", **changes))
    assert not (tmp_path / "new").exists()


def test_a_run_is_not_overwritten(whole):
    before = (whole / "last.pt").read_bytes()
    with pytest.raises(ValueError, match="holds a run: add --resume, or take another folder"):
        train(settings(whole))
    assert (whole / "last.pt").read_bytes() == before


def test_curves_and_pictures(tmp_path, monkeypatch):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard")
    train(settings(tmp_path, steps=4))
    board = events.EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    names = {"train/disparity", "train/total", "train/norm", "train/learning_rate"}
    names |= {"train/pairs_per_second", "validation/epe", "validation/bad_3"}
    assert names <= set(board.Tags()["scalars"])
    assert [event.step for event in board.Scalars("train/total")] == [1, 2, 3, 4]
    pictures = board.Images("left, disparity, truth")
    assert [(picture.step, picture.height, picture.width) for picture in pictures] == [
        (0, 6, 33),
        (4, 6, 33),
    ]


def test_without_tensorboard_there_is_one_hint(tmp_path, capfd):
    train(settings(tmp_path, steps=1))
    assert capfd.readouterr().err.count("pip install 'stereo-tr[train]'") == 1


def test_a_step_draws_the_same_wherever_the_run_began():
    def draws(step: int, rank: int) -> tuple[float, ...]:
        processes.seed_step(3, step, rank)
        return tuple(torch.rand(5).tolist())

    assert draws(8, 0) == draws(8, 0)
    assert len({draws(8, 0), draws(8, 1), draws(9, 0), draws(0, 8)}) == 4
