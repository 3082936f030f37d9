"""The comparison of vision models, on tiny stand-ins, and the plot of their growth."""

import json
import math

import pytest
from PIL import Image

from stereo_tr.scripts import benchmark_vision
from stereo_tr.scripts.benchmark_vision import BenchmarkVision, Growth, draw, power


def test_power_is_the_slope_over_area():
    points = [Growth("a", side, 3e-9 * side**4, 1) for side in (224, 448, 896)]
    points += [Growth("b", side, 5e-7 * side**2, 1) for side in (448, 896)]
    assert power(points, "a") == pytest.approx(2)
    assert power(points, "b") == pytest.approx(1)
    assert math.isnan(power(points[:1], "a"))


def test_the_plot_is_a_picture(tmp_path):
    points = [
        Growth(name, side, 1e-6 * side**2, 10**6 * side) for name in "ab" for side in (64, 128)
    ]
    draw(points, tmp_path / "cost.png")
    with Image.open(tmp_path / "cost.png") as picture:
        assert picture.size == (840, 540)


def test_arithmetic_of_vit_is_quadratic_and_of_swin_linear_in_the_area(monkeypatch):
    monkeypatch.setattr(benchmark_vision, "_ours", tiny)
    for name, expected in (("vit", 2.0), ("swin", 1.0)):
        small, large = benchmark_vision._grown(name, (224, 448))
        assert small.seconds > 0
        counts = [point.multiply_accumulates for point in (small, large)]
        assert math.log2(counts[1] / counts[0]) / 2 == pytest.approx(expected, abs=0.15)


def tiny(name):
    from stereo_tr.vision.swin import Swin
    from stereo_tr.vision.vit import VisionTransformer

    if name == "swin":
        return Swin(channels=8, depths=(1, 1, 1, 1), heads=(1, 2, 4, 8), window=7)
    return VisionTransformer(patch=8, channels=8, depth=1, heads=2, num_classes=0)


def test_a_model_is_measured_beside_its_peer(tmp_path, monkeypatch, capsys):
    class Here:
        """Runs in this process, so that the stand-ins are seen."""

        def __init__(self, *_):
            self.work = None

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def submit(self, function, *arguments):
            benchmark_vision._work = self.work
            value = function(*arguments)
            self.work = benchmark_vision._work
            return type("Done", (), {"result": lambda _: value})()

    monkeypatch.setattr(benchmark_vision, "_work", None, raising=False)
    monkeypatch.setattr(benchmark_vision, "ProcessPoolExecutor", Here)
    monkeypatch.setattr(benchmark_vision, "_ours", lambda name: tiny("swin"))
    monkeypatch.setattr(benchmark_vision, "_theirs", lambda name: tiny("swin"))
    name = "swin_tiny_patch4_window7_224"
    settings = BenchmarkVision(models=(name,), batch=1, runs=2, json=tmp_path / "out.json")
    rows, growth = benchmark_vision.benchmark_vision(settings)
    assert [row.model for row in rows] == [name, "Hugging Face Swin"] and not growth
    assert rows[1].ratio == 1 and len(rows[0].seconds) == 2 and rows[0].peak_bytes > 1e7
    assert rows[0].ratio == pytest.approx(rows[0].median_seconds / rows[1].median_seconds)
    assert json.loads((tmp_path / "out.json").read_text())["rows"][0]["model"] == name
    assert "| Hugging Face Swin |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"models": ("moat_0",)}, "no peer of moat_0 is known; models with one: vit_base"),
        ({"runs": 0}, "must be 1 or more"),
        ({"sides": ()}, "must be 1 or more"),
    ],
)
def test_what_cannot_be_measured(settings, said):
    with pytest.raises(ValueError, match=said):
        benchmark_vision.benchmark_vision(BenchmarkVision(**settings))
