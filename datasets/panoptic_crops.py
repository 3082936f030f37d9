"""Training images from a panoptic data set on disk: endless, scaled, mirrored and cut to one size.

Epoch after epoch in a new order; what becomes of image number i depends on (seed, i) alone. What a
crop has beyond the image is grey and void.

Source   scale jitter of kMaX-DeepLab's PyTorch port, a little narrower
Tests    tests/datasets/test_panoptic_crops.py
"""

import sys

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from .panoptic_sample import PanopticSample, number_segments

SCALES = (0.5, 2.0)
"""bounds, log-uniform; at 1 the image just fits into the crop"""
BEYOND = 0.5
"""grey, which normalisation takes to zero"""


class PanopticCrops(Dataset[PanopticSample]):
    """Map-style and endless over the map-style `images`; every sample is height x width pixels.

    scales: bounds of the size, as a multiple of what just fits; (1, 1) keeps an image that has the
    crop's size as it is. Raises ValueError for scales that can't be.
    """

    def __init__(
        self,
        images: Dataset[PanopticSample],
        height: int,
        width: int,
        *,
        seed: int = 0,
        scales: tuple[float, float] = SCALES,
    ) -> None:
        if not 0 < scales[0] <= scales[1]:
            raise ValueError(f"scales must be (low, high) with 0 < low <= high, got {scales}")
        self.images, self.size, self.seed, self.scales = images, (height, width), seed, scales

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, index: int) -> PanopticSample:
        epoch, place = divmod(index, len(self.images))
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.images))
        sample = self.images[int(order[place])]
        rng = np.random.default_rng((self.seed, epoch, place))
        image = np.ascontiguousarray(sample.image.permute(1, 2, 0).numpy())
        numbers = sample.segment_map.numpy()
        if rng.random() < 0.5:
            image, numbers = image[:, ::-1], numbers[:, ::-1]
        low, high = self.scales
        fitting = min(
            wanted / given for wanted, given in zip(self.size, numbers.shape, strict=True)
        )
        scale = fitting * low * (high / low) ** rng.random()
        rows, columns = (max(1, round(scale * length)) for length in numbers.shape)
        if (rows, columns) != numbers.shape:
            way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
            image = cv2.resize(np.ascontiguousarray(image), (columns, rows), interpolation=way)
            exact = np.ascontiguousarray(numbers)
            numbers = cv2.resize(exact, (columns, rows), interpolation=cv2.INTER_NEAREST_EXACT)
        picture = np.full((*self.size, 3), BEYOND, np.float32)
        labels = np.zeros(self.size, np.int32)
        # Where the image is larger than the crop, a window of it; where it is smaller, all of it.
        target, source = [], []
        for wanted, given in zip(self.size, (rows, columns), strict=True):
            free = wanted - given
            start = int(rng.integers(0, abs(free) + 1))
            length = min(wanted, given)
            target.append(slice(start, start + length) if free > 0 else slice(0, length))
            source.append(slice(0, length) if free > 0 else slice(start, start + length))
        picture[tuple(target)] = image[tuple(source)]
        labels[tuple(target)] = numbers[tuple(source)]
        class_of = dict(enumerate(sample.classes.tolist(), 1))
        return PanopticSample(
            torch.from_numpy(picture).permute(2, 0, 1).contiguous(),
            *number_segments(labels, class_of),
            f"{sample.name}/{epoch}",
        )
