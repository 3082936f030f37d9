"""Features from any vision model: ViT, Swin, MOAT, ... stand where the residual pyramid stood.

    create_model("cstr_small", encoder="swin_tiny_patch4_window7_224")

The encoder's maps of strides 4 to 32 are brought to the matcher's widths and joined on the way back
up, as in features.py. A small stem of its own sees every pixel: it gives the half-size map, which
no encoder has, and the details at stride 4, which a flat ViT doesn't keep.

Encoders with BatchNorm (ResNet, MOAT) share statistics among the views of a batch while they train.

Letters  as in features.py
Source   pyramid with a way back up: FPN, https://arxiv.org/abs/1612.03144
Tests    tests/stereo/test_encoder.py
"""

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..convolution import convolution
from ..vision.classifier import STRIDES, Classifier
from .features import Pyramid


class EncoderFeatures(nn.Module):
    """Image to pyramid, by way of `encoder`.

    Map position (y, x) at stride s is centred on pixel (s y, s x), or, where the encoder cuts
    patches, on the middle of its s x s pixels: alike in both views, so disparities don't notice.
    """

    def __init__(self, encoder: Classifier, widths: Sequence[int]) -> None:
        """`widths` at strides 2, 4, 8 and 16; what `encoder` needs to classify is taken off it."""
        super().__init__()
        half, quarter, eighth, sixteenth = widths
        self.stem = nn.Sequential(convolution(3, half, stride=2), convolution(half, half))
        self.details = convolution(half, quarter, stride=2)
        self.encoder = encoder
        encoder.drop_classifier()
        given = [encoder.feature_channels[stride] for stride in STRIDES]
        # normalised, because encoders end in sums of any size
        self.adapt = nn.ModuleList(
            convolution(inputs, outputs, 1, activation=False)
            for inputs, outputs in zip(given, (quarter, eighth, sixteenth, sixteenth), strict=True)
        )
        self.to_eighth = nn.Conv2d(sixteenth, eighth, 1)
        self.merge_eighth = convolution(eighth, eighth)
        self.to_quarter = nn.Conv2d(eighth, quarter, 1)
        self.merge_quarter = nn.Conv2d(quarter, quarter, 3, padding=1)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Pyramid:
        """Compute the pyramid of images that are standardised and whose sizes divide by STRIDE."""
        half = self.stem(images)
        # The encoder normalises images in [0, 1]: given this, it sees the standardised ones.
        maps = self.encoder.features(images * self.encoder.deviation + self.encoder.mean)
        quarter, eighth, sixteenth, coarsest = (
            adapt(maps[stride]) for adapt, stride in zip(self.adapt, STRIDES, strict=True)
        )
        sixteenth = sixteenth + _doubled(coarsest, sixteenth)
        eighth = self.merge_eighth(eighth + _doubled(self.to_eighth(sixteenth), eighth))
        quarter = quarter + self.details(half) + _doubled(self.to_quarter(eighth), quarter)
        return Pyramid(half, self.merge_quarter(quarter), sixteenth)


def _doubled(x: Tensor, like: Tensor) -> Tensor:
    """Enlarge twofold, to the size of `like`: an odd one loses the last row and column."""
    x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    return x[..., : like.shape[-2], : like.shape[-1]]
