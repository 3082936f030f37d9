"""Segments of pictures: which pixels belong together, and to what.

    stereo-tr segment scene.png --out results
    stereo-tr segment street.jpg --out results --weights run/weights.safetensors
    stereo-tr segment 'photos/*.jpg' --out results --weights kmax_r50.pth --model kmax_resnet50

Without --weights, the packaged kmax_small looks: 0.34 million parameters that learned from
generated scenes of a handful of things, 96 pixels wide and high, to tell things from
background, floor and wall. It is not for photographs; give --weights of your own for those.

Written for each picture, all or none:

    NAME_overlay.png    the picture under its segments' colours, with their classes' names
    NAME_clusters.png   which cluster each pixel went to in every decoder layer, beside the result
    NAME_panoptic.png   COCO's panoptic PNG: id = R + 256 G + 65536 B, 0 is void
    NAME_panoptic.json  COCO's panoptic JSON of that one image; each segment with its score

Tests  tests/scripts/test_segment.py
"""

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional

from stereo_tr.scripts.command import NO_DEFAULT, run

if TYPE_CHECKING:
    from torch import nn

    from stereo_tr.datasets.panoptic_sample import ClassList
    from stereo_tr.mask.output import MaskOutput
    from stereo_tr.mask.panoptic import Panoptic

DEFAULT = "kmax_small"
"""model whose packaged weights are taken"""
NOT_FOR = (
    "kmax_small knows nothing but generated scenes of a handful of things, 96x96 pixels; what it "
    "says about photographs means nothing (--weights FILE for others)"
)
HOW_TO_TRAIN = (
    "give --weights FILE, from stereo-tr train --preset kmax_small --out run (it writes "
    "run/weights.safetensors; for generated scenes only), or a published "
    "checkpoint of kMaX-DeepLab with --model"
)
SUFFIXES = ("_overlay.png", "_clusters.png", "_panoptic.png", "_panoptic.json")


@dataclass(frozen=True, kw_only=True)
class SegmentImages:
    """Settings of `stereo-tr segment`."""

    images: Positional[tuple[str, ...]]
    """pictures, folders of them, or globs in quotes"""
    out: Path
    """folder for the results; made if it isn't there"""
    weights: Annotated[str | None, NO_DEFAULT] = None
    """weights: a file or a packaged name (default: kmax_small, for generated scenes only)"""
    model: Annotated[str | None, NO_DEFAULT] = None
    """the model's name, where the weights don't tell"""
    classes: Annotated[Path | None, NO_DEFAULT] = None
    """JSON list of the classes, or COCO panoptic JSON (default: known by their number, where the
    model has the classes of generated scenes, COCO or Cityscapes)"""
    rules: Annotated[str | None, NO_DEFAULT] = None
    """thresholds for merging: coco, cityscapes, ade20k, generated, coco_max_deeplab_641,
    coco_max_deeplab_1025 (default: by the classes)"""
    device: str = "cpu"
    """where to compute: cpu, cuda, cuda:1, mps ..."""


def segment_images(settings: SegmentImages) -> list[Path]:
    """Write the results of every picture and return their paths."""
    import torch

    from stereo_tr.datasets.files import as_uint8, read_image, writable_folder, write_files
    from stereo_tr.datasets.indexed import as_tensor
    from stereo_tr.devices import usable_device
    from stereo_tr.mask.panoptic import segment
    from stereo_tr.progress import progress

    paths = _pictures(settings)
    device = usable_device(settings.device)
    model = segmenting_model(settings.weights, settings.model).to(device).eval()
    classes, rules = _meaning(settings, model)
    if (settings.weights or settings.model or DEFAULT) == DEFAULT:
        print(NOT_FOR)
    writable_folder(settings.out)
    written = []
    steps = progress(paths, label="segment", hidden=len(paths) == 1)
    for path in steps:
        picture = read_image(path)
        started = time.perf_counter()
        with torch.inference_mode():
            output = model(as_tensor(picture)[None].to(device))
            (result,) = segment(output, picture.shape[:2], classes.things, rules)
        seconds = time.perf_counter() - started
        contents = _files(path, as_uint8(picture), output, result, classes)
        write_files({settings.out / f"{path.stem}{s}": data for s, data in contents.items()})
        written += [settings.out / f"{path.stem}{suffix}" for suffix in contents]
        steps.print(_report(path, result, classes, seconds))
        for suffix in contents:
            steps.print(f"  {settings.out / (path.stem + suffix)}")
    return written


