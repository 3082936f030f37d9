"""One small model of each family, for tests of what all vision models have in common."""

SMALL = {
    "vit_tiny_patch16_224": {"channels": 12, "depth": 2, "heads": 2, "image_size": (48, 64)},
    "swin_tiny_patch4_window7_224": {
        "channels": 8,
        "depths": (2, 1, 2, 1),
        "heads": (1, 2, 4, 8),
        "window": 3,
    },
    "convnext_tiny": {"widths": (8, 12, 16, 20), "depths": (1, 2, 1, 1)},
    "moat_0": {
        "stem": 8,
        "depths": (1, 1, 2, 1),
        "widths": (8, 12, 16, 24),
        "head": 8,
        "windows": ((2, 3), None),
    },
    "vitamin_small_224": {
        "stem": 8,
        "channels": 12,
        "depth": 2,
        "heads": 2,
        "convolutions": (1, 1),
        "image_size": (48, 64),
    },
    "resnet50": {"widths": (8, 16, 24, 32), "depths": (1, 2, 1, 1)},
}
"""name -> overrides for `create_model`"""

PIXELWISE = {
    "transunet_r50_vit_b16": {
        "channels": 12,
        "depth": 2,
        "heads": 2,
        "hidden": 24,
        "width": 32,
        "units": (1, 1, 1),
        "decoder": (16, 12, 8, 8),
        "image_size": (48, 64),
    }
}
"""the same of models that score every pixel"""
