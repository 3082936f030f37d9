"""Segments and cluster assignments as pictures for people.

Each segment has a colour of its own, void is black. Borders are drawn in white, because two colours
may be near each other.

Letters  H W image height and width in pixels, Q queries, h w size of an assignment
Tests    tests/test_panoptic_pictures.py
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .mask.panoptic import Panoptic
from .pictures import INK, PAPER

GOLDEN_RATIO = 0.618
"""turns of the colour circle between two numbers: neighbouring numbers get colours far apart"""
SHOWN = 0.55
"""share of the segments' colours in an overlay; the rest is the photograph"""
GAP = 4
"""pixels of white between pictures"""
TITLE = 20
"""pixels above a picture for its title"""


def number_colours(numbers: Int[np.ndarray, "*size"]) -> UInt8[np.ndarray, "*size 3"]:
    """A colour for each number from 1 on; 0 is black."""
    turn = numbers[..., None] * GOLDEN_RATIO + np.array([0, 1 / 3, 2 / 3])
    colours = np.rint(255 * (0.5 + 0.45 * np.cos(2 * np.pi * turn))).astype(np.uint8)
    return np.where(numbers[..., None] > 0, colours, np.uint8(0))


def overlay(
    picture: UInt8[np.ndarray, "H W 3"], segment_map: Int[Tensor, "H W"]
) -> UInt8[np.ndarray, "H W 3"]:
    """The photograph under its segments' colours, with white borders; void stays as it is."""
    numbers = segment_map.cpu().numpy()
    mixed = (1 - SHOWN) * picture + SHOWN * number_colours(numbers)
    shown = np.where(numbers[..., None] > 0, np.rint(mixed).astype(np.uint8), picture)
    shown[_borders(numbers)] = 255
    return shown


def labelled_overlay(
    picture: UInt8[np.ndarray, "H W 3"], panoptic: Panoptic, names: Sequence[str]
) -> UInt8[np.ndarray, "H W 3"]:
    """`overlay` with the name of each segment's class in its middle, where there is room."""
    canvas = Image.fromarray(overlay(picture, panoptic.segment_map))
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(max(10, picture.shape[0] // 40))
    numbers = panoptic.segment_map.cpu().numpy()
    for segment in panoptic.segments:
        rows, columns = np.nonzero(numbers == segment.number)
        text = names[segment.category]
        left, top, right, bottom = draw.textbbox((0, 0), text, font)
        if right - left > np.ptp(columns) or bottom - top > np.ptp(rows):
            continue
        place = (float(np.median(columns)), float(np.median(rows)))
        draw.text(place, text, PAPER, font, anchor="mm", stroke_width=2, stroke_fill=INK)
    return np.asarray(canvas)


def assignment_picture(
    assignment: Float[Tensor, "Q h w"], size: tuple[int, int]
) -> UInt8[np.ndarray, "H W 3"]:
    """Which query each pixel belongs to most, a colour a query; blocks of the layer's own pixels.

    A query has the same colour in every layer.
    """
    best = assignment.argmax(0).to(torch.int32) + 1
    colours = number_colours(best.cpu().numpy())
    return np.asarray(Image.fromarray(colours).resize(size[::-1], Image.Resampling.NEAREST))


def side_by_side(
    pictures: dict[str, UInt8[np.ndarray, "H W 3"]], columns: int = 4
) -> UInt8[np.ndarray, "height width 3"]:
    """Pictures of one size in rows of at most `columns`, each under its title."""
    height, width = next(iter(pictures.values())).shape[:2]
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    size = (columns * (width + GAP) - GAP, rows * (height + TITLE + GAP) - GAP)
    canvas = Image.new("RGB", size, PAPER)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(TITLE * 0.7)
    for index, (title, picture) in enumerate(pictures.items()):
        row, column = divmod(index, columns)
        place = (column * (width + GAP), row * (height + TITLE + GAP))
        draw.text(place, title, INK, font)
        canvas.paste(Image.fromarray(picture), (place[0], place[1] + TITLE))
    return np.asarray(canvas)


def _borders(numbers: Int[np.ndarray, "H W"]) -> np.ndarray:
    """Pixels whose right or lower neighbour is of another segment."""
    border = np.zeros(numbers.shape, bool)
    border[:, :-1] |= numbers[:, :-1] != numbers[:, 1:]
    border[:-1] |= numbers[:-1] != numbers[1:]
    return border
