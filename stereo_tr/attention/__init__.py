"""The shared core: which tokens meet, what position adds, how scores become weights, in what block.

It knows no model, no image and no data set. Read attend.py first.
"""

from .attend import ASSIGNMENTS, Attended, Attention, PositionTables, attend
from .blocks import FeedForward, LayoutAttention, Residual, drop_path
from .clustering import gather
from .dense import Dense
from .layouts import Columns, EarlierInRow, EpipolarLine, Everything, Layout, Rows, Windows
from .normalised import NormalisedAttention
from .positions import (
    AxialOffsetTable,
    LearnedMap,
    Position,
    RelativeSine,
    Rotary,
    WindowOffsetTable,
    resize_map,
    sine,
    sine_map,
)
from .record import recorded_weights

__all__ = [
    "ASSIGNMENTS",
    "Attended",
    "Attention",
    "AxialOffsetTable",
    "Columns",
    "Dense",
    "EarlierInRow",
    "EpipolarLine",
    "Everything",
    "FeedForward",
    "Layout",
    "LayoutAttention",
    "LearnedMap",
    "NormalisedAttention",
    "Position",
    "PositionTables",
    "RelativeSine",
    "Residual",
    "Rotary",
    "Rows",
    "WindowOffsetTable",
    "Windows",
    "attend",
    "drop_path",
    "gather",
    "recorded_weights",
    "resize_map",
    "sine",
    "sine_map",
]
