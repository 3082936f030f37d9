"""The lecture's table, small: how queries meet pixels, at equal steps, data and seeds.

    stereo-tr interactions --out interactions

Trains `kmax_small` for each interaction (cross-attention, dual-path cross-attention,
k-means, dual-path k-means, CMT-DeepLab's clustering) and seed, on the same generated images, and
writes after every run:

    OUT/table.md  table.json          panoptic quality, mean and spread over the seeds
    OUT/clusters.png                  every layer's clusters beside the prediction, a row each
    OUT/runs/INTERACTION_SEED/        a training run, whose weights `stereo-tr segment` takes
    OUT/data/                         the images, a folder as `panoptic_folder` reads it

Stopped at any time, the same command goes on where it was.

Tests  tests/scripts/test_interactions.py
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stereo_tr.scripts import comparison
from stereo_tr.scripts.command import run

if TYPE_CHECKING:
    from stereo_tr.datasets.panoptic_sample import PanopticSample
    from stereo_tr.recipe import TrainingSettings

INTERACTIONS = ("cross", "dual_cross", "kmeans", "dual_kmeans", "clustering")
MODEL = "kmax_small"
SCORES = {"pq": "PQ", "sq": "SQ", "rq": "RQ", "pq_things": "PQ things", "pq_stuff": "PQ stuff"}
"""as validation names them, and their titles"""
VOID = 255
SHOWN = 1
"""number of the validation image that is drawn"""
ENLARGED = 2


@dataclass(frozen=True, kw_only=True)
class Interactions:
    """Settings of the comparison."""

    out: Path
    """folder for everything"""
    interactions: tuple[str, ...] = INTERACTIONS
    """which to compare, in the table's order"""
    seeds: tuple[int, ...] = (0, 1, 2)
    """of the weights and of the order and the mirroring of the images"""
    override: tuple[str, ...] = ()
    """changes to kmax_small, name=value each, as stereo-tr train takes them"""
    steps: int = 1000
    """of each run"""
    batch: int = 4
    """images a step"""
    learning_rate: float = 4e-3
    """highest learning rate"""
    size: int = 96
    """height and width of an image, pixels"""
    images: int = 600
    """to learn from, few things in each; a twentieth of a second each to make"""
    scored: int = 100
    """images that are scored, never learned from"""
    device: str = "cpu"
    """where to train: cpu, cuda, ..."""


def compare(settings: Interactions) -> comparison.Results:
    """Train what isn't trained yet; return interaction -> score -> one value a seed, in percent."""
    from stereo_tr.datasets.files import writable_folder

    unknown = sorted(set(settings.interactions) - set(INTERACTIONS))
    if unknown or not settings.interactions or not settings.seeds:
        known = ", ".join(INTERACTIONS)
        raise ValueError(f"--interactions takes {known}, --seeds whole numbers; at least one each")
    comparison.require_distinct("--interactions", settings.interactions)
    comparison.require_distinct("--seeds", settings.seeds)
    writable_folder(settings.out)
    fixed = ("override", "steps", "batch", "learning_rate", "size", "images", "scored")
    comparison.check_same(settings.out, {name: getattr(settings, name) for name in fixed})
    heading = (
        f"Panoptic quality in percent on {settings.scored} generated images of {settings.size} px "
        f"after {settings.steps} steps of {settings.batch}; mean ± standard deviation over seeds."
    )
    data = settings.out / "data"
    _write_images(data / "train", settings.size, settings.images, seed=0)
    _write_images(data / "validation", settings.size, settings.scored, seed=None)
    results: comparison.Results = {}
    for seed in settings.seeds:  # all interactions of one seed first: a table as soon as it can be
        for interaction in settings.interactions:
            scores = comparison.trained(_training(settings, interaction, seed), tuple(SCORES))
            comparison.add(results, interaction, scores)
            text = comparison.table(results, SCORES, digits=1)
            comparison.write_tables(settings.out, heading, text, results)
    _write_picture(settings)
    return results


