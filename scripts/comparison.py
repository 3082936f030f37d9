"""Runs that are compared: each trained once, at equal settings, and a table of their scores.

    folder/settings.json              what all runs share; other settings need another folder
    folder/runs/VARIANT_SEED/         a training run, and its scores.json when it is done

Stopped at any time, the same command goes on where it was.

Tests  tests/scripts/test_ablations.py
"""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stereo_tr.recipe import TrainingSettings

Results = dict[str, dict[str, list[float]]]
"""variant -> score -> one value a seed"""


def check_same(folder: Path, settings: dict[str, Any]) -> None:
    """Remember `settings` in `folder`; ValueError where it holds runs of others."""
    from stereo_tr.datasets.files import write_bytes

    mine = json.loads(json.dumps(settings))
    path = folder / "settings.json"
    if path.is_file():
        before = json.loads(path.read_text())
        if before != mine:
            raise ValueError(f"{folder} holds runs with {before}; take another --out")
    else:
        write_bytes(path, json.dumps(mine).encode())


def trained(settings: "TrainingSettings", scores: Sequence[str]) -> dict[str, float]:
    """Scores of one run; trains it, or the rest of it, where they aren't written yet.

    Raises KeyboardInterrupt where it was asked to stop before the end.
    """
    from dataclasses import replace

    from stereo_tr.checkpoint import has_run
    from stereo_tr.datasets.files import write_bytes
    from stereo_tr.training import train

    written = settings.out / "scores.json"
    if written.is_file():
        return json.loads(written.read_text())
    print(settings.out.name, flush=True)
    results = train(replace(settings, resume=has_run(settings.out)))
    if not results["finished"]:
        raise KeyboardInterrupt  # the same command goes on here
    found = {name: results[name] for name in scores}
    write_bytes(written, json.dumps(found).encode())
    return found


def require_distinct(option: str, given: Sequence[object]) -> None:
    """Raise ValueError for what was given twice: the table's spread would count one run twice."""
    twice = [value for index, value in enumerate(given) if value in given[:index]]
    if twice:
        raise ValueError(f"{option} names {twice[0]} twice; give each once")


def add(results: Results, variant: str, scores: dict[str, float]) -> None:
    """Put the scores of one run of `variant` beside those of other seeds."""
    of_variant = results.setdefault(variant, {name: [] for name in scores})
    for name, value in scores.items():
        of_variant[name].append(value)


def table(results: Results, titles: dict[str, str], digits: int) -> str:
    """A line a variant, mean ± standard deviation over the seeds; `titles` name the scores."""

    def cell(values: list[float]) -> str:
        spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
        return f"{statistics.mean(values):.{digits}f}{spread}"

    lines = [
        f"| variant | seeds | {' | '.join(titles.values())} |",
        "|---" * (len(titles) + 2) + "|",
    ]
    for variant, scores in results.items():
        seeds = max(map(len, scores.values()))
        cells = " | ".join(cell(scores[name]) for name in titles)
        lines.append(f"| {variant} | {seeds} | {cells} |")
    return "\n".join(lines) + "\n"


def write_tables(folder: Path, heading: str, text: str, results: Results) -> None:
    """Print the table, and write it for people (table.md) and for programs (table.json)."""
    from stereo_tr.datasets.files import write_files

    text = f"{heading}\n\n{text}"
    write_files(
        {
            folder / "table.md": text.encode(),
            folder / "table.json": json.dumps(results, indent=1).encode(),
        }
    )
    print(text, flush=True)
