"""What each part of `cstr_small` is worth: the model without it, at equal steps, data and seeds.

    stereo-tr ablations --out ablations

Trains the whole model, and it without its context path, without the columns or the epipolar lines
of that path, with a softmax in place of optimal transport, and without context adjustment, from
random weights on the same generated pairs. After every run it writes

    OUT/table.md  table.json          errors on generated pairs, mean and spread over the seeds
    OUT/runs/VARIANT_SEED/            a training run

Stopped at any time, the same command goes on where it was. Short runs tell what helps to learn
fast; whether it helps in the end, only long ones can.

Tests  tests/scripts/test_ablations.py
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stereo_tr.scripts import comparison
from stereo_tr.scripts.command import run

if TYPE_CHECKING:
    from stereo_tr.recipe import TrainingSettings

VARIANTS = {
    "whole": (),
    "no context": ("context=[]",),
    "no columns": ('context=["rows", "epipolar lines"]',),
    "no epipolar context": ('context=["columns", "rows"]',),
    "softmax": ("sinkhorn_iterations=0",),
    "no adjustment": ("adjusts=false",),
}
"""and the overrides that make them"""
SCORES = {
    "epe": "EPE",
    "bad_1": "bad-1",
    "bad_2": "bad-2",
    "bad_3": "bad-3",
    "epe_all": "EPE all",
}
"""as validation names them, and their titles"""


@dataclass(frozen=True, kw_only=True)
class Ablations:
    """Settings of the comparison."""

    out: Path
    """folder for everything"""
    variants: tuple[str, ...] = tuple(VARIANTS)
    """which to compare, in the table's order"""
    seeds: tuple[int, ...] = (0, 1, 2)
    """of the weights and of the pairs"""
    override: tuple[str, ...] = ()
    """further changes to cstr_small, name=value each, as stereo-tr train takes them"""
    steps: int = 1000
    """of each run"""
    batch: int = 4
    """pairs a step"""
    learning_rate: float = 1e-3
    """highest learning rate"""
    height: int = 96
    """rows of a pair"""
    width: int = 192
    """columns of a pair"""
    scored: int = 100
    """pairs that are scored, never learned from"""
    device: str = "cpu"
    """where to train: cpu, cuda, ..."""
    workers: int = 1
    """helpers that make the pairs"""


def compare(settings: Ablations) -> comparison.Results:
    """Train what isn't trained yet; return variant -> score -> one value a seed."""
    from stereo_tr.datasets.files import writable_folder

    unknown = sorted(set(settings.variants) - set(VARIANTS))
    if unknown or not settings.variants or not settings.seeds:
        raise ValueError(
            f"--variants takes {', '.join(map(repr, VARIANTS))}, --seeds whole numbers; at least "
            "one each"
        )
    comparison.require_distinct("--variants", settings.variants)
    comparison.require_distinct("--seeds", settings.seeds)
    writable_folder(settings.out)
    fixed = ("override", "steps", "batch", "learning_rate", "height", "width", "scored")
    comparison.check_same(settings.out, {name: getattr(settings, name) for name in fixed})
    heading = (
        f"Errors on {settings.scored} generated pairs of {settings.width}x{settings.height} px "
        f"after {settings.steps} steps of {settings.batch}, pixels that both cameras see (EPE all: "
        "every pixel), px and percent; mean ± standard deviation over seeds."
    )
    results: comparison.Results = {}
    for seed in settings.seeds:  # all variants of one seed first: a table as soon as it can be
        for variant in settings.variants:
            scores = comparison.trained(_training(settings, variant, seed), tuple(SCORES))
            comparison.add(results, variant, scores)
            text = comparison.table(results, SCORES, digits=2)
            comparison.write_tables(settings.out, heading, text, results)
    return results


def _training(settings: Ablations, variant: str, seed: int) -> "TrainingSettings":
    from stereo_tr.recipe import TrainingSettings

    return TrainingSettings(
        out=settings.out / "runs" / f"{variant.replace(' ', '_')}_{seed}",
        model="cstr_small",
        override=(*settings.override, *VARIANTS[variant]),
        data=("generated",),
        height=settings.height,
        width=settings.width,
        batch=settings.batch,
        steps=settings.steps,
        learning_rate=settings.learning_rate,
        warmup=settings.steps // 20,
        ema=0.99,
        seed=seed,
        validate_every=settings.steps,
        validate_pairs=settings.scored,
        device=settings.device,
        workers=settings.workers,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the comparison."""
    run(Ablations, compare, "ablations", __doc__.split("\n\nTests")[0], arguments)


if __name__ == "__main__":
    main()
