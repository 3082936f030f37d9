"""Where to compute: a device by name, checked before anything takes time.

Tests  tests/test_matcher.py, tests/test_training.py: devices that aren't there;
       tests/test_precision.py: what stays in float32
"""

from typing import Literal, get_args

import torch

Precision = Literal["float32", "bf16", "fp16"]
"""of matrix products and convolutions"""

TYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def usable_device(name: str | torch.device) -> torch.device:
    """Return the device after a number has come back from it.

    Raises ValueError, naming the devices of this machine, for one that isn't there, doesn't work,
    or keeps no numbers (torch's "meta").
    """
    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        here = ["cpu"]
        here += [f"cuda:{index}" for index in range(torch.cuda.device_count())]
        here += ["mps"] * torch.backends.mps.is_available()
        raise ValueError(
            f"device {str(name)!r} can't be used; this machine has {', '.join(here)}"
        ) from error
    return torch.device(name)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context in which matrix products and convolutions take `precision`.

    Models keep float32 inside it where they need it. Raises ValueError for an unknown precision,
    and for fp16 anywhere but on CUDA, where nothing computes it faster.
    """
    if precision not in get_args(Precision):
        raise ValueError(f"precision {precision!r}; allowed are {', '.join(get_args(Precision))}")
    if precision == "fp16" and device.type != "cuda":
        raise ValueError(f"fp16 is for CUDA, not for {device.type}; take bf16 or float32")
    lower = TYPES[precision] if precision != "float32" else None
    return torch.autocast(device.type, dtype=lower, enabled=lower is not None)
