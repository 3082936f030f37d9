import importlib
import os
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest

from stereo_tr.scripts import command
from stereo_tr.scripts.main import COMMANDS, main

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Settings:
    """Settings of a command that is none."""

    count: int = 1
    """how many"""


def run(function, *arguments):
    command.run(Settings, function, "count", "Counts.", arguments)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_main(name):
    assert callable(importlib.import_module(f"stereo_tr.scripts.{name}").main)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_helps(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: stereo-tr {name} ")
    assert "{None}" not in text


@pytest.mark.parametrize("how", [["scripts/estimate.py"], ["-m", "stereo_tr.scripts.estimate"]])
def test_a_command_starts_as_a_file_and_as_a_module(how):
    """As a file Python puts scripts/, not the checkout, on its path."""
    done = subprocess.run(
        [sys.executable, *how, "--help"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},  # as if installed
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: stereo-tr estimate ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--cuont", "3"], "Perhaps you meant: --count"),
        (["--count", "many"], "Error parsing --count"),
        (["--count"], "--count"),
    ],
)
def test_a_mistake_in_the_arguments_is_one_line(arguments, said, capsys):
    with pytest.raises(SystemExit) as stop:
        run(lambda settings: None, *arguments)
    assert stop.value.code == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and line.isascii()
    assert line.startswith("stereo-tr count: ") and said in line
    assert line.endswith("; stereo-tr count --help lists all options\n")


def test_help_lists_the_commands(capsys):
    for arguments in ([], ["--help"], ["-h"]):
        main(arguments)
        listing = capsys.readouterr().out
        assert all(f"\n  {name} " in listing for name in COMMANDS)


def test_version(capsys):
    main(["--version"])
    assert capsys.readouterr().out == f"{importlib.import_module('stereo_tr').__version__}\n"


@pytest.mark.parametrize(("name", "hint"), [("estimat", "'estimate'?"), ("xyz", "train, evaluate")])
def test_unknown_command(name, hint, capsys):
    with pytest.raises(SystemExit) as stop:
        main([name])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert f"unknown command {name!r}" in error
    assert hint in error
    assert error.count("\n") == 1


def test_settings_reach_the_function():
    seen = []
    run(seen.append, "--count", "3")
    assert seen == [Settings(3)]


def test_arguments_that_cannot_be_parsed(capsys):
    for arguments in (["--nope"], ["--count", "x"]):
        with pytest.raises(SystemExit) as stop:
            run(print, *arguments)
        assert stop.value.code == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ValueError("a.png:\n  bad"), 2, "a.png: bad"),
        (FileNotFoundError("b.png: no such file"), 2, "b.png: no such file"),
        (MemoryError(), 2, "MemoryError"),
        (KeyboardInterrupt(), 130, "stopped"),
    ],
)
def test_errors_of_users_are_one_line(capsys, error, code, line):
    def fail(_):
        raise error

    with pytest.raises(SystemExit) as stop:
        run(fail)
    assert stop.value.code == code
    assert capsys.readouterr().err == f"stereo-tr count: {line}\n"


def test_our_own_errors_keep_their_traceback(monkeypatch):
    def fail(_):
        raise KeyError("ours")

    with pytest.raises(KeyError):
        run(fail)

    def users(_):
        raise ValueError("theirs")

    monkeypatch.setenv("STEREO_TR_DEBUG", "1")
    with pytest.raises(ValueError, match="theirs"):
        run(users)


def test_warnings_are_one_line(capsys):
    before = warnings.showwarning
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        run(lambda _: warnings.warn("mind\nthe gap", stacklevel=1))
    assert capsys.readouterr().err == "stereo-tr count: warning: mind the gap\n"
    assert warnings.showwarning is before
