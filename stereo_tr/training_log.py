"""What a run leaves for people: a line of JSON every few steps, TensorBoard curves and pictures.

    DIR/log.jsonl      one object a line: {"step": 50, "train/total": 3.1, ...}; settings come first
    DIR/tensorboard/   the same numbers and pictures, where tensorboard is installed

Going on from a checkpoint drops the lines of later steps, which will be written again.

Letters  H W image height and width in pixels
Tests    tests/test_training.py
"""

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from .datasets.files import write_bytes


class TrainingLog:
    """Log of the run in `folder`, which stands after `step` steps."""

    def __init__(self, folder: Path, step: int) -> None:
        path = folder / "log.jsonl"
        if path.exists():
            kept = [line for line in path.read_bytes().splitlines(True) if _step(line) <= step]
            write_bytes(path, b"".join(kept))
        self._file = path.open("a", encoding="utf-8")
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self._board = None
            print(
                "no TensorBoard curves and pictures: pip install 'stereo-tr[train]' brings them "
                f"(the numbers are in {path})",
                file=sys.stderr,
            )
        else:
            self._board = SummaryWriter(folder / "tensorboard", purge_step=step + 1)

    def scalars(self, step: int, values: dict[str, float], **also: Any) -> None:
        """Write the numbers after `step` steps; what is in `also` goes into the file only."""
        record = {"step": step, **values, **also}
        rounded = {k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in record.items()}
        try:
            self._file.write(json.dumps(rounded) + "\n")
            self._file.flush()
        except OSError as error:
            path = self._file.name
            raise type(error)(f"cannot write {path}: {error.strerror}") from error
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    @property
    def shows_pictures(self) -> bool:
        """Whether anybody will see a picture."""
        return self._board is not None

    def picture(self, step: int, title: str, picture: UInt8[np.ndarray, "H W 3"]) -> None:
        """Show an RGB picture under its `title`."""
        if self._board is not None:
            self._board.add_image(title, picture, step, dataformats="HWC")

    def close(self) -> None:
        """Write what is still held back."""
        with suppress(OSError):  # every line was flushed; a line that failed was told of then
            self._file.close()
        if self._board is not None:
            self._board.close()


def _step(line: bytes) -> int | float:
    """Step of a line of the log; a line cut off by a kill belongs to no step that is kept."""
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, UnicodeDecodeError):
        return float("inf")
