"""The shared core: which tokens meet, what position adds, how scores become weights, in what block.

It knows no model, no image and no data set. Read attend.py first.
"""

from .attend import ASSIGNMENTS, Attended, Attention, PositionTables, attend
from .blocks import FeedForward, LayoutAttention, Residual
from .layouts import Columns, EpipolarLine, Everything, Layout, Rows, Windows
from .positions import (
    AxialOffsetTable,
    LearnedMap,
    Position,
    RelativeSine,
    Rotary,
    WindowOffsetTable,
    sine,
    sine_map,
)

__all__ = [
    "ASSIGNMENTS",
    "Attended",
    "Attention",
    "AxialOffsetTable",
    "Columns",
    "EpipolarLine",
    "Everything",
    "FeedForward",
    "Layout",
    "LayoutAttention",
    "LearnedMap",
    "Position",
    "PositionTables",
    "RelativeSine",
    "Residual",
    "Rotary",
    "Rows",
    "WindowOffsetTable",
    "Windows",
    "attend",
    "sine",
    "sine_map",
]
