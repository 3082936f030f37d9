"""Stereo models in ONNX files, run by onnxruntime: no model code of ours, no weights of torch's.

    matcher = StereoMatcher.from_pretrained("cstr_small.onnx")

The file holds the network for one pair size after the other, any height and width; what happens to
a pair before and after (several scales, filling in) is `match_at_scales`, as for every model, and
the file's metadata say at which scales the model is to be asked.

Letters  B batch, H W image height and width in pixels
Tests    tests/test_export.py
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .stereo.expectation import Expectation
from .stereo.output import StereoOutput, of_graph
from .stereo.scales import Scales

if TYPE_CHECKING:
    import onnxruntime

SUFFIX = ".onnx"
VIEWS = ("left", "right")
GUIDE = ("expected", "certainty")
OUTPUTS = ("disparity", "occlusion", "confidence")
CANDIDATES = ("matched", "match_confidence")
"""what the graph of a stereo model is called with, what also guides one that can be guided, what it
gives, and what one gives besides that is asked at several scales"""

NOT_RUN = {
    ".pt2": "torch.export.load(FILE).module()",
    ".torchscript": "torch.jit.load(FILE)",
}
"""exported files that only their owner should load: the first may hold any Python code (torch
unpickles what it can't read otherwise), the second may write files"""


def is_exported(weights: str | Path) -> bool:
    """Say whether `weights` names a whole model in ONNX rather than weights.

    Raises ValueError for the exported files that aren't run here, saying how to.
    """
    suffix = Path(weights).suffix
    if suffix in NOT_RUN:
        raise ValueError(
            f"{weights}: a {suffix} file can hold code that runs on loading, so it isn't loaded "
            f"here. Where you trust it, call {NOT_RUN[suffix]} in a program of your own; or export "
            "the model again with --format onnx"
        )
    return suffix == SUFFIX


def open_session(
    path: str | Path | bytes, device: str | torch.device = "cpu"
) -> "onnxruntime.InferenceSession":
    """Open an ONNX file (or its bytes) with as many threads as torch uses.

    Raises ImportError's sentence as ValueError where onnxruntime is missing or can't use `device`,
    FileNotFoundError, and ValueError for what is no model.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError(
            "running an .onnx file needs onnxruntime: pip install 'stereo-tr[export]'"
        ) from error
    if not isinstance(path, bytes) and not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}")
    kind = torch.device(device).type
    provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}.get(kind)
    if provider not in onnxruntime.get_available_providers():
        raise ValueError(
            f"onnxruntime can't use {kind} here; --device cpu works, and onnxruntime-gpu uses CUDA"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what goes wrong is raised
    source = path if isinstance(path, bytes) else str(path)
    try:
        return onnxruntime.InferenceSession(source, options, providers=[provider])
    except Exception as error:  # onnxruntime has an error class for every kind of damage
        raise ValueError(f"{path} can't be read: damaged, cut short or no ONNX model") from error


class ExportedStereo(nn.Module):
    """The stereo model of an ONNX file, called as any other."""

    def __init__(self, path: str | Path, device: str | torch.device = "cpu") -> None:
        """Open `path`. Raises as `open_session`, and ValueError where it matches no pairs."""
        super().__init__()
        self.path = path
        self.session = open_session(path, device)
        taken, given = (
            tuple(each.name for each in ends)
            for ends in (self.session.get_inputs(), self.session.get_outputs())
        )
        if taken not in (VIEWS, VIEWS + GUIDE) or given not in (OUTPUTS, OUTPUTS + CANDIDATES):
            raise ValueError(
                f"{path} takes {', '.join(taken)} and gives {', '.join(given)}; a stereo model "
                f"takes {', '.join(VIEWS)} (and perhaps {', '.join(GUIDE)}) and gives "
                f"{', '.join(OUTPUTS)} (and perhaps {', '.join(CANDIDATES)})"
            )
        self.guided = taken != VIEWS
        metadata = self.session.get_modelmeta().custom_metadata_map
        self.scales = Scales(*json.loads(metadata.get("scales", "[]")))

    def forward(
        self,
        left: Float[Tensor, "B 3 H W"],
        right: Float[Tensor, "B 3 H W"],
        expected: Expectation | None = None,
    ) -> StereoOutput:
        """Match two views, RGB in [0, 1]; `details` is None. A file may not take what is expected.

        Raises ValueError for a size that the file wasn't made for.
        """
        given = dict(zip(VIEWS, (left, right), strict=True))
        if self.guided:
            nothing = torch.zeros_like(left[:, 0])
            given |= dict(zip(GUIDE, expected or (nothing, nothing), strict=True))
        try:
            found = self.session.run(None, {name: x.cpu().numpy() for name, x in given.items()})
        except Exception as error:  # onnxruntime's own classes, for shapes as for memory
            if "alloc" in str(error):
                raise RuntimeError(f"out of memory: {error}") from error
            raise ValueError(
                f"{self.path} can't match views of {left.shape[-1]}x{left.shape[-2]} px: "
                f"{str(error).splitlines()[0]}"
            ) from error
        return of_graph([torch.from_numpy(map_).to(left.device) for map_ in found])
