import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stereo_tr.scripts import benchmark, benchmark_tables, ceilings, measuring
from stereo_tr.scripts.main import main


class Counted(nn.Module):
    """A convolution 3 -> 5 with 3x3 at stride 2, then fused attention over the pixels."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 5, 3, stride=2, padding=1)

    def forward(self, image, tokens):
        queries = self.convolution(image).flatten(2).transpose(1, 2)[:, None]
        return F.scaled_dot_product_attention(queries, tokens, tokens[..., :4])


def test_multiply_accumulates_counted_by_hand():
    image, tokens = torch.rand(2, 3, 8, 12), torch.rand(2, 1, 7, 5)
    pixels = 2 * 4 * 6
    convolution = pixels * 5 * 3 * 9
    scores, average = pixels * 7 * 5, pixels * 7 * 4
    found = ceilings.multiply_accumulates(partial(Counted(), image, tokens))
    assert found == convolution + scores + average


def test_traffic_counted_by_hand():
    """Each operation reads its inputs and writes its result; a view moves nothing."""
    a, b = torch.rand(7, 5), torch.rand(5, 3, dtype=torch.float64)

    def work():
        product = a @ b.float().view(5, 3)  # b read and written as float32, then a product
        return product.transpose(0, 1) + 1

    cast = 15 * 8 + 15 * 4
    product, plus = (35 + 15 + 21) * 4, (21 + 21) * 4
    assert ceilings.bytes_moved(work) == cast + product + plus


def test_a_gpu_has_a_column_more():
    """The share of its memory's rate; seconds to a tenth of a millisecond."""
    row = benchmark.Row(
        model="cstr",
        height=12,
        width=34,
        seconds=(0.0125, 0.01252, 0.0131),
        median_seconds=0.01252,
        times_as_fast=1.0,
        times_as_fast_as_textbook=None,
        memory_of_textbook=None,
        images_per_second=79.9,
        peak_bytes=5 * 10**8,
        predicted_bytes=None,
        parameters=None,
        multiply_accumulates=None,
        share_of_peak=None,
        bytes_moved=10**9,
        share_of_bandwidth=0.256,
        threads=1,
    )
    head, _, line = benchmark_tables.as_table([row]).splitlines()
    cells = dict(zip(*([cell.strip() for cell in x.split("|")] for x in (head, line)), strict=True))
    assert cells["of bandwidth"] == "26%"
    assert cells["seconds"] == "0.0125 (0.0125 to 0.0131)"
    plain = benchmark_tables.as_table([replace(row, bytes_moved=None, share_of_bandwidth=None)])
    assert "bandwidth" not in plain
    assert "0.013 (0.013 to 0.013)" in plain


GROW = """
import numpy as np
from stereo_tr.scripts.measuring import peak_memory
before = peak_memory()
touched = np.ones(96 * 2**20, np.uint8)
print(before, peak_memory() - before - touched.nbytes)
"""


