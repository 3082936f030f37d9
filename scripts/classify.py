"""Train a vision model to tell classes of images apart, score it, or ask it.

    stereo-tr classify --data flowers --model vit_tiny_patch16_224 --out run
    stereo-tr classify --resume --out run                  # goes on exactly where it stopped
    stereo-tr classify --evaluate --data more --out run    # scores the run's weights on a folder
    stereo-tr classify --predict a.png b.png --out run     # the likeliest classes of images

Images lie in FOLDER/CLASS/image.png. A fifth of each class is set aside and scored, unless --scored
names a folder for that. The run is one of `stereo-tr train`: checkpoints, log, weights.safetensors,
and images.json, which lists what it learns from.

Tests  tests/scripts/test_classify.py
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from stereo_tr.scripts.command import NO_DEFAULT, run

if TYPE_CHECKING:
    from torch import nn

    from stereo_tr.datasets.image_folder import ImageList
    from stereo_tr.recipe import TrainingSettings

IMAGES, START, SCORES = "images.json", "start.safetensors", "scores.json"
"""files of a run, besides those of `stereo-tr train`"""

SHOWN = 3
"""classes that a prediction names"""


@dataclass(frozen=True)
class Classify:
    """Settings of the command. What is None comes from the preset, or from the resumed run."""

    out: Path
    """folder of the run"""
    data: Annotated[Path | None, NO_DEFAULT] = None
    """folder of images by class to learn from, or to score with --evaluate"""
    scored: Annotated[Path | None, NO_DEFAULT] = None
    """folder of the same classes to score (not given: a fifth of --data)"""
    model: Annotated[str | None, NO_DEFAULT] = None
    """name of the model: an unknown one lists them"""
    override: tuple[str, ...] = ()
    """changes to the model, name=value each"""
    weights: Annotated[Path | None, NO_DEFAULT] = None
    """start from these weights and not from random ones"""
    new_classifier: bool = False
    """take all of --weights but the last layer: they were made for other classes"""
    unreadable: Literal["stop", "skip"] = "stop"
    """what to do about images that can't be read; skip tells which"""
    flip: bool = False
    """mirror every other image while learning: where left and right don't matter"""
    resume: bool = False
    """go on with the run in --out"""
    evaluate: bool = False
    """train nothing: score the run's weights on --data, or on what the run set aside"""
    predict: tuple[Path, ...] = ()
    """train nothing: print the likeliest classes of these images"""
    size: int | None = None
    """pixels on a side of what the model sees (224)"""
    batch: int | None = None
    """images a step (32)"""
    steps: int | None = None
    """steps of the whole run (5000)"""
    learning_rate: float | None = None
    """highest learning rate of AdamW (5e-4)"""
    warmup: int | None = None
    """steps over which the learning rate rises from zero (200)"""
    validate_every: int | None = None
    """steps between two scorings (500)"""
    seed: int | None = None
    """seed of the weights and of the order of the images (0)"""
    minutes: float | None = None
    """save and stop after so many minutes"""
    workers: int = 1
    """helpers that read images; 0: the training process reads them itself"""
    device: str = "cpu"
    """where to compute: cpu, cuda, ..."""


def classify(settings: Classify) -> dict[str, Any]:
    """Do what the settings ask for, and return it: "results" of training, "scores", "predictions".

    Raises ValueError and OSError for whatever the user can mend.
    """
    if settings.predict:
        return {"predictions": predict(settings)}
    if settings.evaluate:
        return {"scores": evaluate(settings)}
    from stereo_tr.training import train

    results = train(_training(settings))
    if results["finished"] and results["first"]:
        return {"results": results, "scores": evaluate(settings)}
    if results["first"]:
        print(f"stopped after step {results['step']}; --resume --out {settings.out} goes on")
    if results["signal"] is not None and not results["finished"]:
        sys.exit(128 + results["signal"])
    return {"results": results}