def _write_images(folder: Path, size: int, count: int, seed: int | None) -> None:
    """Write the generated images that aren't there yet, as a panoptic folder.

    seed None: those that are kept for validation.
    """
    from stereo_tr.datasets.files import encode_png, write_bytes, write_files
    from stereo_tr.datasets.generated_panoptic import GeneratedPanoptic
    from stereo_tr.pictures import view_picture
    from stereo_tr.progress import progress
    from stereo_tr.training_data import VALIDATION_SEED

    images = GeneratedPanoptic(
        size, size, seed=VALIDATION_SEED if seed is None else seed, coarse=True, few=True
    )
    for role in ("images", "classes", "instances"):
        (folder / role).mkdir(parents=True, exist_ok=True)
    categories = json.dumps(images.classes.categories()).encode()
    write_bytes(folder.parent / "classes.json", categories)
    paths = [
        {r: folder / r / f"{n:05}.png" for r in ("images", "classes", "instances")}
        for n in range(count)
    ]
    missing = [n for n, of_image in enumerate(paths) if not of_image["instances"].is_file()]
    for number in progress(missing, label=f"{folder.name} images"):
        sample = images[number]
        contents = (view_picture(sample.image), _class_map(sample), _instances(sample))
        encoded = map(encode_png, contents)
        write_files(dict(zip(paths[number].values(), encoded, strict=True)))


def _class_map(sample: "PanopticSample") -> Any:
    import numpy as np

    classes = np.array([VOID, *sample.classes.tolist()], np.uint8)
    return classes[sample.segment_map.numpy()]


def _instances(sample: "PanopticSample") -> Any:
    import numpy as np

    return sample.segment_map.numpy().astype(np.uint16)


def _training(settings: Interactions, interaction: str, seed: int) -> "TrainingSettings":
    from stereo_tr.recipe import TrainingSettings

    return TrainingSettings(
        out=settings.out / "runs" / f"{interaction}_{seed}",
        preset=MODEL,
        override=(*settings.override, f"interaction={interaction}"),
        data=("panoptic_folder",),
        root=(str(settings.out / "data"),),
        augmentation="none",
        height=settings.size,
        width=settings.size,
        batch=settings.batch,
        steps=settings.steps,
        learning_rate=settings.learning_rate,
        warmup=settings.steps // 20,
        seed=seed,
        validate_every=settings.steps,
        validate_pairs=settings.scored,
        device=settings.device,
        workers=0,
    )


def _write_picture(settings: Interactions) -> None:
    """Clusters of every layer and the prediction of one image, a row an interaction."""
    import torch

    from stereo_tr.datasets.files import write_png
    from stereo_tr.datasets.panoptic_folder import PanopticFolder
    from stereo_tr.mask.panoptic import RULES, segment
    from stereo_tr.panoptic_pictures import assignment_picture, overlay, side_by_side
    from stereo_tr.pictures import view_picture
    from stereo_tr.pretrained import model_from_weights
    from stereo_tr.training import WEIGHTS

    images = PanopticFolder(settings.out / "data", "validation")
    sample = images[min(SHOWN, len(images) - 1)]
    view, size = view_picture(sample.image), tuple(sample.segment_map.shape)
    shown = {}
    for interaction in settings.interactions:
        weights = settings.out / "runs" / f"{interaction}_{settings.seeds[0]}" / WEIGHTS
        model = model_from_weights(weights).eval()
        with torch.inference_mode():
            output = model(sample.image[None])
            (result,) = segment(output, size, images.classes.things, RULES["generated"])
        for layer, assignment in enumerate(output.assignments, 1):
            shown[f"{interaction}, layer {layer}"] = assignment_picture(assignment[0], size)
        shown[f"{interaction}, result"] = overlay(view, result.segment_map)
    shown |= {"image": view, "truth": overlay(view, sample.segment_map)}
    large = {
        title: picture.repeat(ENLARGED, 0).repeat(ENLARGED, 1) for title, picture in shown.items()
    }
    write_png(settings.out / "clusters.png", side_by_side(large, len(output.assignments) + 1))
    print(settings.out / "clusters.png")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the comparison."""
    run(Interactions, compare, "interactions", __doc__.split("\n\nTests")[0], arguments)


if __name__ == "__main__":
    main()