def test_peak_memory_is_that_of_a_fresh_process():
    """A child's peak is its own, however large its parent is."""
    held = np.ones(400 * 2**20, np.uint8)  # more than the child needs
    child = subprocess.run(
        [sys.executable, "-c", GROW],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    before, unexplained = map(int, child.stdout.split())
    assert before < held.nbytes
    assert abs(unexplained) < 8 * 2**20


def test_a_run_from_start_to_end(tmp_path, capsys):
    file = tmp_path / "numbers.json"
    settings = ["--models", "sttr_light", "--sizes", "17x40", "--runs", "3", "--threads", "1"]
    main(["benchmark", *settings, "--peer", "sgbm", "--json", str(file)])
    rows = json.loads(file.read_text())["rows"]
    assert [row["model"] for row in rows] == ["sttr_light", "sgbm_hh", "sgbm_3way"]
    assert rows[0]["times_as_fast"] == 1
    for row in rows:
        assert (row["height"], row["width"], row["threads"]) == (17, 40, 1)
        assert len(row["seconds"]) == 3
        assert row["median_seconds"] == sorted(row["seconds"])[1] > 0
        ratio = rows[0]["median_seconds"] / row["median_seconds"]
        assert row["times_as_fast"] == pytest.approx(ratio)
        assert row["peak_bytes"] > 50e6
    assert rows[0]["parameters"] > 1e6
    assert rows[0]["multiply_accumulates"] > 1e6
    assert rows[1]["parameters"] is None
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| height x width | model ")
    assert all(row["model"] in line for row, line in zip(rows, lines[2:5], strict=True))


def test_outside_a_checkout_there_is_no_textbook(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(measuring, "__file__", str(tmp_path / "scripts" / "measuring.py"))
    with pytest.raises(SystemExit):
        main(["benchmark", "--models", "sttr_light", "--baseline", "textbook"])
    assert "--baseline textbook needs a checkout" in capsys.readouterr().err


@pytest.mark.skipif(
    not (Path(measuring.__file__).resolve().parents[1] / "tests").is_dir(),
    reason="the textbook lies in a checkout, and this is an installed package",
)
def test_a_textbook_a_profile_and_a_budget(tmp_path, capsys):
    file = tmp_path / "numbers.json"
    settings = ["--models", "sttr_light", "--sizes", "16x24", "--runs", "1", "--threads", "1"]
    settings += ["--baseline", "textbook", "--profile", "--max-memory", "3GB"]
    main(["benchmark", *settings, "--json", str(file)])
    ours, textbook = json.loads(file.read_text())["rows"]
    assert (ours["model"], textbook["model"]) == ("sttr_light", "sttr_light:textbook")
    ratio = textbook["median_seconds"] / ours["median_seconds"]
    assert ours["times_as_fast_as_textbook"] == pytest.approx(ratio)
    assert ours["memory_of_textbook"] == ours["peak_bytes"] / textbook["peak_bytes"]
    assert textbook["times_as_fast_as_textbook"] is None
    assert ours["parameters"] == textbook["parameters"]
    assert ours["multiply_accumulates"] < textbook["multiply_accumulates"]
    assert ours["predicted_bytes"] > 24 * 16 * 400
    assert 0 < ours["share_of_peak"] < 1
    for row in (ours, textbook):
        shares = [share for _, share, _ in row["operations"]]
        assert len(shares) == 10
        assert shares == sorted(shares, reverse=True)
        assert 0 < sum(shares) <= 1
    assert "sttr_light:textbook at 16x24" in capsys.readouterr().out


def test_training_steps_and_vision_models(tmp_path, capsys):
    file = tmp_path / "numbers.json"
    settings = ["--models", "sttr_light", "tiny_moat_0", "--sizes", "64x64", "--runs", "1"]
    main(["benchmark", *settings, "--threads", "1", "--training", "--json", str(file)])
    training = json.loads(file.read_text())["rows"]
    assert [row["model"] for row in training] == ["sttr_light", "tiny_moat_0"]
    main(["benchmark", *settings, "--threads", "1", "--memory", "--json", str(file)])
    inference = json.loads(file.read_text())["rows"]
    for trained, matched in zip(training, inference, strict=True):
        assert trained["multiply_accumulates"] > 2 * matched["multiply_accumulates"]
    out = capsys.readouterr().out
    assert out.count("| 2160x3840") == 1  # predicted, for the stereo model


def test_files_in_turn_with_their_models_and_lower_precision(tmp_path):
    file = tmp_path / "numbers.json"
    settings = ["--models", "tiny_moat_0", "--sizes", "40x32", "--threads", "1", "--runs", "1"]
    main(["benchmark", *settings, "--formats", "onnx", "torchscript", "--json", str(file)])
    rows = json.loads(file.read_text())["rows"]
    names = ["tiny_moat_0", "tiny_moat_0:onnx", "tiny_moat_0:torchscript"]
    assert [row["model"] for row in rows] == names
    stereo = ["--models", "cstr_small", *settings[2:], "--formats", "torchscript"]
    main(["benchmark", *stereo, "--json", str(file)])
    matched = json.loads(file.read_text())["rows"]
    assert [row["model"] for row in matched] == ["cstr_small", "cstr_small:torchscript"]
    ratio = rows[0]["median_seconds"] / rows[1]["median_seconds"]
    assert rows[1]["times_as_fast"] == pytest.approx(ratio)
    main(["benchmark", *settings, "--precision", "bf16", "--json", str(file)])
    (lower,) = json.loads(file.read_text())["rows"]
    assert lower["multiply_accumulates"] == rows[0]["multiply_accumulates"]


@pytest.mark.parametrize(
    ("precision", "kind"), [("float32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_the_precision_is_that_of_the_convolutions(precision, kind):
    kinds = set()

    def remember(module: nn.Module, given: object, output: object) -> None:
        if isinstance(module, nn.Conv2d):
            kinds.add(output.dtype)

    work = measuring._make(measuring.Task("tiny_moat_0", 40, 32, precision=precision))
    with nn.modules.module.register_module_forward_hook(remember):
        work.run()
    assert kinds == {kind}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--models", "cstr_smal"], "cstr_small"),
        (["--models", "cstr", "cstr"], "twice"),
        (["--models"], "at least one"),
        (["--sizes", "480"], "'480'"),
        (["--sizes", "8x640"], "8x640"),
        (["--runs", "0"], "--runs"),
        (["--threads", "0"], "--threads"),
        (["--max-memory", "plenty"], "plenty"),
        (["--models", "cstr_small", "--baseline", "textbook"], "published models"),
        (["--training", "--peer", "sgbm"], "sgbm"),
        (["--precision", "fp16"], "fp16 is for CUDA"),
        (["--precision", "bf16", "--formats", "onnx"], "in float32"),
        (["--formats", "onnx", "onnx"], "names a format twice"),
        (["--models", "kmax_resnet50", "--formats", "onnx"], "can't be exported"),
    ],
)
def test_bad_settings_are_told_at_once(arguments, words, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["benchmark", *arguments])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