def _training(settings: Classify) -> "TrainingSettings":
    """List the images of a new run, and say how it is trained."""
    from stereo_tr.checkpoint import has_run
    from stereo_tr.datasets.files import writable_folder
    from stereo_tr.datasets.image_folder import list_images, write_list
    from stereo_tr.recipe import TrainingSettings

    given: dict[str, Any] = {
        "steps": settings.steps,
        "learning_rate": settings.learning_rate,
        "warmup": settings.warmup,
        "validate_every": settings.validate_every,
        "batch": settings.batch,
        "seed": settings.seed,
        "minutes": settings.minutes,
        "workers": settings.workers,
        "device": settings.device,
    }
    if settings.resume:
        _refuse_changes(settings)
        return TrainingSettings(settings.out, resume=True, **given)
    if settings.data is None or settings.model is None:
        raise ValueError("--data FOLDER and --model NAME are needed to train (or --resume)")
    if has_run(settings.out):
        raise ValueError(f"{settings.out} holds a run: add --resume, or take another folder")
    overrides = _overrides(settings)
    listed, skipped = list_images(
        settings.data, settings.scored, unreadable=settings.unreadable, flip=settings.flip
    )
    if not listed.scored:
        raise ValueError(
            f"{settings.data} holds one image a class, so that none can be set aside to be scored; "
            "give two or more of a class, or --scored FOLDER"
        )
    for reason in skipped:
        print(f"left out: {reason}")
    print(
        f"{len(listed.classes)} classes, {len(listed.learned)} images to learn from, "
        f"{len(listed.scored)} to score, {len(skipped)} left out"
    )
    overrides["num_classes"] = len(listed.classes)
    weights = settings.weights
    writable_folder(settings.out)
    if weights is not None:
        weights = _start(settings, overrides)
    write_list(listed, settings.out / IMAGES)
    return TrainingSettings(
        settings.out,
        model=settings.model,
        override=tuple(f"{name}={json.dumps(value)}" for name, value in overrides.items()),
        weights=None if weights is None else str(weights),
        data=(str(settings.out / IMAGES),),
        height=settings.size,
        width=settings.size,
        validate_pairs=len(listed.scored),
        **given,
    )


def _refuse_changes(settings: Classify) -> None:
    """Raise ValueError for what a run that goes on, or answers, would pass over in silence."""
    from stereo_tr.checkpoint import load_last
    from stereo_tr.datasets.image_folder import read_list
    from stereo_tr.recipe import parse_overrides

    def elsewhere(items: Sequence[tuple[str, int]], folder: Path | None) -> bool:
        return folder is not None and not all(
            Path(path).is_relative_to(folder.resolve()) for path, _ in items
        )

    stored = load_last(settings.out)[0]["settings"]
    listed = read_list(settings.out / IMAGES)
    overrides = parse_overrides(stored["override"])
    changes = {
        # to be scored, other images will do
        "--data": not settings.evaluate and elsewhere(listed.learned, settings.data),
        "--scored": elsewhere(listed.scored, settings.scored),
        "--model": settings.model not in (None, stored["model"]),
        "--override": overrides | parse_overrides(settings.override) != overrides,
        "--weights": settings.weights is not None,  # the run has left where it started
        "--flip": settings.flip and not listed.flip,
        "--size": settings.size not in (None, stored["height"]),
    }
    if changed := [name for name, differs in changes.items() if differs]:
        raise ValueError(
            f"{settings.out} holds a run, and {', '.join(changed)} can't change what it began "
            "with: leave that out, or start a new run in another folder"
        )


def _overrides(settings: Classify) -> dict[str, Any]:
    """What the user changes in the model, which must be one that scores images."""
    from stereo_tr.classification import image_classifiers
    from stereo_tr.datasets.naming import closest
    from stereo_tr.recipe import parse_overrides

    if settings.model not in image_classifiers():
        hint = closest(settings.model, image_classifiers())
        raise ValueError(f"no model that scores images is called {settings.model!r}; {hint}")
    return parse_overrides(settings.override)


def _start(settings: Classify, overrides: dict[str, Any]) -> Path:
    """Check that the weights fit before anything takes time; return what to start from."""
    import torch

    from stereo_tr.pretrained import create_model, load_weights, save_weights

    torch.manual_seed(settings.seed or 0)
    model = create_model(settings.model, **overrides)
    load_weights(model, settings.weights, keep=["head"] if settings.new_classifier else [])
    path = settings.out / START
    save_weights(model, path, settings.model, overrides)
    return path


