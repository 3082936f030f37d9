"""What every command shares: settings from the command line, and errors as one line.

A command is a frozen dataclass of settings (the text under a field is its help) and a function that
takes it. `ValueError`, `OSError` and `MemoryError` are the user's to mend: they become one line on
standard error and exit code 2. Set STEREO_TR_DEBUG=1 to see the traceback instead.

Commands import each other and this file as `stereo_tr.scripts...`, so that they run installed and
as `python scripts/NAME.py` alike. What is slow to import (torch) estimate and benchmark import
where they need it, so that their help and mistakes in their arguments come at once.

Tests  tests/scripts/test_main.py
"""

import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import TypeVar

import tyro

Settings = TypeVar("Settings")

NO_DEFAULT = tyro.conf.arg(help_behavior_hint="")
"""Annotate a field with this where "(default: None)" in its help would say nothing."""

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
    parsed = tyro.cli(
        settings, prog=f"stereo-tr {name}", description=description, args=arguments, config=STYLE
    )
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


def one_line(message: object) -> str:
    """The text of an error or a warning without line breaks; its type where it has no text."""
    return " ".join(str(message).split()) or type(message).__name__
