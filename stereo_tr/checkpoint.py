"""Checkpoints of a training run: written whole or not at all, and read without running code.

    DIR/last.pt        the run as it stands; previous.pt: the checkpoint before
    DIR/best.pt        the run when its validation error was lowest

A checkpoint is a dictionary of tensors and plain values: settings, step, model, averaged model,
optimizer. It holds no state of random generators, because every step seeds its own
(`processes.seed_step`). A kill at any moment, also while a checkpoint is written, leaves `last.pt`
or `previous.pt` whole; going on from either leads to the same weights.

Tests  tests/test_checkpoint.py, tests/test_training.py: resuming to the same bits;
       tests/test_training_kills.py: killed at random moments
"""

import io
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from .datasets.files import write_bytes

FORMAT = 1
LAST, PREVIOUS, BEST = "last.pt", "previous.pt", "best.pt"


def save_checkpoint(folder: Path, state: dict[str, Any], best: bool = False) -> None:
    """Write `state` to `folder` as its last checkpoint (or its best), keeping the one before."""
    # Serialised in memory first: a full disk is then an OSError of ours, not an abort inside torch.
    buffer = io.BytesIO()
    torch.save({"format": FORMAT} | state, buffer)
    if best:
        write_bytes(folder / BEST, buffer.getbuffer())
        return
    fresh = folder / f"{LAST}.new"
    write_bytes(fresh, buffer.getbuffer())
    _keep_as_previous(folder / LAST, folder / PREVIOUS)
    fresh.replace(folder / LAST)


def _keep_as_previous(last: Path, previous: Path) -> None:
    """Call the file `previous` too: `last` stays in its place until a newer one takes it.

    torch raises in the middle of anything when a data helper dies, and tells where to go on from.
    """
    if not last.exists():
        return
    link = previous.with_name(f"{previous.name}.new")
    link.unlink(missing_ok=True)
    try:
        link.hardlink_to(last)
    except OSError:  # a file system without links
        last.replace(previous)
    else:
        link.replace(previous)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read one checkpoint onto the CPU. Raises FileNotFoundError, or ValueError if damaged."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, UnpicklingError, EOFError, KeyError) as error:
        raise ValueError(f"{path} is no whole checkpoint ({type(error).__name__})") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError(f"{path} is no checkpoint of this version (format {FORMAT})")
    return state


def remove_leftovers(folder: Path) -> None:
    """Delete what saves that were killed left in `folder`. Nothing else may be running there."""
    for name in (f"{LAST}.new", BEST):
        for path in folder.glob(f".[0-9]*.{name}"):  # temporary names of `write_bytes`
            path.unlink()


def has_run(folder: Path) -> bool:
    """Say whether `folder` holds a checkpoint to go on from."""
    return any((folder / name).exists() for name in (LAST, f"{LAST}.new", PREVIOUS))


def load_last(folder: Path) -> tuple[dict[str, Any], Path]:
    """Read the newest whole checkpoint of the run in `folder`, and say which file it is.

    Raises FileNotFoundError where there is none, ValueError where none is whole.
    """
    # Where there are no links, a kill between two renamings leaves the newest as last.pt.new.
    paths = [folder / name for name in (LAST, f"{LAST}.new", PREVIOUS)]
    there = [path for path in paths if path.exists()]
    if not there:
        raise FileNotFoundError(
            f"{folder} holds no checkpoint ({LAST}) to go on from; "
            "leave --resume out to start a run there"
        )
    problems = []
    for path in there:
        try:
            return load_checkpoint(path), path
        except ValueError as error:
            problems.append(str(error))
    raise ValueError("; ".join(problems))
