"""The published models, exactly: CSTR, STTR and STTR-light. Read model.py first.

Their quirks are named where they stand and live in this folder only.
"""

from .model import PublishedStereo, cstr, sttr, sttr_light

__all__ = ["PublishedStereo", "cstr", "sttr", "sttr_light"]
