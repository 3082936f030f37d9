"""What the benchmark measured, as Markdown that reads well as it is, too.

Tests  tests/scripts/test_benchmark.py
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stereo_tr.scripts.benchmark import Row

LARGE = ((1080, 1920), (2160, 3840))
"""sizes whose memory is predicted in any case"""


def as_table(rows: Sequence["Row"]) -> str:
    """Lay out one line for each method and size; the share of a memory's rate for a GPU only."""
    on_gpu = any(row.share_of_bandwidth is not None for row in rows)
    head = (
        "height x width",
        "model",
        "threads",
        "parameters",
        "multiply-accumulates",
        "seconds",
        "a second",
        "share of peak",
        *(["of bandwidth"] if on_gpu else []),
        f"times as fast as {rows[0].model}",
        "as its textbook",
        "peak memory",
        "of its textbook's",
    )
    return _markdown([head, *(_cells(row, on_gpu) for row in rows)])


def _cells(row: "Row", on_gpu: bool) -> tuple[str, ...]:
    return (
        f"{row.height}x{row.width}",
        row.model,
        str(row.threads),
        _scaled(row.parameters, 1e6, "M"),
        _scaled(row.multiply_accumulates, 1e9, "G"),
        _times(row, on_gpu),
        f"{row.images_per_second:.2f}",
        _percent(row.share_of_peak),
        *([_percent(row.share_of_bandwidth)] if on_gpu else []),
        f"{row.times_as_fast:.2f}",
        _plain(row.times_as_fast_as_textbook),
        _scaled(row.peak_bytes, 1e9, "GB"),
        _plain(row.memory_of_textbook),
    )


def memory_table(rows: Sequence["Row"]) -> str:
    """Predicted beside measured memory; large images are predicted where none was measured."""
    import torch

    from stereo_tr.memory_need import kept_memory
    from stereo_tr.pretrained import create_model
    from stereo_tr.stereo.scales import Scales

    table = [("height x width", "model", "predicted", "measured")]
    for name in dict.fromkeys(row.model for row in rows):
        own = [row for row in rows if row.model == name]
        for row in own:
            predicted, measured = row.predicted_bytes, row.peak_bytes
            table.append(_memory_cells(row.height, row.width, name, predicted, measured))
        last = own[-1]
        if last.predicted_bytes is None:
            continue
        with torch.device("meta"):
            model = create_model(name)
        scales = getattr(model, "scales", Scales())
        rest = last.predicted_bytes - kept_memory(model, scales, last.height, last.width)
        for size in LARGE:
            if size not in [(row.height, row.width) for row in own]:
                predicted = rest + kept_memory(model, scales, *size)
                table.append(_memory_cells(*size, name, predicted, None))
    return _markdown(table)


def _memory_cells(
    height: int, width: int, name: str, predicted: int | None, measured: int | None
) -> tuple[str, ...]:
    gigabytes = (_scaled(number, 1e9, "GB") for number in (predicted, measured))
    return f"{height}x{width}", name, *gigabytes


def profile_table(row: "Row") -> str:
    """The operations that took longest in one run of one method."""
    lines = [(f"{row.model} at {row.height}x{row.width}", "share of time", "calls")]
    lines += [(found.name, f"{found.share:.1%}", str(found.calls)) for found in row.operations]
    return _markdown(lines)


def _scaled(value: int | None, unit: float, ending: str) -> str:
    return "-" if value is None else f"{value / unit:.2f} {ending}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _times(row: "Row", on_gpu: bool) -> str:
    median, fastest, slowest = (
        f"{seconds:.{4 if on_gpu else 3}f}"
        for seconds in (row.median_seconds, min(row.seconds), max(row.seconds))
    )
    return f"{median} ({fastest} to {slowest})"


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _markdown(lines: Iterable[tuple[str, ...]]) -> str:
    """Columns of one width; the first line is the head."""
    table = list(lines)
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    table.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in table
    )
