"""Where to compute: a device by name, checked before anything takes time.

Tests  tests/test_matcher.py, tests/test_training.py: devices that aren't there
"""

import torch


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
