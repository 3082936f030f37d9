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
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stereo_tr.scripts.command import run

if TYPE_CHECKING:
    from stereo_tr.datasets.panoptic_sample import PanopticSample

INTERACTIONS = ("cross", "dual_cross", "kmeans", "dual_kmeans", "clustering")
MODEL = "kmax_small"
SCORES = ("pq", "sq", "rq", "pq_things", "pq_stuff")
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


def compare(settings: Interactions) -> dict[str, dict[str, list[float]]]:
    """Train what isn't trained yet; return interaction -> score -> one value a seed, in percent."""
    from stereo_tr.datasets.files import writable_folder

    unknown = sorted(set(settings.interactions) - set(INTERACTIONS))
    if unknown or not settings.interactions or not settings.seeds:
        known = ", ".join(INTERACTIONS)
        raise ValueError(f"--interactions takes {known}, --seeds whole numbers; at least one each")
    writable_folder(settings.out)
    _check_same(settings)
    data = settings.out / "data"
    _write_images(data / "train", settings.size, settings.images, seed=0)
    _write_images(data / "validation", settings.size, settings.scored, seed=None)
    results: dict[str, dict[str, list[float]]] = {}
    for seed in settings.seeds:  # all interactions of one seed first: a table as soon as it can be
        for interaction in settings.interactions:
            scores = _trained(settings, interaction, seed)
            of_interaction = results.setdefault(interaction, {name: [] for name in SCORES})
            for name in SCORES:
                of_interaction[name].append(scores[name])
            _write_table(settings, results)
    _write_picture(settings)
    return results


def _check_same(settings: Interactions) -> None:
    """Raise ValueError where the folder holds runs of other settings: they can't be compared."""
    from stereo_tr.datasets.files import write_bytes

    fixed = ("override", "steps", "batch", "learning_rate", "size", "images", "scored")
    mine = json.loads(json.dumps({name: getattr(settings, name) for name in fixed}))
    path = settings.out / "settings.json"
    if path.is_file():
        before = json.loads(path.read_text())
        if before != mine:
            raise ValueError(f"{settings.out} holds runs with {before}; take another --out")
    else:
        write_bytes(path, json.dumps(mine).encode())


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


def _trained(settings: Interactions, interaction: str, seed: int) -> dict[str, float]:
    """Scores of one run in percent; trains it, or the rest of it, where they aren't written yet."""
    from stereo_tr.checkpoint import has_run
    from stereo_tr.datasets.files import write_bytes
    from stereo_tr.recipe import TrainingSettings
    from stereo_tr.training import train

    folder = settings.out / "runs" / f"{interaction}_{seed}"
    written = folder / "scores.json"
    if written.is_file():
        return json.loads(written.read_text())
    if has_run(folder):
        given = TrainingSettings(out=folder, resume=True, device=settings.device, workers=0)
    else:
        given = TrainingSettings(
            out=folder,
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
    print(f"{interaction}, seed {seed}", flush=True)
    results = train(given)
    if not results["finished"]:
        raise KeyboardInterrupt  # asked to stop: the same command goes on here
    scores = {name: results[name] for name in SCORES}
    write_bytes(written, json.dumps(scores).encode())
    return scores


def _write_table(settings: Interactions, results: dict[str, dict[str, list[float]]]) -> None:
    """Mean and standard deviation over the seeds, for people and for programs."""
    from stereo_tr.datasets.files import write_files

    def cell(values: list[float]) -> str:
        spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
        return f"{statistics.mean(values):.1f}{spread}"

    lines = [
        f"Panoptic quality in percent on {settings.scored} generated images of {settings.size} px "
        f"after {settings.steps} steps of {settings.batch}; mean ± standard deviation over seeds.",
        "",
        "| interaction | seeds | PQ | SQ | RQ | PQ things | PQ stuff |",
        "|---|---|---|---|---|---|---|",
    ]
    for interaction, scores in results.items():
        cells = " | ".join(cell(scores[name]) for name in SCORES)
        lines.append(f"| {interaction} | {len(scores['pq'])} | {cells} |")
    table = "\n".join(lines) + "\n"
    write_files(
        {
            settings.out / "table.md": table.encode(),
            settings.out / "table.json": json.dumps(results, indent=1).encode(),
        }
    )
    print(table, flush=True)


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
    write_png(settings.out / "clusters.png", side_by_side(large))
    print(settings.out / "clusters.png")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the comparison."""
    run(Interactions, compare, "interactions", __doc__.split("\n\nTests")[0], arguments)


if __name__ == "__main__":
    main()
