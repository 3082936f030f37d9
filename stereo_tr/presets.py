"""Recipes by name: what a training run takes where nothing is given.

Source  CSTR: github.com/guoyu-qing/CSTR, STTR: github.com/mli0603/stereo-transformer (AdamW, 1e-4,
        weight decay 1e-4, clip 0.1, twice the rate for names containing "regression", 0.99 an
        epoch but not in pre-training, one pair a step)
Tests   tests/test_recipe.py
"""

from typing import Any

FLYING_THINGS = 22_390
"""training pairs of FlyingThings3D"""
KITTI = 160 + 160
"""pairs of KITTI 2012 and 2015 in the splits "train\""""

_COMMON: dict[str, Any] = {
    "override": (),
    "weights": None,
    "data": ("generated",),
    "root": (),
    "augmentation": "strong",
    "seed": 0,
    "epoch": FLYING_THINGS,
    "validate": None,
    "validate_root": None,
    "validate_every": 2000,
    "validate_pairs": 32,
    "precision": "auto",
    "accumulate": 1,
}

# The published crops vary from this size up; here they stay there, so that the data order doesn't
# depend on the model.
_STTR = _COMMON | {
    "model": "sttr",
    "data": ("flyingthings3d",),
    "augmentation": "sttr",
    "height": 360,
    "width": 640,
    "batch": 1,
    "steps": 15 * FLYING_THINGS,
    "learning_rate": 1e-4,
    "weight_decay": 1e-4,
    "schedule": "constant",
    "warmup": 0,
    "clip": 0.1,
    "ema": 0.0,
}
_CSTR = _STTR | {"model": "cstr", "steps": 25 * FLYING_THINGS}

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
    "cstr": _CSTR,
    "published": _CSTR,  # the name it had before there were others
    "sttr": _STTR,
    # Fine-tuning: goes on from pre-trained weights, given with --weights.
    "kitti": _STTR
    | {
        "data": ("kitti2012_train", "kitti2015_train"),
        "augmentation": "sttr_kitti",
        "height": 200,
        "width": 640,
        "steps": 400 * KITTI,
        "schedule": "exponential",
        "epoch": KITTI,
    },
    # DeiT's rate, decay and decaying average, for data sets of thousands of images.
    "classify": _COMMON
    | {
        "model": "vit_tiny_patch16_224",
        "data": (),
        "height": 224,
        "width": 224,
        "batch": 32,
        "steps": 5000,
        "learning_rate": 5e-4,
        "weight_decay": 0.05,
        "schedule": "cosine",
        "warmup": 200,
        "clip": 1.0,
        "ema": 0.999,
        "validate_every": 500,
    },
    # kMaX-DeepLab's rate and decay, for images of hundreds of pixels and no 150,000 steps.
    "panoptic": _COMMON
    | {
        "model": "kmax_resnet50",
        "data": ("generated_panoptic",),
        "height": 129,
        "width": 129,
        "batch": 4,
        "steps": 20_000,
        "learning_rate": 5e-4,
        "weight_decay": 0.05,
        "schedule": "cosine",
        "warmup": 500,
        "clip": 1.0,
        "ema": 0.0,
    },
    # At 1e-3 panoptic quality was 10.9 after 500 steps, at this rate 12.2 (docs/model_card.md).
    "kmax_small": _COMMON
    | {
        "model": "kmax_small",
        "data": ("generated_few",),
        "height": 96,
        "width": 96,
        "batch": 4,
        "steps": 6000,
        "learning_rate": 4e-3,
        "weight_decay": 0.05,
        "schedule": "trapezoid",
        "warmup": 50,
        "clip": 1.0,
        "ema": 0.995,
        "validate_every": 500,
        "validate_pairs": 64,
    },
}
