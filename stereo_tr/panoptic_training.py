"""How mask transformers are trained and scored: images with segments, and panoptic quality.

    stereo-tr train --model kmax_resnet50 --override num_classes=15 --data generated_panoptic
    stereo-tr train --model kmax_resnet50 --data coco_panoptic --root /data/coco

Training images from disk are cropped, and with --augmentation strong (the default) scaled, see
panoptic_crops.py; validation scores whole ones. Scores are percentages, means over the classes that
the scored images have.

Letters  B images, H W their height and width in pixels, S classes, K = 4 S
Tests    tests/test_panoptic_training.py
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float64
from torch import Tensor, nn
from torch.utils.data import Dataset

from . import pretrained
from .datasets import panoptic_sample
from .datasets.cityscapes_panoptic import CityscapesPanoptic
from .datasets.coco_panoptic import CocoLayout, CocoPanoptic
from .datasets.generated_panoptic import COARSE_CLASSES, SHAPE_CLASSES, GeneratedPanoptic
from .datasets.naming import closest
from .datasets.panoptic_crops import SCALES, PanopticCrops
from .datasets.panoptic_folder import PanopticFolder
from .datasets.panoptic_sample import ClassList, PanopticSample
from .mask.panoptic import RULES, Rules, segment
from .mask.panoptic_quality import panoptic_counts, summary
from .recipe import TrainingSettings, parse_overrides
from .tasks import Task
from .training_data import VALIDATION_SEED

if TYPE_CHECKING:
    from .training_log import TrainingLog

GENERATED = {"generated_panoptic": SHAPE_CLASSES, "generated_things": COARSE_CLASSES}
"""endless data -> classes; the second knows one class of things"""

ON_DISK: dict[str, tuple[Callable[[str, str], CocoLayout | PanopticFolder], str, str]] = {
    "coco_panoptic": (CocoPanoptic, "val", "coco"),
    "cityscapes_panoptic": (CityscapesPanoptic, "val", "cityscapes"),
    "panoptic_folder": (PanopticFolder, "validation", "generated"),
}
"""name -> what opens one split, the split that is scored, and the rules for merging"""

SCALES_OF = {"none": (1.0, 1.0), "strong": SCALES}
"""augmentation -> bounds of the size of a training image, 1 = just fits"""


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
        if settings.seed == VALIDATION_SEED:
            raise ValueError(f"seed {VALIDATION_SEED} is kept for validation; take another one")
        classes = self._open(settings, learn=False)[1]
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
        return self._open(settings, learn=True)[0]

    def validation(self, settings: TrainingSettings) -> Dataset[PanopticSample]:
        """Open the images to score: never trained on."""
        data, self.classes, self.rules = self._open(settings, learn=False)
        return data

    def _open(
        self, settings: TrainingSettings, learn: bool
    ) -> tuple[Dataset[PanopticSample], ClassList, Rules]:
        """Data, their classes, and the rules for merging."""
        name, size = settings.data[0], (settings.height, settings.width)
        if name in GENERATED:
            if settings.root:
                raise ValueError(f"--root is of no use: {name} isn't read from disk")
            seed = settings.seed if learn else VALIDATION_SEED
            coarse = name == "generated_things"
            return (
                GeneratedPanoptic(*size, seed=seed, coarse=coarse),
                GENERATED[name],
                RULES["generated"],
            )
        if name not in ON_DISK:
            raise ValueError(
                f"unknown panoptic data {name!r}; {closest(name, [*GENERATED, *ON_DISK])}"
            )
        if len(settings.root) != 1:
            raise ValueError(f"--data {name} is read from disk: give --root DIR")
        if settings.augmentation not in SCALES_OF:
            raise ValueError(
                f"--augmentation {settings.augmentation}: panoptic images have "
                + " or ".join(SCALES_OF)
            )
        kind, held_back, rules = ON_DISK[name]
        images = kind(settings.root[0], "train" if learn else held_back)
        data: Dataset[PanopticSample] = images
        if learn:
            scales = SCALES_OF[settings.augmentation]
            data = PanopticCrops(images, *size, seed=settings.seed, scales=scales)
        return data, images.classes, RULES[rules]

    def collate(self, samples: Sequence[PanopticSample]) -> PanopticSample:
        """Make a batch; see panoptic_sample.py."""
        return panoptic_sample.collate(samples)

    def tally(self, model: nn.Module, batch: PanopticSample) -> Float64[Tensor, " K"]:
        """Segments found, wrong and missed and the sum of IoU, class by class."""
        things, names = self.classes.things, self.classes.names
        results = segment(model(batch.image), batch.image.shape[-2:], things, self.rules)
        counts = torch.zeros(4, len(names), dtype=torch.float64)
        for result, truth, classes in zip(results, batch.segment_map, batch.classes, strict=True):
            guessed = torch.tensor([s.category for s in result.segments], dtype=torch.int64)
            counts += panoptic_counts(result.segment_map, guessed, truth, classes, len(names))
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
