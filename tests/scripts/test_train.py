"""`stereo-tr train`: what it prints, and how it ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from stereo_tr.scripts.train import main
from tests.stand_in import TinyPairs, register

TINY = "--model tiny --data tiny --height 6 --width 11 --batch 2 --steps 5 --validate-pairs 3"


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch)


def command(out: Path, more: str = TINY) -> None:
    main(["--out", str(out), "--workers", "0", *more.split()])


def refused(capsys: pytest.CaptureFixture, out: Path, more: str) -> str:
    with pytest.raises(SystemExit) as stop:
        command(out, more)
    assert stop.value.code == 2
    [line] = [x for x in capsys.readouterr().err.splitlines() if x.startswith("stereo-tr train: ")]
    return line


def test_a_run_from_start_to_end(tmp_path, capsys):
    command(tmp_path)
    printed = capsys.readouterr().out
    assert "step 0: validation EPE" in printed
    assert "step 5: validation EPE" in printed
    assert printed.endswith(f"done: {tmp_path / 'weights.safetensors'}\n")
    command(tmp_path, f"--export {tmp_path / 'mine.safetensors'}")
    first, exported = (load_file(tmp_path / f"{x}.safetensors") for x in ("weights", "mine"))
    assert all(torch.equal(value, exported[name]) for name, value in first.items())
    assert "exported as .safetensors" in refused(capsys, tmp_path, f"--export {tmp_path / 'x.pth'}")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_says_how_to_go_on(tmp_path, capsys, number, code):
    TinyPairs.happen = {4: lambda: os.kill(os.getpid(), number)}
    with pytest.raises(SystemExit) as stop:
        command(tmp_path)
    assert stop.value.code == code
    assert f"stopped after step 3; --resume --out {tmp_path} goes on" in capsys.readouterr().out
    command(tmp_path, "--resume")
    assert "going on after step 3 of 5" in capsys.readouterr().out


def test_time_that_is_up_is_no_failure(tmp_path, capsys):
    command(tmp_path, f"{TINY} --minutes 1e-9")
    assert "stopped after step 1;" in capsys.readouterr().out


def test_bad_input_is_one_line(tmp_path, capsys):
    out = tmp_path / "run"
    assert "holds no checkpoint" in refused(capsys, out, "--resume")
    assert "holds no checkpoint" in refused(capsys, out, f"--export {tmp_path / 'x'}")
    assert "unknown data 'nothing'" in refused(capsys, out, "--data nothing")
    assert not out.exists()
    file = tmp_path / "file"
    file.write_text("")
    assert str(file) in refused(capsys, file, TINY)
    TinyPairs.bad = 3
    assert "step 1: the loss (inf)" in refused(capsys, out, TINY)
    assert "holds a run: add --resume" in refused(capsys, out, TINY)


def test_the_help_is_the_settings(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "torchrun --nproc-per-node 2" in text
    assert "decay of the running average of the weights" in text


def test_it_runs_as_a_file_of_the_checkout(tmp_path):
    path = Path(__file__).parents[2] / "scripts" / "train.py"
    done = subprocess.run(
        [sys.executable, str(path), "--resume", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"PYTHONPATH": str(path.parents[1])},
    )
    assert done.returncode == 2
    assert "holds no checkpoint" in done.stderr
