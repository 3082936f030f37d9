"""Train a model, or go on with a run that was stopped.

    stereo-tr train --data generated --out run
    stereo-tr train --resume --out run
    stereo-tr train --data sceneflow:0.7 generated:0.3 --root ~/data/sceneflow --out run
    stereo-tr train --preset cstr --root ~/data/sceneflow --device cuda --out run
    torchrun --nproc-per-node 2 -m stereo_tr.scripts.train --data generated --out run

Ctrl-C and SIGTERM finish the step, save and stop (exit code 130 or 143); a second one stops at
once. `--minutes` saves and stops with exit code 0. At the end, `run/weights.safetensors` is there.

Tests  tests/scripts/test_train.py
"""

import sys
from collections.abc import Sequence
from typing import Any

# Absolute, so that `python scripts/train.py` works as well.
from stereo_tr.checkpoint import load_last
from stereo_tr.recipe import TrainingSettings
from stereo_tr.scripts.command import run
from stereo_tr.training import train
from stereo_tr.training_run import export_weights


def command(settings: TrainingSettings) -> dict[str, Any]:
    """Train or export as the settings say, print where the result is; returns what `train` does."""
    if settings.export is not None:
        _, checkpoint = load_last(settings.out)
        export_weights(checkpoint, settings.export)
        print(settings.export)
        return {"weights": settings.export}
    results = train(settings)
    if results["weights"] is not None:
        print(f"done: {results['weights']}")
    elif not results["finished"] and results["first"]:
        print(f"stopped after step {results['step']}; --resume --out {settings.out} goes on")
    if results["signal"] is not None and not results["finished"]:
        sys.exit(128 + results["signal"])
    return results


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `stereo-tr train`."""
    run(TrainingSettings, command, "train", __doc__.split("\n\nTests")[0], arguments)


if __name__ == "__main__":
    main()
