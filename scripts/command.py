"""What every command shares: settings from the command line, and errors as one line.

A command is a frozen dataclass of settings (the text under a field is its help) and a function that
takes it. `ValueError`, `OSError` and `MemoryError` are the user's to mend: they become one line on
standard error and exit code 2. Set STEREO_TR_DEBUG=1 to see the traceback instead.

Commands import each other and this file as `stereo_tr.scripts...`, so that they run installed and
as `python scripts/NAME.py` alike. What is slow to import (torch) estimate and benchmark import
where they need it, so that their help and mistakes in their arguments come at once.

Tests  tests/scripts/test_main.py
"""

import contextlib
import io
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import TypeVar

import tyro

from stereo_tr.heap import keep_freed_memory

Settings = TypeVar("Settings")

NO_DEFAULT = tyro.conf.arg(help_behavior_hint="")
"""Annotate a field with this where "(default: None)" in its help would say nothing."""

_BOX_FRAME = re.compile(r"^[│╰╭].[^│\n]*[╮╯]$|│", re.MULTILINE)
_BOX_RULE = re.compile("─{3,}")
"""what tyro draws around its error messages, and between their parts"""

STYLE = (
    tyro.conf.FlagCreatePairsOff,  # --depth, without a --no-depth
    tyro.conf.DisallowNone,  # FLOAT, not {None}|FLOAT
    tyro.conf.PositionalMetavarFromFieldName,  # LEFT, not STR
    tyro.conf.HelptextFromCommentsOff,
)


def run(
    settings: type[Settings],
    function: Callable[[Settings], object],
    name: str,
    description: str,
    arguments: Sequence[str] | None = None,
) -> None:
    """Parse `arguments` (default: sys.argv) into `settings` and call `function` with them."""
    parsed = _parsed(settings, f"stereo-tr {name}", description, arguments)
    keep_freed_memory()
    if os.environ.get("STEREO_TR_DEBUG"):
        function(parsed)
        return

    def show(message: Warning | str, *_: object) -> None:
        print(f"stereo-tr {name}: warning: {one_line(message)}", file=sys.stderr)

    try:
        with warnings.catch_warnings():
            warnings.showwarning = show
            function(parsed)
        return
    except (ValueError, OSError, MemoryError) as error:
        text, code = one_line(error), 2
    except KeyboardInterrupt:
        text, code = "stopped", 130
    # Only here, past the except block, are the frames of `function` gone and its progress bars
    # closed, so that the line starts at the left.
    print(f"stereo-tr {name}: {text}", file=sys.stderr)
    sys.exit(code)


def _parsed(
    settings: type[Settings], program: str, description: str, arguments: Sequence[str] | None
) -> Settings:
    """What tyro makes of the arguments; its box around a mistake in them becomes one line."""
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            return tyro.cli(
                settings, prog=program, description=description, args=arguments, config=STYLE
            )
    except SystemExit as stop:
        if stop.code != 2:
            raise
    parts = [one_line(part) for part in _BOX_RULE.split(_BOX_FRAME.sub("", box.getvalue()))]
    told = [
        part.rstrip(".")
        for part in parts
        if not part.startswith(("Argument helptext", "For full help"))
    ]
    print(f"{program}: {'; '.join(told)}; {program} --help lists all options", file=sys.stderr)
    sys.exit(2)


def one_line(message: object) -> str:
    """The text of an error or a warning without line breaks; its type where it has no text."""
    return " ".join(str(message).split()) or type(message).__name__
