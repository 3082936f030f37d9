"""Recipes by name: what a training run takes where nothing is given.

Source  published: github.com/guoyu-qing/CSTR (AdamW, 1e-4, weight decay 1e-4, clip 0.1, twice the
        rate for names containing "regression", 0.99 an epoch)
Tests   tests/test_training.py
"""

from typing import Any

FLYING_THINGS = 22_390
"""training pairs of FlyingThings3D: an epoch of the published recipe"""

_COMMON: dict[str, Any] = {
    "override": (),
    "weights": None,
    "data": ("generated",),
    "seed": 0,
    "validate_every": 2000,
    "validate_pairs": 32,
}
PRESETS: dict[str, dict[str, Any]] = {
    # The prototype's recipe, which reached useful accuracy with 10,000 pairs, with an average of
    # the weights and a rate that ends at zero.
    "small": _COMMON
    | {
        "model": "cstr_small",
        "height": 160,
        "width": 320,
        "batch": 4,
        "steps": 100_000,
        "learning_rate": 7e-4,
        "weight_decay": 1e-4,
        "schedule": "cosine",
        "warmup": 500,
        "clip": 1.0,
        "ema": 0.999,
    },
    # One pair a step, as published: 15 epochs of FlyingThings3D. The published crop varies from
    # 360x640 up; here it stays there, so that the data order doesn't depend on the model.
    "published": _COMMON
    | {
        "model": "cstr",
        "height": 360,
        "width": 640,
        "batch": 1,
        "steps": 15 * FLYING_THINGS,
        "learning_rate": 1e-4,
        "weight_decay": 1e-4,
        "schedule": "exponential",
        "warmup": 0,
        "clip": 0.1,
        "ema": 0.0,
    },
}
