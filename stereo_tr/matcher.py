"""Two photographs in, a disparity map out: the models of this package, for people with pictures.

    matcher = StereoMatcher.from_pretrained()
    result = matcher("left.png", "right.png")
    result.disparity                               # float32 [H, W], pixels

Letters  B batch, H W image height and width in pixels
Tests    tests/test_matcher.py
"""

import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32, Shaped
from torch import Tensor, nn

from .attention.memory import working_memory
from .datasets.files import read_image
from .devices import autocast, usable_device
from .exported import ExportedStereo, is_exported
from .memory_need import in_bytes, working_size
from .pretrained import (
    model_from_weights,
    packaged_weights,
    require_stereo,
)
from .stereo.rectification import largest_offset
from .stereo.scales import Scales, match_at_scales
from .swapped import look_swapped

DEFAULT_MODEL = "cstr_small"
LARGE_OFFSET = 1.0
"""rows: by so much views differ whose calibration should be repeated"""
SMALLEST_SIDE = 16
"""pixels: below this nothing is left of an image at the strides that models match at"""


class SwappedViewsWarning(UserWarning):
    """The left and the right view seem to be exchanged; the disparity then means nothing."""


class MisalignedRowsWarning(UserWarning):
    """Points lie in other rows of the right view; that was put right, but calibration has aged."""


class StereoResult(NamedTuple):
    """What was found for every pixel of the left view."""

    disparity: Float32[np.ndarray, "H W"]
    """pixels, >= 0: left (x, y) is seen at right (x - disparity, y); known everywhere"""
    occlusion: Float32[np.ndarray, "H W"]
    """probability in [0, 1] that the right camera doesn't see the point"""
    confidence: Float32[np.ndarray, "H W"]
    """in [0, 1]: how far to trust the disparity; each model says what it means by that"""


class StereoMatcher:
    """A stereo model with the reading, checking and converting of pictures around it."""

    def __init__(
        self,
        model: nn.Module,
        device: str | torch.device = "cpu",
        scales: Scales | None = None,
        precision: str = "float32",
        max_memory: str | int | None = None,
        thorough: bool = False,
    ) -> None:
        """Take `model` (it goes to `device`, and into eval mode).

        `scales` says at which sizes the model sees a pair; by default what the model itself says is
        best for it, `Scales()` for the pair as it is, once. `precision` is that of large products
        and convolutions: "float32", "bf16" or (on CUDA) "fp16"; positions, optimal transport and
        the disparity itself stay in float32. `max_memory` ("2GB", or bytes) is what the process (on
        a GPU: its tensors) may take; results stay up to rounding. `thorough` adds a look at the
        pair enlarged, for fewer errors in almost three times the time (docs/accuracy.md). Raises
        ValueError where `device`, `precision` or `thorough` can't be used.
        """
        self.device = usable_device(device)
        autocast(self.device, precision)  # told now, not with the first pair
        self.precision = precision
        self.max_memory = None if max_memory is None else in_bytes(max_memory)
        if isinstance(model, ExportedStereo) and precision != "float32":
            raise ValueError(f"{model.path} computes in float32, not in {precision}, as exported")
        if isinstance(model, ExportedStereo) and max_memory is not None:
            raise ValueError(
                f"{model.path} takes what onnxruntime takes, {max_memory} can't bound it; leave "
                "max_memory out, or give weights that aren't exported"
            )
        self.model = model.to(self.device).eval()
        self.scales = scales or getattr(model, "scales", Scales())
        if thorough:
            self.scales = self.scales.thorough()

    @classmethod
    def from_pretrained(
        cls,
        weights: str | Path | None = None,
        model: str | None = None,
        device: str | torch.device = "cpu",
        precision: str = "float32",
        max_memory: str | int | None = None,
        thorough: bool = False,
    ) -> "StereoMatcher":
        """A matcher with trained weights; by default the packaged ones of `cstr_small`.

        `weights` is a file or a packaged name; an `.onnx` file of `stereo-tr export` is the model
        as well. `model` names the model where the file doesn't (a published checkpoint); alone it
        asks for that model's packaged weights. `precision`, `max_memory` and `thorough`: see the
        constructor.
        Raises ValueError for an unknown name, a model of one picture or weights of another model,
        FileNotFoundError for a missing file.
        """
        device = usable_device(device)  # before weights are read for nothing
        autocast(device, precision)
        how = (device, None, precision, max_memory, thorough)
        if weights is not None and is_exported(weights):
            if model is not None:
                raise ValueError(f"{weights} is a whole model; leave out {model}")
            return cls(ExportedStereo(weights, device), *how)
        if model is not None:
            require_stereo(model)
        if weights is None:
            weights = packaged_weights(model or DEFAULT_MODEL)
        return cls(model_from_weights(weights, stereo=True, name=model), *how)

    def __call__(
        self, left: str | Path | np.ndarray, right: str | Path | np.ndarray
    ) -> StereoResult:
        """Match a rectified pair of any size from 16x16 px on.

        Views are files (see `read_image`) or arrays [H, W], [H, W, 1], RGB [H, W, 3] or RGBA
        [H, W, 4], alpha ignored: uint8, uint16 that spans 0 to 65535, or float in [0, 1]. Raises
        ValueError for other arrays or views of different size, FileNotFoundError, and MemoryError
        where the device is too small. Warns with SwappedViewsWarning where left and right look
        exchanged, and with MisalignedRowsWarning where points lie more than a row further up or
        down in the right view; models that look twice (cstr_small) have moved that view first.
        """
        views = prepare_views(left, right)
        if look_swapped(*views):
            warnings.warn(
                f"{_name(left, 'left')} and {_name(right, 'right')} look swapped: points lie "
                "further right in the second view. The left view comes first; this disparity is "
                "not to be trusted",
                SwappedViewsWarning,
                stacklevel=2,
            )
        size = views[0].shape[1:]
        working = working_size(self.model, self.scales, *size, self.max_memory, self.device)
        try:
            with (
                torch.inference_mode(),
                autocast(self.device, self.precision),
                working_memory(working),
            ):
                given = (view[None].to(self.device) for view in views)
                maps, offset = match_at_scales(self.model, *given, self.scales)
        except RuntimeError as error:  # how torch says it, on every device
            if "out of memory" in str(error) or "can't allocate memory" in str(error):
                height, width = size
                raise MemoryError(
                    f"{_name(left, 'left')}: {width}x{height} px don't fit into the memory "
                    f"of {self.device}; use a smaller image or another device"
                ) from error
            raise
        if offset is not None and largest_offset(offset) > LARGE_OFFSET:
            warnings.warn(_misaligned(offset, left, right), MisalignedRowsWarning, stacklevel=2)
        disparity, *shares = map(_to_numpy, maps)
        # The published models can say a little less than 0.
        return StereoResult(np.maximum(disparity, 0), *shares)


