"""How stereo models are trained and scored: pairs, and how far their disparities are off.

Scores are means over images, in pixels and percent, over pixels that both cameras see ("all": also
over those that the right camera doesn't see). An image without such pixels isn't counted. A guess
that isn't a number isn't hidden: EPE is then no number either.

Letters  B pairs, H W image height and width in pixels
Tests    tests/test_tasks.py, tests/test_training.py
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor, nn
from torch.utils.data import Dataset

from . import training_data
from .datasets.sample import StereoSample
from .pictures import Span, colour_disparity, view_picture
from .recipe import TrainingSettings
from .stereo.metrics import bad_n, epe
from .stereo_data import open_training, open_validation, read_mixture, read_roots
from .tasks import Task
from .training_data import VALIDATION_SEED

if TYPE_CHECKING:
    from .training_log import TrainingLog


class StereoTask(Task):
    """Disparity of the left view from both."""

    unit = "pairs"
    decisive, higher_is_better = "epe", False
    preset = "small"
    measures = ("epe", "bad_1", "bad_2", "bad_3", "epe_all")

    def check(self, settings: TrainingSettings) -> None:
        """Raise ValueError for data that isn't known, or can't be combined."""
        read_roots(settings.root, read_mixture(settings.data))
        if settings.seed == VALIDATION_SEED:
            raise ValueError(f"seed {VALIDATION_SEED} is kept for validation; take another one")

    def data(self, settings: TrainingSettings) -> Dataset[StereoSample]:
        """Open the pairs to train on."""
        return open_training(settings)

    def validation(self, settings: TrainingSettings) -> Dataset[StereoSample]:
        """Open the pairs to score."""
        return open_validation(settings)

    def collate(self, samples: Sequence[StereoSample]) -> StereoSample:
        """Make a batch: every tensor with a leading B, and the list of names."""
        return training_data.collate(samples)

    def tally(self, model: nn.Module, batch: StereoSample) -> Float64[Tensor, " K"]:
        """Sum over images of each of `measures`, then over how many images each was known for."""
        guess = model(batch.left, batch.right).disparity.float()
        seen = batch.valid & ~batch.occluded
        scores = [epe(guess, batch.disparity, seen)]
        scores += [bad_n(guess, batch.disparity, seen, n) for n in (1, 2, 3)]
        scores += [epe(guess, batch.disparity, batch.valid)]
        table = torch.stack(scores).double()
        # Told by the mask: a guess that isn't a number gives nan as well, which has to show.
        known = torch.stack([mask.flatten(1).any(1) for mask in 4 * [seen] + [batch.valid]])
        return torch.cat([table.where(known, 0.0).sum(1), known.double().sum(1)])

    def scores(self, tally: Float64[Tensor, " K"]) -> dict[str, float]:
        """Means over images; 0 where no image had such pixels."""
        total, count = tally.chunk(2)
        return dict(zip(self.measures, (total / count.clamp(min=1)).tolist(), strict=True))

    def describe(self, scores: Mapping[str, float]) -> str:
        """The two scores that people look at."""
        return f"EPE {scores['epe']:.3f} px, bad-2 {scores['bad_2']:.2f} %"

    def picture(self, log: "TrainingLog", step: int, model: nn.Module, batch: StereoSample) -> None:
        """Left view, disparity map and the true one side by side, of the batch's first pair.

        Both maps share the colours of 0 (dark) to the largest true disparity (light).
        """
        guess = model(batch.left[:1], batch.right[:1]).disparity[0].float()
        truth = batch.disparity[0]
        span = Span(0.0, max(truth.max().item(), 1.0))
        maps = [colour_disparity(map_.cpu().numpy(), span=span) for map_ in (guess, truth)]
        log.picture(step, "left, disparity, truth", np.hstack([view_picture(batch.left[0]), *maps]))
