"""Progress of anything long: a bar on a terminal, plain lines with the time to go elsewhere.

    steps = progress(range(100), label="training")
    for step in steps:
        steps.note(f"loss {loss:.3f}")

Both go to standard error, so that what a command prints stays clean. A plain line comes at most
every 10 seconds, and at the first and the last step: a log file stays short and yet shows life.

Tests  tests/test_progress.py
"""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import Generic, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")

SECONDS_BETWEEN_LINES = 10.0


class Progress(Generic[Item]):
    """An iterable that tells on standard error how far it has come. Made by `progress`."""

    def __init__(
        self,
        iterable: Iterable[Item],
        total: int | None,
        label: str,
        initial: int,
        hidden: bool,
    ) -> None:
        if total is None and isinstance(iterable, Sized):
            total = initial + len(iterable)
        self._iterable, self._total, self._label = iterable, total, label
        self._hidden = hidden
        self._initial = self._done = initial
        self._note = ""
        self._bar: tqdm | None = None

    def note(self, text: str) -> None:
        """Show `text` behind the numbers from now on, for example the loss."""
        self._note = text
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)

    def print(self, text: str) -> None:
        """Print `text` on standard output without tearing the bar."""
        if self._bar is None:
            print(text, flush=True)
        else:
            self._bar.write(text, file=sys.stdout)

    def __iter__(self) -> Iterator[Item]:
        if self._hidden:
            return iter(self._iterable)
        return self._with_bar() if sys.stderr.isatty() else self._with_lines()

    def _with_bar(self) -> Iterator[Item]:
        with tqdm(
            total=self._total,
            desc=self._label,
            initial=self._initial,
            file=sys.stderr,
            dynamic_ncols=True,
        ) as self._bar:
            try:
                for item in self._iterable:
                    yield item
                    self._bar.update()
            finally:
                self._bar.refresh()  # the last note
        self._bar = None

    def _with_lines(self) -> Iterator[Item]:
        started = time.monotonic()
        shown = -float("inf")
        for item in self._iterable:
            yield item
            self._done += 1
            now = time.monotonic()
            if now - shown >= SECONDS_BETWEEN_LINES or self._done == self._total:
                shown = now
                print(self._line(now - started), file=sys.stderr, flush=True)

    def _line(self, seconds: float) -> str:
        parts = [f"{self._label} {self._done}", f"{clock(seconds)} gone"]
        if self._total:
            parts[0] += f"/{self._total}"
            each = seconds / (self._done - self._initial)
            parts.append(f"{clock(each * (self._total - self._done))} to go")
        return ", ".join([*parts, self._note] if self._note else parts)


def progress(
    iterable: Iterable[Item],
    *,
    total: int | None = None,
    label: str,
    initial: int = 0,
    hidden: bool = False,
) -> Progress[Item]:
    """Go through `iterable` and show the progress on standard error.

    `total` counts from 0 and includes the `initial` steps that an earlier run has done; by default
    it is `initial` plus the length of `iterable`, where that has one. Without a total there is no
    time to go. `hidden` shows nothing: for a single step, or on all processes but the first.
    """
    return Progress(iterable, total, label, initial, hidden)


def clock(seconds: float) -> str:
    """Write a duration as 1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