def _trained(settings: Classify) -> "tuple[nn.Module, ImageList, int, int]":
    """Return the run's model, its list of images, and the height and width that it sees."""
    from stereo_tr.checkpoint import load_last
    from stereo_tr.datasets.image_folder import read_list
    from stereo_tr.devices import usable_device
    from stereo_tr.pretrained import model_from_weights
    from stereo_tr.training import WEIGHTS

    device = usable_device(settings.device)
    listed = read_list(settings.out / IMAGES)
    if not (settings.out / WEIGHTS).is_file():
        raise FileNotFoundError(
            f"{settings.out} holds no {WEIGHTS}: the run isn't finished (--resume goes on)"
        )
    if settings.evaluate or settings.predict:
        _refuse_changes(settings)
    stored = load_last(settings.out)[0]["settings"]
    model = model_from_weights(settings.out / WEIGHTS).to(device).eval()
    return model, listed, stored["height"], stored["width"]


def evaluate(settings: Classify) -> dict[str, Any]:
    """Score the run's weights, print each class, and write the numbers to the run's folder.

    Percent of the images named rightly: "accuracy" of all, "classes" of each class, "images" of how
    many.
    """
    import torch

    from stereo_tr.classification import class_scores
    from stereo_tr.datasets.files import write_bytes
    from stereo_tr.datasets.image_folder import LabelledImages, labelled_images
    from stereo_tr.progress import progress

    model, listed, height, width = _trained(settings)
    if settings.evaluate and settings.data is not None:
        items, skipped = labelled_images(
            settings.data, listed.classes, unreadable=settings.unreadable
        )
        listed = replace(listed, scored=items)
        for reason in skipped:
            print(f"left out: {reason}")
    images = LabelledImages(listed, learn=False, height=height, width=width)
    if not len(images):
        raise ValueError("no image was set aside to be scored: --evaluate --data FOLDER scores one")
    table = torch.zeros(len(listed.classes), 2, dtype=torch.long)
    for index in progress(range(len(images)), label="score", hidden=len(images) < 1000):
        sample = images[index]
        best = class_scores(model, sample.image[None].to(settings.device)).argmax().item()
        table[sample.label] += torch.tensor([best == sample.label, 1])
    right, count = table.sum(0).tolist()
    scores = {
        "accuracy": 100 * right / count,
        "images": count,
        "classes": {
            name: 100 * hits / number
            for name, (hits, number) in zip(listed.classes, table.tolist(), strict=True)
            if number
        },
    }
    for name, share in scores["classes"].items():
        print(f"{name:<20} {share:6.2f} %")
    print(f"{'all ' + str(count):<20} {scores['accuracy']:6.2f} %")
    path = settings.out / SCORES
    write_bytes(path, json.dumps(scores, indent=1).encode() + b"\n")
    print(f"{path} holds the same numbers")
    return scores


def predict(settings: Classify) -> dict[str, list[tuple[str, float]]]:
    """Print the likeliest classes of each image, with their probabilities, and return them."""
    import torch

    from stereo_tr.classification import class_scores
    from stereo_tr.datasets.files import read_image
    from stereo_tr.datasets.image_folder import fitted

    images = [read_image(path) for path in settings.predict]  # a wrong one before all work
    model, listed, height, width = _trained(settings)
    found = {}
    for path, image in zip(settings.predict, images, strict=True):
        scores = class_scores(model, fitted(image, height, width)[None].to(settings.device))[0]
        best = torch.topk(scores, min(SHOWN, len(scores)))
        found[str(path)] = [
            (listed.classes[label], share)
            for share, label in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]
        named = ", ".join(f"{name} {100 * share:.1f} %" for name, share in found[str(path)])
        print(f"{path}: {named}")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `stereo-tr classify`."""
    run(Classify, classify, "classify", __doc__.split("\n\nTests")[0], arguments)


if __name__ == "__main__":
    main()
