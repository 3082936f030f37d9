"""Tiny models of every family that can be recorded as graphs, for tests of that."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jaxtyping
import torch
from torch import nn

from stereo_tr.pretrained import create_model
from stereo_tr.vision.clip import CLIP, TextTower
from stereo_tr.vision.vitamin import ViTamin

sys.path.append(str(Path(__file__).parent / "vision"))
from small_models import SMALL

STEREO = {
    "widths": (8, 16, 16, 24),
    "blocks": (1, 1, 1),
    "layers": 1,
    "context_heads": 2,
    "sinkhorn_iterations": 2,
    "adjustment_width": 16,
    "refinement_width": 16,
}
TRANSUNET = {
    "channels": 16,
    "depth": 1,
    "heads": 2,
    "hidden": 24,
    "width": 32,
    "units": (1, 1, 1),
    "decoder": (16, 8, 16, 8),
    "image_size": (48, 64),
    "num_classes": 3,
}
PUBLISHED = ["cstr", "sttr", "sttr_light"]
"""stereo models as published; with two layers everything in them is in use"""
VISION = [*SMALL, "transunet_r50_vit_b16", "vitamin_small_clip"]
"""vision models, one of each family"""


def tiny(name: str) -> nn.Module:
    """A model with random weights, the same every time."""
    torch.manual_seed(1)
    if name == "vitamin_small_clip":
        text = TextTower(channels=8, depth=1, heads=2, joint=10, vocabulary=20, context=5)
        return CLIP(ViTamin(num_classes=0, **SMALL["vitamin_small_224"]), text, 12, 10).eval()
    overrides = {"cstr_small": STEREO, "transunet_r50_vit_b16": TRANSUNET} | SMALL
    overrides |= {key: {"layers": 2, "heads": 2} for key in PUBLISHED}
    model = create_model(name, **overrides[name]).eval()
    if name == "cstr_small":  # clear preferences: no rounding decides which match is best
        nn.init.constant_(model.temperature, 2.0)
    return model


@contextmanager
def shapes_unchecked() -> Iterator[None]:
    """While a graph is recorded a size is no `int`, which beartype would object to."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
