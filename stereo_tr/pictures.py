"""Views, disparity and occlusion as pictures for people.

Colours run from dark violet (far) over red to light yellow (near): matplotlib's inferno, whose
steps look equally large everywhere, and which survives grey printing and colour blindness. A
rainbow shows edges where there are none.

Letters  H W image height and width in pixels
Tests    tests/test_pictures.py
"""

from typing import NamedTuple

import matplotlib
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

UNKNOWN = (128, 128, 128)
"""grey, which the colour map doesn't hold"""
PAPER, INK = (255, 255, 255), (30, 30, 30)
LEAST_WIDTH = 240
"""pixels: below this the numbers of the scale bar run into each other"""


class Span(NamedTuple):
    """The disparities, in pixels, that the colour map's two ends stand for."""

    low: float
    high: float


def span_of(
    disparity: Float32[np.ndarray, "H W"], valid: Bool[np.ndarray, "H W"] | None = None
) -> Span:
    """From the 1st to the 99th percentile of what is `valid`, so that outliers cost no contrast."""
    values = disparity[np.isfinite(disparity) if valid is None else valid]
    if not values.size:
        return Span(0.0, 1.0)
    low, high = (float(value) for value in np.percentile(values, (1, 99)))
    if high - low < 1:  # one flat surface: don't blow its noise up
        low, high = (low + high) / 2 - 0.5, (low + high) / 2 + 0.5
    return Span(low, high)


def colour_disparity(
    disparity: Float32[np.ndarray, "H W"],
    valid: Bool[np.ndarray, "H W"] | None = None,
    span: Span | None = None,
) -> UInt8[np.ndarray, "H W 3"]:
    """RGB of the map's own size; grey where not `valid` (default: where not finite).

    Give several maps the same `span` to compare them.
    """
    valid = np.isfinite(disparity) if valid is None else valid
    low, high = span or span_of(disparity, valid)
    level = (np.where(valid, disparity, low) - low) / (high - low)
    colours = matplotlib.colormaps["inferno"](np.clip(level, 0, 1), bytes=True)[..., :3]
    return np.where(valid[..., None], colours, np.uint8(UNKNOWN))


def disparity_picture(
    disparity: Float32[np.ndarray, "H W"],
    focal_times_baseline: float | None = None,
    principal_offset: float = 0.0,
) -> UInt8[np.ndarray, "height width 3"]:
    """`colour_disparity`, untouched at the top left, with a scale bar below.

    The bar tells pixels, and metres where `focal_times_baseline` (pixels * metres) is given.
    """
    span = span_of(disparity)
    image = colour_disparity(disparity, span=span)
    height, width = image.shape[:2]
    # The bar grows with the picture, so that its numbers can be read where that is shown smaller.
    font_size = max(12, round(max(width, LEAST_WIDTH) / 50))
    lines = 1 if focal_times_baseline is None else 2
    margin = font_size
    strip_height = round(margin * 0.7) * 3 + round(1.4 * font_size * lines)
    canvas_width = max(width, LEAST_WIDTH)
    canvas = Image.new("RGB", (canvas_width, height + strip_height), PAPER)
    canvas.paste(Image.fromarray(image), (0, 0))
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(font_size)
    unit_width = round(draw.textlength(" px", font))
    left, right = 2 * margin, canvas_width - 2 * margin - unit_width
    top = height + round(margin * 0.7)
    ramp = np.linspace(span.low, span.high, right - left, dtype=np.float32)
    bar = np.repeat(colour_disparity(ramp[None], span=span), round(margin * 0.7), axis=0)
    canvas.paste(Image.fromarray(bar), (left, top))
    text_top = top + bar.shape[0] + round(margin * 0.4)
    steps = max(2, min(8, (right - left) // (5 * font_size)))
    ticks = [
        t
        for t in MaxNLocator(steps, steps=[1, 2, 5, 10]).tick_values(*span)
        if span.low <= t <= span.high
    ]
    for tick in ticks:
        x = left + (tick - span.low) / (span.high - span.low) * (right - left - 1)
        draw.line([(x, top + bar.shape[0]), (x, text_top - 1)], INK)
        draw.text((x, text_top), f"{tick:g}", INK, font, anchor="ma")
        if focal_times_baseline is not None:
            shifted = tick + principal_offset
            metres = f"{focal_times_baseline / shifted:.3g}" if shifted > 0 else "∞"
            draw.text((x, text_top + 1.4 * font_size), metres, INK, font, anchor="ma")
    for line, unit in enumerate(("px", "m")[:lines]):
        place = (canvas_width - margin // 2, text_top + line * 1.4 * font_size)
        draw.text(place, unit, INK, font, anchor="ra")
    return np.asarray(canvas)


def probability_picture(probability: Float32[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W"]:
    """0 black, 1 white; what lies beyond is cut off."""
    return np.round(np.clip(probability, 0, 1) * 255).astype(np.uint8)


def view_picture(view: Float[Tensor, "3 H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """A view as models and samples have it, RGB in [0, 1], on any device."""
    return (view * 255).round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()
