"""Recipes: presets, schedules, overrides, precision."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from stereo_tr import recipe
from stereo_tr.recipe import TrainingSettings
from tests.stand_in import TinyModel
from tests.test_training import settings


def rates(**changes: Any) -> list[float]:
    chosen = settings(Path("unused"), learning_rate=0.5, **changes).filled()
    return [recipe.learning_rate(chosen, step) for step in range(chosen.steps)]


def test_schedules():
    assert set(rates(steps=50, warmup=0, schedule="constant")) == {0.5}
    cosine = rates(steps=102, warmup=2, schedule="cosine")
    assert cosine[:3] == pytest.approx([0.5 / 3, 1 / 3, 0.5])
    assert cosine[52] == pytest.approx(0.25)
    assert cosine[-1] == pytest.approx(0.25 * (1 - math.cos(math.pi / 100)))
    trapezoid = rates(steps=100, warmup=0, schedule="trapezoid")
    assert trapezoid[:76] == [0.5] * 76
    assert trapezoid[-1] == pytest.approx(0.02)
    assert trapezoid[:76] == rates(steps=200, warmup=0, schedule="trapezoid")[:76]
    epochs = rates(steps=3, warmup=0, schedule="exponential", batch=22_389)
    assert epochs == pytest.approx([0.5, 0.5, 0.495])
    epochs = rates(steps=4, warmup=0, schedule="exponential", batch=2, epoch=3)
    assert epochs == pytest.approx([0.5, 0.5, 0.495, 0.5 * 0.99**2])


def test_what_has_no_end_and_what_is_no_number(tmp_path):
    endless = settings(tmp_path, clip=math.inf, minutes=math.inf).filled().checked()
    assert endless.clip == endless.minutes == math.inf  # no clipping, no end of time
    for name, value in (("clip", math.nan), ("learning_rate", math.inf)):
        with pytest.raises(ValueError, match="takes a finite number, not"):
            settings(tmp_path, **{name: value}).filled().checked()


def test_the_published_recipes():
    chosen = TrainingSettings(Path("unused"), preset="published", batch=5).filled()
    assert (chosen.model, chosen.learning_rate, chosen.clip) == ("cstr", 1e-4, 0.1)
    assert chosen.batch == 5
    optimizer = recipe.make_optimizer(chosen, TinyModel(channels=4))
    sizes = {g["scale"]: sum(p.numel() for p in g["params"]) for g in optimizer.param_groups}
    assert sizes == {1.0: 4 * 6 * 9 + 4 + 4 + 4, 2.0: 4 + 1}
    assert {g["weight_decay"] for g in optimizer.param_groups} == {1e-4}
    epochs = {"cstr": (25, 22_390), "sttr": (15, 22_390), "kitti": (400, 160 + 160)}
    for preset, (count, pairs) in epochs.items():
        chosen = TrainingSettings(Path("unused"), preset=preset).filled()
        assert (chosen.steps * chosen.batch, chosen.epoch) == (count * pairs, pairs)
        # The rate falls in fine-tuning alone (facts/stereo.md: not with --pre_train).
        last = recipe.learning_rate(chosen, chosen.steps - 1)
        assert last == pytest.approx(1e-4 * 0.99**399 if preset == "kitti" else 1e-4)


def test_overrides():
    given = ("layers=3", "bias=false", "widths=[1, 2]", "name=small", "rate=1e-3", "x=a=b")
    given += ("fills=False", "encoder=None")
    assert recipe.parse_overrides(given) == {
        "layers": 3,
        "bias": False,
        "widths": [1, 2],
        "name": "small",
        "rate": 1e-3,
        "x": "a=b",
        "fills": False,
        "encoder": None,
    }
    with pytest.raises(ValueError, match="name=value, not 'layers'"):
        recipe.parse_overrides(("layers",))


def test_bf16_only_where_the_processor_has_it(monkeypatch):
    cpu = torch.device("cpu")
    for there in (False, True):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
        monkeypatch.setattr(
            torch.cpu, "_is_avx512_bf16_supported", lambda there=there: there, raising=False
        )
        assert recipe.uses_bf16("auto", cpu) is there
    assert recipe.uses_bf16("bf16", cpu)
    assert not recipe.uses_bf16("float32", cpu)
