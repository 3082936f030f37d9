"""How mask transformers are trained and scored: images with segments, and panoptic quality.

    stereo-tr train --model kmax_resnet50 --override num_classes=15 --data generated_panoptic
    stereo-tr train --model kmax_resnet50 --data coco_panoptic --root /data/coco

Training images from disk are cropped, and with --augmentation strong (the default) scaled;
validation scores whole ones. Scores are percentages, means over the classes that the scored images
have.

Letters  B images, H W their height and width in pixels, S classes, K = 4 S
Tests    tests/test_panoptic_training.py
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float64, Int32, Int64
from torch import Tensor, nn
from torch.utils.data import Dataset

from . import pretrained
from .datasets import panoptic_sample
from .datasets.panoptic_sample import PanopticSample
from .mask.panoptic import Panoptic, segment
from .mask.panoptic_quality import panoptic_counts, summary
from .panoptic_data import PanopticData, open_learned, open_scored
from .recipe import TrainingSettings, parse_overrides
from .tasks import Task, require_unused
from .training_data import VALIDATION_SEED

if TYPE_CHECKING:
    from .training_log import TrainingLog


class PanopticTask(Task):
    """The segments of an image."""

    unit = "images"
    decisive, higher_is_better = "pq", True
    preset = "panoptic"

    def check(self, settings: TrainingSettings) -> None:
        """Raise ValueError for data that isn't known, or that the model has other classes for."""
        if len(settings.data) != 1:
            given = " ".join(settings.data) or "none"
            raise ValueError(f"--data takes one name for panoptic models, not {given}")
        require_unused(
            settings,
            ("validate", "validate_root"),
            f"panoptic models are scored on what {settings.data[0]} holds back",
        )
        if settings.seed == VALIDATION_SEED:
            raise ValueError(f"seed {VALIDATION_SEED} is kept for validation; take another one")
        self.data(settings)  # whatever is wrong with it is said now
        classes = _scored(settings).classes
        overrides = parse_overrides(settings.override)
        with torch.device("meta"):  # costs no memory
            model = pretrained.create_model(settings.model, **overrides)
        if model.num_classes != len(classes.names):
            raise ValueError(
                f"{settings.data[0]} has {len(classes.names)} classes and the model "
                f"{model.num_classes}: give --override num_classes={len(classes.names)}"
            )

    def data(self, settings: TrainingSettings) -> Dataset[PanopticSample]:
        """Open the images to learn from."""
        size = (settings.height, settings.width)
        return open_learned(
            settings.data[0], settings.root, size, settings.seed, settings.augmentation
        ).images

    def validation(self, settings: TrainingSettings) -> Dataset[PanopticSample]:
        """Open the images to score: never trained on."""
        data, self.classes, self.rules = _scored(settings)
        return data

    def collate(self, samples: Sequence[PanopticSample]) -> PanopticSample:
        """Make a batch; see panoptic_sample.py."""
        return panoptic_sample.collate(samples)

    def tally(self, model: nn.Module, batch: PanopticSample) -> Float64[Tensor, " K"]:
        """Segments found, wrong and missed and the sum of IoU, class by class."""
        results = segment(
            model(batch.image), batch.image.shape[-2:], self.classes.things, self.rules
        )
        counts = torch.zeros(4, len(self.classes.names), dtype=torch.float64)
        for result, truth, classes in zip(results, batch.segment_map, batch.classes, strict=True):
            counts += result_counts(result, truth, classes, len(self.classes.names))
        return counts.flatten().to(batch.image.device)

    def scores(self, tally: Float64[Tensor, " K"]) -> dict[str, float]:
        """PQ, SQ and RQ in percent, of all classes, things and stuff; 0 where there is none."""
        means = summary(tally.view(4, -1).cpu(), self.classes.things)
        return {name: 0.0 if value != value else 100 * value for name, value in means.items()}

    def describe(self, scores: Mapping[str, float]) -> str:
        """The scores that people look at."""
        return (
            f"PQ {scores['pq']:.1f} %, things {scores['pq_things']:.1f} %, "
            f"stuff {scores['pq_stuff']:.1f} %"
        )

    def picture(
        self, log: "TrainingLog", step: int, model: nn.Module, batch: PanopticSample
    ) -> None:
        """The batch's first image under its guessed and its true segments."""
        from .panoptic_pictures import overlay, side_by_side
        from .pictures import view_picture

        (guess,) = segment(
            model(batch.image[:1]), batch.image.shape[-2:], self.classes.things, self.rules
        )
        view = view_picture(batch.image[0])
        shown = {
            "prediction": overlay(view, guess.segment_map),
            "truth": overlay(view, batch.segment_map[0]),
        }
        log.picture(step, "segments", side_by_side(shown))


def _scored(settings: TrainingSettings) -> PanopticData:
    return open_scored(settings.data[0], settings.root, (settings.height, settings.width))


def result_counts(
    result: Panoptic,
    truth: Int32[Tensor, "H W"],
    classes: Int64[Tensor, "N"],
    num_classes: int,
) -> Float64[Tensor, "4 S"]:
    """`panoptic_counts` of one merged image; truth and classes as a sample has them."""
    guessed = torch.tensor([s.category for s in result.segments], dtype=torch.int64)
    return panoptic_counts(result.segment_map, guessed, truth, classes, num_classes)