def prepare_views(
    left: str | Path | np.ndarray, right: str | Path | np.ndarray
) -> tuple[Float[Tensor, "3 H W"], Float[Tensor, "3 H W"]]:
    """Read, check and convert what `StereoMatcher` takes, without matching it.

    Returns RGB in [0, 1]; raises what `StereoMatcher` raises for bad input.
    """
    names = _name(left, "left"), _name(right, "right")
    views = _prepare(left, names[0]), _prepare(right, names[1])
    (height, width), (right_height, right_width) = (view.shape[1:] for view in views)
    if (height, width) != (right_height, right_width):
        raise ValueError(
            f"{names[0]} has {width}x{height} px and {names[1]} {right_width}x{right_height}; "
            "the views of a rectified pair have the same size"
        )
    if min(height, width) < SMALLEST_SIDE:
        raise ValueError(
            f"{names[0]} has {width}x{height} px; "
            f"at least {SMALLEST_SIDE}x{SMALLEST_SIDE} are needed"
        )
    return views


def _misaligned(
    offset: Float[Tensor, "1 3"], left: str | Path | np.ndarray, right: str | Path | np.ndarray
) -> str:
    centre, at_right, at_bottom = offset[0].tolist()
    return (
        f"{_name(right, 'right')} isn't aligned with {_name(left, 'left')}: points lie lower in "
        f"it, by {centre:+.1f} px in its centre, {at_right:+.1f} more at its right border and "
        f"{at_bottom:+.1f} more at its lower one. It was moved for this match; the cameras need "
        "calibrating anew"
    )


def _name(view: str | Path | np.ndarray, side: str) -> str:
    return str(view) if isinstance(view, str | Path) else f"the {side} view"


def _prepare(view: str | Path | np.ndarray, name: str) -> Float[Tensor, "3 H W"]:
    if isinstance(view, str | Path):
        view = read_image(view)
    if not isinstance(view, np.ndarray):
        raise TypeError(f"{name} is a {type(view).__name__}; give a path or a NumPy array")
    view = np.asarray(view)  # a matrix with three axes ends Python in NumPy
    if view.ndim == 2:
        view = view[..., None]
    if view.ndim != 3 or view.shape[-1] not in (1, 3, 4):
        raise ValueError(
            f"{name} has shape {view.shape}; allowed are [H, W], [H, W, 1], [H, W, 3], [H, W, 4]"
        )
    image = torch.from_numpy(_unit_range(view[..., :3], name)).permute(2, 0, 1)
    return image.expand(3, -1, -1).contiguous()


def _unit_range(view: Shaped[np.ndarray, "H W C"], name: str) -> Float32[np.ndarray, "H W C"]:
    """Float32 in [0, 1], a copy, in rows that torch can read."""
    if view.dtype in (np.uint8, np.uint16):
        return view.astype(np.float32) / np.float32(np.iinfo(view.dtype).max)
    if not np.issubdtype(view.dtype, np.floating):
        raise ValueError(f"{name} is {view.dtype}; allowed are uint8, uint16 and float in [0, 1]")
    if view.size and not (view.min() >= 0 and view.max() <= 1):  # NaN fails too
        raise ValueError(
            f"{name} holds {view.min():g} to {view.max():g}; a float view spans [0, 1]. Divide it "
            "by its largest possible value, or give uint8 or uint16"
        )
    return np.array(view, dtype=np.float32, order="C")


def _to_numpy(map_: Float[Tensor, "1 H W"]) -> Float32[np.ndarray, "H W"]:
    return map_[0].float().cpu().numpy()
