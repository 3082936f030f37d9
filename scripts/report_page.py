"""One HTML page of an evaluation: numbers that sort, the worst scenes, and their worst pixels.

The page is one file. It holds its pictures and its few lines of script, asks no server for anything
(its own policy forbids it), and so opens anywhere, offline, and for as long as browsers read HTML.

Tests  tests/scripts/test_report_page.py; looked at in Chromium 140
"""

from collections.abc import Iterable, Sequence
from html import escape

import matplotlib
from matplotlib.colors import to_hex

from stereo_tr.scripts.error_pictures import WORST, WorstPixel
from stereo_tr.scripts.gallery import ShownMethod, ShownScene
from stereo_tr.scripts.protocols import describe
from stereo_tr.scripts.score_tables import (
    COLUMNS,
    HEADINGS,
    number,
    of_images,
    protocol_results,
    provenance,
    remarks,
    row_name,
    table_rows,
)
from stereo_tr.scripts.scores import Row, Scores

_RAMP = ", ".join(to_hex(matplotlib.colormaps["inferno"](step / 8)) for step in range(9))

_STYLE = f"""
:root {{ color-scheme: light dark; --line: #8884; --mark: #2bd4c4; }}
body {{ font: 14px/1.45 system-ui, sans-serif; margin: 1.5rem auto; padding: 0 1rem;
  max-width: 1500px; }}
h1 {{ font-size: 1.5rem; }} h2 {{ font-size: 1.15rem; margin-top: 2.2rem; }}
h3 {{ font-size: 1rem; margin: 1.8rem 0 .4rem; }}
p, li {{ max-width: 90ch; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .2rem .5rem; border-bottom: 1px solid var(--line); white-space: nowrap; }}
td {{ text-align: right; }} td.name, th.name {{ text-align: left; }}
thead th {{ text-align: right; }}
thead tr.areas th {{ text-align: center; border-left: 1px solid var(--line); }}
th button {{ all: unset; cursor: pointer; font-weight: 600; }}
th button:focus-visible {{ outline: 2px solid var(--mark); }}
th[aria-sort=ascending] button::after {{ content: " ▲"; }}
th[aria-sort=descending] button::after {{ content: " ▼"; }}
tbody tr:hover {{ background: #8882; }}
.pictures {{ display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: .6rem; }}
figure {{ margin: 0; }} figcaption {{ opacity: .75; font-size: .85rem; }}
.picture {{ position: relative; line-height: 0; }} .picture img {{ width: 100%; }}
.picture svg {{ position: absolute; inset: 0; width: 100%; height: 100%; overflow: visible; }}
circle {{ fill: none; stroke: var(--mark); vector-effect: non-scaling-stroke; stroke-width: 2; }}
text {{ fill: var(--mark); font-weight: 700; paint-order: stroke; stroke: #000; }}
.ramp {{ display: inline-block; width: 9rem; height: .8em;
  background: linear-gradient(to right, {_RAMP}); }}
@media (max-width: 700px) {{ .pictures {{ grid-template-columns: 1fr; }} }}
"""

_SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  const body = table.tBodies[0];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = row => row.cells[column].textContent.trim();
    const words = head.classList.contains("name");
    const order = (a, b) => {
      if (words) return key(a).localeCompare(key(b)) * (down ? -1 : 1);
      const [x, y] = [parseFloat(key(a)), parseFloat(key(b))];
      if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y);  // what isn't known comes last
      return (x - y) * (down ? -1 : 1);
    };
    body.append(...[...body.rows].sort(order));
  }));
}
"""


def report_page(scores: Scores, shown: Sequence[ShownScene]) -> str:
    """Lay out everything that an evaluation found as one HTML page.

    `shown` are the scenes with pictures, worst first.
    """
    means = [row for row in table_rows(scores) if row.scene is None]
    links = {scene.scene: scene.index for scene in shown}
    parts = [
        "<h1>Stereo evaluation</h1>",
        _legend(scores),
        "<h2>Means</h2>",
        _scores_table(means, {}),
        *_protocols(scores),
        "<h2>Images</h2><p>Click a heading to sort; names with a line lead to the pictures.</p>",
        _scores_table(scores.images, links),
    ]
    if shown:
        parts.append(
            f"<h2>Pictures: the {len(shown)} worst of {_images(scores)} images</h2>"
            f"<p>By the EPE of {escape(shown[0].methods[0].method)} over all known pixels. Errors: "
            f'0 px <span class="ramp"></span> {WORST:g} px and more; blue: occluded; grey: truth '
            "not known. Circles: the worst pixels, no two close to each other.</p>"
        )
    parts += [_scene(scene) for scene in shown]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">"
        f"<title>Stereo evaluation</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + f"\n<script>{_SCRIPT}</script>\n</body></html>\n"
    )


def _images(scores: Scores) -> int:
    return len({(row.group, row.scene) for row in scores.images})


def _legend(scores: Scores) -> str:
    meaning = "".join(f"<li>{escape(part)}</li>" for part in scores.protocol.split(". "))
    made = "".join(f"<p>{escape(part)}</p>" for part in provenance(scores))
    methods = ", ".join(dict.fromkeys(row.method for row in scores.images))
    return (
        f"<p>{_images(scores)} images, scored with {escape(methods)}.</p>"
        f"<details><summary>What the numbers mean</summary><ul>{meaning}</ul></details>"
        f"<details><summary>How they were made</summary>{made}</details>"
    )


def _scores_table(rows: Sequence[Row], links: dict[str, int]) -> str:
    areas = "".join(f'<th colspan="{count}">{escape(name)}</th>' for name, count in HEADINGS)
    heads = [("scene", True), ("method", True)]
    heads += [(column.title, False) for column in COLUMNS] + [("seconds", False)]
    body = []
    for row in rows:
        name = escape(row_name(row))
        if row.scene in links:
            name = f'<a href="#scene-{links[row.scene]}">{name}</a>'
        values = [number(row.score(column.area, column.metric)) for column in COLUMNS]
        body.append([name, escape(row.method), *values, number(row.seconds, 3)])
    above = f'<tr class="areas"><th colspan="2"></th>{areas}<th></th></tr>'
    return _table(heads, body, above)


def _protocols(scores: Scores) -> Iterable[str]:
    for results in protocol_results(scores):
        name = results[0].protocol
        lines = "<br>".join(escape(line) for line in describe([name]).splitlines())
        yield f"<h2>Protocol {escape(name)}</h2><p>{lines}</p>"
        heads = [("images", True), ("method", True), ("of", True)]
        heads += [(figure, False) for figure in results[0].figures]
        body = [
            [*map(escape, (r.group, r.method, of_images(r))), *map(number, r.figures.values())]
            for r in results
        ]
        yield _table(heads, body)
        yield from (f"<p>{escape(remark)}</p>" for remark in remarks(results))


def _scene(scene: ShownScene) -> str:
    pictures = [
        _figure(scene, "left view", scene.left),
        _figure(scene, f"truth, 0 to {scene.largest:.1f} px", scene.truth),
    ]
    lists = []
    for found in scene.methods:
        marks = _marks(scene, found.worst)
        pictures += [
            _figure(scene, f"{found.method}, prediction", found.prediction, marks),
            _figure(scene, f"{found.method}, error", found.error, marks),
        ]
        lists.append(_worst(found))
    return (
        f'<section id="scene-{scene.index}"><h3>{escape(scene.scene)}, '
        f"{scene.width}x{scene.height} px</h3>"
        f'<div class="pictures">{"".join(pictures)}</div>{"".join(lists)}</section>'
    )


def _figure(scene: ShownScene, caption: str, picture: str, marks: str = "") -> str:
    return (
        f'<figure><div class="picture"><img src="{picture}" width="{scene.width}" '
        f'height="{scene.height}" alt="{escape(scene.scene)}: {escape(caption)}" '
        f'style="height: auto">{marks}</div><figcaption>{escape(caption)}</figcaption></figure>'
    )


def _marks(scene: ShownScene, worst: Sequence[WorstPixel]) -> str:
    radius = max(scene.width, scene.height) / 60
    circles = "".join(
        f'<circle cx="{pixel.x + 0.5}" cy="{pixel.y + 0.5}" r="{radius:.1f}"><title>'
        f"{pixel.error:.1f} px off</title></circle>"
        f'<text x="{pixel.x + 1.1 * radius:.1f}" y="{pixel.y - 0.6 * radius:.1f}" '
        f'font-size="{1.6 * radius:.1f}" stroke-width="{radius / 6:.1f}">{place}</text>'
        for place, pixel in enumerate(worst, 1)
    )
    return f'<svg viewBox="0 0 {scene.width} {scene.height}">{circles}</svg>'


def _worst(found: ShownMethod) -> str:
    heads = [(name, False) for name in ("worst", "x", "y", "truth", "found", "error")]
    body = [
        [str(place), str(p.x), str(p.y), *map(number, (p.truth, p.found, p.error)), p.where]
        for place, p in enumerate(found.worst, 1)
    ]
    table = _table([*heads, ("where", True)], body)
    return f"<details><summary>{escape(found.method)}: worst pixels</summary>{table}</details>"


def _table(
    heads: Sequence[tuple[str, bool]], body: Sequence[Sequence[str]], above: str = ""
) -> str:
    """A table that sorts; heads say whether a column holds words, cells are HTML."""
    kinds = [' class="name"' if words else "" for _, words in heads]
    head = "".join(
        f'<th scope="col"{kind}><button type="button">{escape(title)}</button></th>'
        for kind, (title, _) in zip(kinds, heads, strict=True)
    )
    rows = "".join(
        "<tr>"
        + "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, cells, strict=True))
        + "</tr>"
        for cells in body
    )
    return (
        f'<div class="scroll"><table class="sortable"><thead>{above}<tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )
