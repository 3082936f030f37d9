"""Panoptic quality of a model on a data set, class by class.

    stereo-tr panoptic --data coco_panoptic --root coco --weights r50.pth --model kmax_resnet50
    stereo-tr panoptic --data generated_things --weights run/weights.safetensors --out results

Scores the images that training holds back. With --out, the segments are written as COCO wants them:
OUT/panoptic.json and OUT/panoptic/NAME.png.

Tests  tests/scripts/test_panoptic_command.py
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from stereo_tr.scripts.command import NO_DEFAULT, run

if TYPE_CHECKING:
    from torch import Tensor

    from stereo_tr.datasets.panoptic_sample import ClassList


@dataclass(frozen=True, kw_only=True)
class ScorePanoptic:
    """Settings of `stereo-tr panoptic`."""

    data: str
    """generated_panoptic, generated_things, generated_few, coco_panoptic, cityscapes_panoptic,
    panoptic_folder"""
    root: Annotated[str | None, NO_DEFAULT] = None
    """folder of data on disk"""
    weights: Annotated[str | None, NO_DEFAULT] = None
    """weights: a file or a packaged name (default: the packaged ones)"""
    model: Annotated[str | None, NO_DEFAULT] = None
    """the model's name, where the weights don't tell"""
    rules: Annotated[str | None, NO_DEFAULT] = None
    """thresholds for merging, see stereo-tr segment (default: those of the data)"""
    limit: Annotated[int | None, NO_DEFAULT] = None
    """score only the first images (generated data: 100)"""
    size: int = 129
    """height and width of generated images, pixels; those on disk are scored whole"""
    out: Annotated[Path | None, NO_DEFAULT] = None
    """folder for the segments as COCO panoptic PNG and JSON"""
    json: Annotated[Path | None, NO_DEFAULT] = None
    """file for the scores and counts"""
    device: str = "cpu"
    """where to compute: cpu, cuda, cuda:1, mps ..."""


GENERATED_LIMIT = 100
"""images that are scored of data without an end"""


def score_panoptic(settings: ScorePanoptic) -> dict[str, Any]:
    """Score the images; return {"images", "mean": {...}, "classes": {name: {...}}}, in percent."""
    import torch

    from stereo_tr.datasets.files import encode_png, writable_folder, write_bytes
    from stereo_tr.datasets.panoptic_files import coco_annotation, coloured_numbers
    from stereo_tr.devices import usable_device
    from stereo_tr.mask.panoptic import rules_for, segment
    from stereo_tr.panoptic_data import GENERATED, open_scored
    from stereo_tr.panoptic_training import result_counts
    from stereo_tr.progress import progress
    from stereo_tr.scripts.segment import listed_segments, segmenting_model

    root = () if settings.root is None else (settings.root,)
    images, classes, rules = open_scored(settings.data, root, (settings.size, settings.size))
    rules = rules if settings.rules is None else rules_for(settings.rules)
    limit = settings.limit
    if limit is None and settings.data in GENERATED:
        limit = GENERATED_LIMIT
    if limit is not None and limit < 1:
        raise ValueError(f"--limit must be at least 1, got {limit}")
    device = usable_device(settings.device)
    model = segmenting_model(settings.weights, settings.model).to(device).eval()
    if model.num_classes != len(classes.names):
        raise ValueError(
            f"{settings.data} has {len(classes.names)} classes, the model {model.num_classes}"
        )
    if settings.out is not None:
        writable_folder(settings.out / "panoptic")
    if settings.json is not None:
        if settings.json.is_dir():
            raise IsADirectoryError(f"--json {settings.json} is a folder; give a file")
        writable_folder(settings.json.parent)
    counts = torch.zeros(4, len(classes.names), dtype=torch.float64)
    listing: dict[str, list[Any]] = {"images": [], "annotations": []}
    count = len(images) if limit is None else min(limit, len(images))
    for index in progress(range(count), label="panoptic"):
        sample = images[index]
        size = tuple(sample.segment_map.shape)
        with torch.inference_mode():
            output = model(sample.image[None].to(device))
            (result,) = segment(output, size, classes.things, rules)
        result = result._replace(segment_map=result.segment_map.cpu())
        counts += result_counts(result, sample.segment_map, sample.classes, len(classes.names))
        if settings.out is not None:
            name = f"{sample.name.replace('/', '_')}.png"
            numbers = result.segment_map.numpy()
            write_bytes(settings.out / "panoptic" / name, encode_png(coloured_numbers(numbers)))
            of_image = coco_annotation(name, name, numbers, listed_segments(result, classes))
            for key, entries in listing.items():
                entries += of_image[key]
    if settings.out is not None:
        content = json.dumps(listing | {"categories": classes.categories()})
        write_bytes(settings.out / "panoptic.json", content.encode())
    scores = {"images": count} | _scores(counts, classes)
    print(_table(scores))  # first: what was found isn't lost where it can't be written
    if settings.json is not None:
        write_bytes(settings.json, json.dumps(scores, indent=1).encode())
    return scores


def _scores(counts: "Tensor", classes: "ClassList") -> dict[str, Any]:
    """Percentages and counts by name; a class that is nowhere is left out."""
    from stereo_tr.mask.panoptic_quality import panoptic_quality, summary

    quality = panoptic_quality(counts)
    of_class = {}
    for number, name in enumerate(classes.names):
        found, wrong, missed = (int(value) for value in counts[:3, number])
        if found + wrong + missed:
            percent = {
                key: 100 * float(values[number]) for key, values in quality._asdict().items()
            }
            of_class[name] = percent | {"found": found, "wrong": wrong, "missed": missed}
    means = {name: 100 * value for name, value in summary(counts, classes.things).items()}
    known = {name: value for name, value in means.items() if value == value}
    return {"mean": known, "classes": of_class}


def _table(scores: dict[str, Any]) -> str:
    """The scores for people: classes, then their means."""
    lines = [f"{'class':<24}{'PQ':>7}{'SQ':>7}{'RQ':>7}{'found':>8}{'wrong':>8}{'missed':>8}"]
    for name, of_class in scores["classes"].items():
        percent = "".join(f"{of_class[key]:7.1f}" for key in ("pq", "sq", "rq"))
        amounts = "".join(f"{of_class[key]:8d}" for key in ("found", "wrong", "missed"))
        lines.append(f"{name:<24}{percent}{amounts}")
    for title, suffix in (("all", ""), ("things", "_things"), ("stuff", "_stuff")):
        if f"pq{suffix}" in scores["mean"]:
            means = (scores["mean"][f"{key}{suffix}"] for key in ("pq", "sq", "rq"))
            lines.append(f"{'mean, ' + title:<24}" + "".join(f"{value:7.1f}" for value in means))
    return "\n".join([*lines, f"{scores['images']} images"])


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `stereo-tr panoptic`."""
    run(ScorePanoptic, score_panoptic, "panoptic", __doc__.split("\n\nTests")[0], arguments)


if __name__ == "__main__":
    main()