def _pictures(settings: SegmentImages) -> list[Path]:
    """The pictures asked for, every one read once, and every output's place checked."""
    from stereo_tr.datasets.files import read_image
    from stereo_tr.scripts.pairing import find_pictures

    paths = [path for given in settings.images for path in find_pictures(given)]
    for path in paths:
        read_image(path)
    names = Counter(path.stem for path in paths)
    for path in paths:
        if names[path.stem] > 1:
            raise ValueError(f"{path}: two pictures are called {path.stem}; rename one")
        for suffix in SUFFIXES:
            if (settings.out / f"{path.stem}{suffix}").resolve() in {p.resolve() for p in paths}:
                raise ValueError(
                    f"{path}: a result would overwrite a picture; choose another --out"
                )
    return paths


def segmenting_model(weights: str | None, name: str | None) -> "nn.Module":
    """The model `name` with its weights; None: the packaged ones, the model that they are of.

    Raises ValueError for one that doesn't segment.
    """
    from stereo_tr.pretrained import (
        model_from_weights,
        model_kind,
        packaged_weights,
    )

    if name is not None and model_kind(name) not in ("mask", None):
        raise ValueError(f"{name} doesn't segment; see stereo_tr.list_models()")
    if weights is None:
        try:
            model = model_from_weights(packaged_weights(name or DEFAULT))
        except ValueError as error:
            raise ValueError(f"{error}. Here: {HOW_TO_TRAIN}") from error
    else:
        model = model_from_weights(weights, name=name)
    if not hasattr(model, "num_queries"):
        raise ValueError(f"{weights} are weights of a model that doesn't segment; {HOW_TO_TRAIN}")
    return model


def _meaning(settings: SegmentImages, model: "nn.Module") -> "tuple[ClassList, Any]":
    """What the model's classes are called, and the thresholds that go with them."""
    from stereo_tr.datasets.panoptic_classes import KNOWN, known_classes, read_classes
    from stereo_tr.mask.panoptic import RULES, rules_for

    if settings.classes is not None:
        classes, rules = read_classes(settings.classes), "generated"
    else:
        name = known_classes(model.num_classes)
        print(f"classes: the {model.num_classes} of {name} (--classes FILE for others)")
        classes, rules = KNOWN[name], name if name in RULES else "generated"
    if len(classes.names) != model.num_classes:
        raise ValueError(
            f"{settings.classes} lists {len(classes.names)} classes, but the model has "
            f"{model.num_classes}"
        )
    return classes, rules_for(settings.rules or rules)


def _files(
    path: Path, picture: Any, output: "MaskOutput", result: "Panoptic", classes: "ClassList"
) -> dict[str, bytes]:
    """Suffix -> content of the files of one picture."""
    from stereo_tr.datasets.files import encode_png
    from stereo_tr.datasets.panoptic_files import coco_annotation, encode_coloured_numbers
    from stereo_tr.panoptic_pictures import assignment_picture, labelled_overlay, side_by_side

    size = picture.shape[:2]
    shown = labelled_overlay(picture, result, classes.names)
    layers = {
        f"layer {number}": assignment_picture(assignment[0].cpu(), size)
        for number, assignment in enumerate(output.assignments, 1)
    }
    numbers = result.segment_map.cpu().numpy()
    name = f"{path.stem}_panoptic.png"
    content = coco_annotation(path.name, name, numbers, listed_segments(result, classes))
    content |= {"categories": classes.categories()}
    return {
        "_overlay.png": encode_png(shown),
        "_clusters.png": encode_png(side_by_side(layers | {"prediction": shown})),
        "_panoptic.png": encode_coloured_numbers(numbers),
        "_panoptic.json": json.dumps(content, indent=1).encode(),
    }


def listed_segments(result: "Panoptic", classes: "ClassList") -> list[dict[str, Any]]:
    """The segments as COCO's JSON has them, with their classes' names and scores."""
    return [
        {
            "id": s.number,
            "category_id": classes.identifiers[s.category],
            "name": classes.names[s.category],
            "isthing": int(s.thing),
            "score": round(s.score, 4),
        }
        for s in result.segments
    ]


def _report(path: Path, result: "Panoptic", classes: "ClassList", seconds: float) -> str:
    height, width = result.segment_map.shape
    counts = Counter(classes.names[segment.category] for segment in result.segments)
    found = ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "nothing"
    void = (result.segment_map == 0).float().mean().item()
    return f"{path.name}: {width}x{height} px, {found}; {void:.0%} void, {seconds:.2f} s"


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `stereo-tr segment`."""
    run(SegmentImages, segment_images, "segment", __doc__.split("\n\nTests")[0], arguments)


if __name__ == "__main__":
    main()
