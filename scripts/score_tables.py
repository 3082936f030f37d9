"""Scores laid out for reading: as plain text, and as Markdown for a README or a paper's notes.

Tests  tests/scripts/test_scores.py
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from stereo_tr.scripts.protocols import describe
from stereo_tr.scripts.scores import Published, Row, Scores


class Column(NamedTuple):
    """One number of a row."""

    area: str
    """one of `scores.AREAS`, or "occlusion" """
    metric: str
    title: str


_FIVE = {"epe": "EPE", "bad_1": "bad-1", "bad_2": "bad-2", "bad_3": "bad-3", "d1": "D1"}
_TWO = {"epe": "EPE", "bad_2": "bad-2"}
COLUMNS = (
    *(Column("all", metric, title) for metric, title in _FIVE.items()),
    *(Column("non_occluded", metric, title) for metric, title in _FIVE.items()),
    *(Column("near_edges", metric, title) for metric, title in _TWO.items()),
    *(Column("occluded", metric, title) for metric, title in _TWO.items()),
    Column("occlusion", "iou", "IoU"),
    Column("occlusion", "f1", "F1"),
)
"""what the tables show; the JSON has more"""
HEADINGS = (("all", 5), ("non-occluded", 5), ("near edges", 2), ("occluded", 4))
"""what stands above the columns, and above how many"""


def as_table(scores: Scores) -> str:
    """Lay the rows out as text, with - where a number isn't known, and then the protocols."""
    rows = table_rows(scores)
    names = [row_name(row) for row in rows]
    width = max(map(len, ["scene", *names]))
    method_width = max(len(row.method) for row in rows)
    head = f"{'scene':{width}}  {'method':{method_width}}"
    titles, above, start = "", "", 0
    for heading, count in HEADINGS:
        titles += " " + "".join(f"{column.title:>7}" for column in COLUMNS[start:][:count])
        above += f" {f' {heading} ':-^{7 * count}}"
        start += count
    lines = [" " * len(head) + above, f"{head}{titles}{'seconds':>9}"]
    for index, (name, row) in enumerate(zip(names, rows, strict=True)):
        if index == len(scores.images):
            lines.append("-" * len(lines[1]))
        cells, start = "", 0
        for _, count in HEADINGS:
            values = [row.score(column.area, column.metric) for column in COLUMNS[start:][:count]]
            cells += " " + "".join(f"{number(value):>7}" for value in values)
            start += count
        cells += f"{number(row.seconds, 3):>9}"
        lines.append(f"{name:{width}}  {row.method:{method_width}}{cells}")
    lines += [line for part in protocol_results(scores) for line in ("", *_text(part))]
    return "\n".join(lines)


def as_markdown(scores: Scores) -> str:
    """Means, protocols and images as Markdown tables, and what the numbers mean."""
    areas = {"non_occluded": "noc ", "near_edges": "edges ", "occluded": "occ ", "occlusion": ""}
    titles = [
        *("scene", "method"),
        *(f"{areas.get(column.area, 'all ')}{column.title}" for column in COLUMNS),
        "seconds",
    ]
    means = [row for row in table_rows(scores) if row.scene is None]
    parts = ["# Evaluation", "## Means", _markdown(titles, map(_cells, means))]
    for part in protocol_results(scores):
        name = part[0].protocol
        heading = ["images", "method", "of", *part[0].figures]
        cells = [
            [row.group, row.method, of_images(row), *map(number, row.figures.values())]
            for row in part
        ]
        text = " ".join(describe([name]).split())  # a line that began with > would be a quotation
        parts += [f"## Protocol {name}", text, _markdown(heading, cells), *remarks(part)]
    parts += ["## Images", _markdown(titles, map(_cells, scores.images))]
    return "\n\n".join([*parts, scores.protocol, *provenance(scores)])


def table_rows(scores: Scores) -> list[Row]:
    """Images, then means; those over pixels only where they are of more than one image."""
    pooled = [row for row in scores.pooled if row.images > 1]
    return [*scores.images, *scores.means, *pooled]


def provenance(scores: Scores) -> list[str]:
    """How the scores were made: the settings that aren't left out, and the versions."""
    return [
        f"{title}: " + ", ".join(f"{key} {_plain(value)}" for key, value in given.items() if value)
        for title, given in (("Settings", scores.settings), ("Versions", scores.versions))
    ]


def _plain(value: Any) -> str:
    """A setting without brackets and quotation marks."""
    if isinstance(value, dict):
        return " ".join(f"{key}={inner}" for key, inner in value.items())
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def row_name(row: Row) -> str:
    """The scene, or which mean it is."""
    if row.scene is not None:
        return row.scene
    kind = "pixels" if row.mean_over == "pixels" else "mean"
    return f"{kind} of {row.images} in {row.group}"


def number(value: float, digits: int = 2) -> str:
    """Write a number, or - where it isn't known."""
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _cells(row: Row) -> list[str]:
    values = [number(row.score(column.area, column.metric)) for column in COLUMNS]
    return [row_name(row), row.method, *values, number(row.seconds, 3)]


def protocol_results(scores: Scores) -> list[list[Published]]:
    """The results of each protocol."""
    names = dict.fromkeys(result.protocol for result in scores.published)
    return [[result for result in scores.published if result.protocol == name] for name in names]


def _text(results: Sequence[Published]) -> Iterator[str]:
    """One protocol: what it does, and a table."""
    yield "protocol " + describe([results[0].protocol])
    heading = ["images", "method", "of", *results[0].figures]
    rows = [
        [row.group, row.method, of_images(row), *map(number, row.figures.values())]
        for row in results
    ]
    widths = [max(map(len, column)) for column in zip(heading, *rows, strict=True)]
    for cells in (heading, *rows):
        left = "  ".join(f"{cell:{width}}" for cell, width in zip(cells[:3], widths, strict=False))
        right = (f"{cell:>{width}}" for cell, width in zip(cells[3:], widths[3:], strict=True))
        yield "  ".join([left, *right])
    yield from remarks(results)


def of_images(result: Published) -> str:
    """How many images, and how many there should be."""
    if result.images in result.published_images or not result.published_images:
        return f"{result.images}"
    wanted = " or ".join(f"{count}" for count in result.published_images)
    return f"{result.images} (published: {wanted})"


def remarks(results: Sequence[Published]) -> list[str]:
    """Which figures are of fewer images than their row says, as these lack a file for them."""
    found = []
    for result in results:
        few: dict[int, list[str]] = {}
        for name, count in result.figure_images.items():
            if count < result.images:
                few.setdefault(count, []).append(name)
        found += [
            f"{result.group}: from only {count} of {result.images} images, as the others don't "
            f"tell: {', '.join(names)}"
            for count, names in few.items()
        ]
    return list(dict.fromkeys(found))  # the same for every method


def _markdown(heading: Sequence[str], rows: "Iterator[list[str]] | list[list[str]]") -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
