"""How vision models are trained and scored on a folder of images: the share they name rightly.

The run's one data set is a list of images (datasets/image_folder.py), which `stereo-tr classify`
writes; the model's classes are the list's.

Letters  B images, H W their height and width in pixels, K classes
Tests    tests/test_classification.py
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from torch import Tensor, nn
from torch.utils.data import Dataset

from . import pretrained, training_data
from .datasets.image_folder import ImageList, LabelledImage, LabelledImages, read_list
from .recipe import TrainingSettings, parse_overrides
from .tasks import Task, require_unused

PIXELWISE = "transunet"
"""start of the names of models that score pixels, not images"""


def image_classifiers() -> list[str]:
    """Return the names of the models that score the classes of a whole image."""
    towers = "_clip"  # two towers, which compare images with texts
    return [
        name
        for name in pretrained.list_models()
        if pretrained.model_kind(name) == "vision"
        and not name.startswith(PIXELWISE)
        and not name.endswith(towers)
    ]


class ClassificationTask(Task):
    """The class of an image."""

    unit = "images"
    decisive, higher_is_better = "accuracy", True
    preset = "classify"

    def check(self, settings: TrainingSettings) -> None:
        """Raise ValueError for what is no list of images, or doesn't fit the model."""
        if settings.model not in image_classifiers():
            raise ValueError(
                f"{settings.model} doesn't score classes of images; models that do: "
                + ", ".join(image_classifiers())
            )
        if len(settings.data) != 1 or not settings.data[0].endswith(".json"):
            raise ValueError(
                f"{settings.model} learns from a folder of images: "
                f"stereo-tr classify --data FOLDER --model {settings.model} --out DIR"
            )
        require_unused(
            settings,
            ("validate", "validate_root", "root"),
            f"{settings.data[0]} lists the images to learn from and those to score",
        )
        # "strong" is what the presets say, and so what every run has stored.
        if settings.augmentation not in (None, "strong"):
            raise ValueError(
                f"--augmentation {settings.augmentation} is of no use: images by class are always "
                "changed in one way; leave it out"
            )
        classes = len(_listed(settings).classes)
        made_for = parse_overrides(settings.override).get("num_classes")
        if made_for != classes:
            raise ValueError(
                f"{settings.data[0]} has {classes} classes and the model is made for "
                f"{made_for or 'another number'}: give --override num_classes={classes}"
            )

    def data(self, settings: TrainingSettings) -> Dataset[LabelledImage]:
        """Open the images to learn from."""
        return self._images(settings, learn=True)

    def validation(self, settings: TrainingSettings) -> Dataset[LabelledImage]:
        """Open the images that were set aside."""
        return self._images(settings, learn=False)

    def _images(self, settings: TrainingSettings, learn: bool) -> LabelledImages:
        return LabelledImages(
            _listed(settings),
            learn=learn,
            height=settings.height,
            width=settings.width,
            seed=settings.seed,
        )

    def collate(self, samples: Sequence[LabelledImage]) -> LabelledImage:
        """Make a batch: images and labels with a leading B, and the list of names."""
        return training_data.collate(samples)

    def tally(self, model: nn.Module, batch: LabelledImage) -> Float64[Tensor, " K"]:
        """Images named rightly, their sum of cross-entropies, and how many images there are."""
        scores = model(batch.image).float()
        right = (scores.argmax(1) == batch.label).sum()
        entropy = F.cross_entropy(scores, batch.label, reduction="sum")
        return torch.stack([right, entropy, right.new_tensor(len(scores))]).double()

    def scores(self, tally: Float64[Tensor, " K"]) -> dict[str, float]:
        """Accuracy in percent, and the mean cross-entropy in nats."""
        right, entropy, count = tally.tolist()
        return {"accuracy": 100 * right / count, "cross_entropy": entropy / count}

    def describe(self, scores: Mapping[str, float]) -> str:
        """The score that people look at."""
        return f"accuracy {scores['accuracy']:.2f} %"


def _listed(settings: TrainingSettings) -> ImageList:
    return read_list(Path(settings.data[0]))


@torch.no_grad()
def class_scores(model: nn.Module, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B K"]:
    """Probability of each class for each image in [0, 1]."""
    return model(images).softmax(1)
