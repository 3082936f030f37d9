"""The `stereo-tr` command: `stereo-tr COMMAND ...` runs scripts/COMMAND.py.

    stereo-tr --help
    stereo-tr estimate --help

Tests  tests/scripts/test_main.py
"""

import importlib
import sys
from collections.abc import Sequence

COMMANDS = {
    "estimate": "a disparity map from two rectified photographs",
    "segment": "segments of photographs: what belongs together, and what it is",
    "panoptic": "panoptic quality of a model on a data set, class by class",
    "interactions": "small mask transformers compared: cross-attention, k-means, clustering",
    "ablations": "cstr_small without each of its parts, at equal steps and seeds",
    "train": "train a model, or go on with a run that was stopped",
    "evaluate": "score a model on pairs with known disparity",
    "submit": "files for the servers of KITTI, Middlebury and ETH3D",
    "check": "whether a copy of a data set is complete, whole and right",
    "pack": "a data set in one file that is read faster, losing no bit of a pair",
    "scenes": "write generated training scenes as pictures to look at",
    "export": "a model as a graph in a file: ONNX or TorchScript",
    "benchmark": "time, memory and arithmetic of models, in turn",
    "benchmark_vision": "vision models in turn with Hugging Face's, and cost against image size",
    "classify": "train a vision model on a folder of images, score it, ask it",
    "attention_maps": "what a model looks at, drawn over an image, layer by layer",
    "learning": "whether the vision models learn: tiny ones, on data that needs no download",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `stereo-tr`; a command is imported only when it is asked for."""
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in COMMANDS:
        importlib.import_module(f"stereo_tr.scripts.{name}").main(rest)
    elif name in ("-h", "--help"):
        listing = "\n".join(f"  {command:<16} {what}" for command, what in COMMANDS.items())
        print(f"usage: stereo-tr COMMAND [options]\n\n{listing}\n")
        print("stereo-tr COMMAND --help tells more; stereo-tr --version the version")
    elif name == "--version":
        print(importlib.import_module("stereo_tr").__version__)
    else:
        from stereo_tr.datasets.naming import closest  # torch comes along: not for --help

        hint = closest(name, COMMANDS, show=repr)
        print(f"stereo-tr: unknown command {name!r}; {hint}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
