"""The worst scenes of an evaluation, kept as small pictures for `report_page`.

Only the scenes with the largest errors are kept, however many are offered, so that scoring 4,370
pairs needs no more memory than 20. Texts travel between processes; each keeps its own worst.

Tests  tests/scripts/test_report_page.py
"""

import base64
import io
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float32
from PIL import Image

from stereo_tr.datasets.sample import StereoSample
from stereo_tr.pictures import colour_disparity, view_picture
from stereo_tr.scripts.error_pictures import (
    Picture,
    WorstPixel,
    error_picture,
    truth_picture,
    truth_span,
    worst_pixels,
)

PIXELS_NAMED = 5
"""worst pixels of one prediction that are marked and listed"""
_QUALITY = 90
"""of WebP, in percent: an eighth of PNG's size, and a single bright pixel stays bright"""


@dataclass(frozen=True)
class ShownMethod:
    """What one method found in a shown scene."""

    method: str
    prediction: str
    """data URI; the other pictures likewise"""
    error: str
    worst: list[WorstPixel]


@dataclass(frozen=True)
class ShownScene:
    """A scene with its pictures."""

    index: int
    """its place in the evaluation"""
    scene: str
    width: int
    height: int
    epe: float
    """pixels: of the first method, over all known pixels; by it scenes are ranked"""
    largest: float
    """pixels of disparity that have the lightest colour"""
    left: str
    truth: str
    methods: list[ShownMethod]


class Gallery:
    """The `count` scenes with the largest errors among those that were offered."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.scenes: list[ShownScene] = []
        """worst first"""

    def offer(
        self,
        index: int,
        sample: StereoSample,
        found: Mapping[str, Float32[np.ndarray, "H W"]],
        epe: float,
    ) -> None:
        """Take the pictures of a scene, unless `count` worse ones are there already.

        `found` maps methods to disparities; `epe` is the first one's. A scene without known
        truth (nan) counts as the best.
        """
        epe = -1.0 if math.isnan(epe) else epe
        full = len(self.scenes) >= self.count
        if not self.count or (full and _rank(epe, index) >= _rank_of(self.scenes[-1])):
            return
        height, width = sample.disparity.shape
        span = truth_span(sample)
        methods = [
            ShownMethod(
                method,
                _as_uri(colour_disparity(disparity, span=span)),
                _as_uri(error_picture(disparity, sample)),
                worst_pixels(disparity, sample, PIXELS_NAMED),
            )
            for method, disparity in found.items()
        ]
        left, truth = _as_uri(view_picture(sample.left)), _as_uri(truth_picture(sample))
        name = str(sample.name)
        self._keep([ShownScene(index, name, width, height, epe, span.high, left, truth, methods)])

    def as_texts(self) -> list[str]:
        """Write the scenes, one text each."""
        return [json.dumps(asdict(scene)) for scene in self.scenes]

    def add_texts(self, texts: Iterable[str]) -> None:
        """Take scenes that another gallery wrote; the worst of both stay."""
        for text in texts:
            plain = json.loads(text)
            plain["methods"] = [
                ShownMethod(**each | {"worst": [WorstPixel(*pixel) for pixel in each["worst"]]})
                for each in plain["methods"]
            ]
            self._keep([ShownScene(**plain)])

    def _keep(self, new: list[ShownScene]) -> None:
        self.scenes = sorted([*self.scenes, *new], key=_rank_of)[: self.count]


def _rank_of(scene: ShownScene) -> tuple[float, int]:
    return _rank(scene.epe, scene.index)


def _rank(epe: float, index: int) -> tuple[float, int]:
    return -epe, index


def _as_uri(picture: Picture) -> str:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "WEBP", quality=_QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
