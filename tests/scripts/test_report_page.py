"""The page: whole, closed in itself, the worst scenes first; and what a gallery keeps."""

import base64
import io
import math
from html.parser import HTMLParser

import numpy as np
from PIL import Image
from test_scores import row, sample

from stereo_tr.scripts import protocols
from stereo_tr.scripts.error_pictures import worst_pixels
from stereo_tr.scripts.gallery import Gallery
from stereo_tr.scripts.report_page import report_page
from stereo_tr.scripts.scores import Scores, summarize

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Collects elements and checks that they are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.cells = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "button", "a"):
            self.cells.append(data)


def errors(value, index):
    pair = sample(np.full((20, 30), 5.0).tolist(), name=f"a/<{index}>")
    found = np.full((20, 30), 5.0, np.float32)
    found[7, 11] += 600 * value
    return pair, found


def gallery(count, values):
    kept = Gallery(count)
    for index, value in enumerate(values):
        pair, found = errors(0 if math.isnan(value) else value, index)
        kept.offer(index, pair, {"ours": found, "theirs": found}, float(value))
    return kept


def test_a_gallery_keeps_the_worst():
    kept = gallery(3, [0.5, 3, math.nan, 1, 3, 2])
    assert [scene.index for scene in kept.scenes] == [1, 4, 5]
    assert not gallery(0, [1, 2]).scenes
    assert [scene.index for scene in gallery(9, [math.nan, 1]).scenes] == [1, 0]


def test_galleries_of_processes_join_to_one():
    values = [0.5, 3, 1, 3, 2, 0.1]
    alone, joined = gallery(3, values), Gallery(3)
    for rank in range(2):
        part = Gallery(3)
        for index in range(rank, len(values), 2):
            pair, found = errors(values[index], index)
            part.offer(index, pair, {"ours": found, "theirs": found}, float(values[index]))
        joined.add_texts(part.as_texts())
    assert joined.scenes == alone.scenes


def test_worst_pixels_are_apart_and_worst_first():
    pair = sample(np.full((40, 60), 5.0).tolist())
    pair.valid[20, 30] = False
    pair.occluded[10, 50] = True
    found = np.full((40, 60), 5.0, np.float32)
    found[20, 30] = 999  # not known
    found[30, 5], found[30, 6], found[10, 50], found[3, 3] = 25, 24, 15, np.nan
    worst = worst_pixels(found, pair, 5)
    assert [(p.x, p.y) for p in worst] == [(3, 3), (5, 30), (50, 10)]
    assert (worst[1].truth, worst[1].found, worst[1].error, worst[1].where) == (5, 25, 20, "open")
    assert worst[2].where == "occluded"
    assert len(worst_pixels(found, pair, 1)) == 1


def test_the_page_holds_everything_and_asks_for_nothing():
    values = [0.5, 3, 1]
    rows = []
    for index, value in enumerate(values):
        pair, found = errors(value, index)
        rows.append(row(found, pair))
    means, by_pixel = summarize(rows, ["ours"])
    published = tuple(protocols.apply(["sttr"], rows))
    scores = Scores(
        tuple(rows), tuple(means), tuple(by_pixel), published, {"data": "<x>"}, {}, "A. B"
    )
    text = report_page(scores, gallery(2, values).scenes)
    page = Page(text)
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object")
        assert tag != "script" or "src" not in attributes
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("data:image/webp;base64,", "#"))
            assert not str(attributes.get(name, "")).startswith(("http", "//"))
    for outside in ("@import", "url(", "fetch(", "XMLHttp", "<base"):
        assert outside not in text
    assert "default-src 'none'" in text
    pictures = [attributes for tag, attributes in page.elements if tag == "img"]
    assert len(pictures) == 2 * (2 + 2 * 2)
    for attributes in pictures:
        data = base64.b64decode(attributes["src"].partition(",")[2])
        assert Image.open(io.BytesIO(data)).size == (30, 20)
    sections = [attributes["id"] for tag, attributes in page.elements if tag == "section"]
    assert sections == ["scene-1", "scene-2"]
    links = [attributes["href"] for tag, attributes in page.elements if tag == "a"]
    assert sorted(links) == ["#scene-1", "#scene-2"]
    assert {"a/<0>", "a/<1>", "EPE", "pixels of 3 in a", "> 3 px noc"} <= set(page.cells)
    assert f"{1800 / 600:.2f}" in page.cells
    circles = [attributes for tag, attributes in page.elements if tag == "circle"]
    assert {(c["cx"], c["cy"]) for c in circles} == {("11.5", "7.5")}


def test_a_page_without_pictures():
    scored = row([[5.0]], sample([[5.0]]))
    means, by_pixel = summarize([scored], ["ours"])
    Page(report_page(Scores((scored,), tuple(means), tuple(by_pixel), (), {}, {}, "A"), []))
