"""Image features and tokens of the published models: a residual backbone and a dense decoder.

Both views go through together, stacked on the batch axis with all left views first ("V" = 2B).

Letters  V views (lefts, then rights), H W image size in pixels, h w token grid, C channels
Source   Li et al. 2021, "Revisiting Stereo Depth Estimation From a Sequence-to-Sequence
         Perspective with Transformers"; Guo et al. 2022, "Context-Enhanced Stereo Transformer";
         spatial pyramid pooling after Chang & Chen 2018, dense blocks after Huang et al. 2017
Tests    tests/stereo/test_published.py: the original code's features and tokens
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from stereo_tr.attention.memory import pieces, widened

TOKEN_CHANNELS = 128
"""width of the tokens; the published heads (merge, upsampling) are built for this number"""

_POOLED_CHANNELS = 32
_POOLING_SIZES = (16, 8, 4, 2)
"""pixels of the 1/8 map that one pooled cell covers, one branch each"""

_DENSE_LAYERS = 4
_DENSE_BOTTLENECK = 4
"""a dense layer first reduces its input to this many times its growth"""


class PairNorm(nn.Module):
    """Batch normalisation with the statistics of one pair, left and right together, always.

    The reference normalises with the statistics of whatever batch it is given, also at inference,
    and was only ever run on one pair at a time. Statistics of each pair alone keep that result and
    make it independent of what else is in the batch.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, views: Float[Tensor, "V C h w"]) -> Float[Tensor, "V C h w"]:
        """Normalise view b together with view V/2 + b."""
        pairs = views.shape[0] // 2
        if torch.jit.is_tracing():  # ONNX's norms want fixed channels; here views are copied
            folded = views.unflatten(0, (2, pairs)).movedim(0, 2)
            normalised = F.group_norm(folded, len(self.weight), self.weight, self.bias)
            return normalised.movedim(2, 0).flatten(0, 1)
        # A pair's two views become the batch, and the pairs join the channels; nothing is copied.
        folded = views.unflatten(0, (2, pairs)).flatten(1, 2)
        normalised = F.batch_norm(
            folded, None, None, self.weight.repeat(pairs), self.bias.repeat(pairs), training=True
        )
        return normalised.unflatten(1, (pairs, -1)).flatten(0, 1)

    def normalise_(self, views: Float[Tensor, "V C h w"], moments: "PairMoments") -> Tensor:
        """Normalise in place, with moments of the maps that these are rows of."""
        scale = self.weight / (moments.variance() + NORM_EPSILON).sqrt()  # [pairs, C]
        shift = self.bias - moments.mean * scale
        scale, shift = (x.to(views.dtype).repeat(2, 1)[..., None, None] for x in (scale, shift))
        return views.mul_(scale).add_(shift)


NORM_EPSILON = 1e-5
"""torch's, which the reference takes as it is"""


class PairMoments:
    """Mean and variance of a pair's channels, of rows that come one strip after the other.

    Strips are joined by their means (Chan, Golub and LeVeque 1979): sums of squares over a whole
    map would lose what float32 has. In float32 at least, whatever the maps are in.
    """

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, torch.zeros(()), torch.zeros(())

    def add(self, rows: Float[Tensor, "V C h w"]) -> None:
        """Take in more rows of the same maps."""
        pairs = rows.shape[0] // 2
        count = rows.numel() // (pairs * rows.shape[1])
        rows = rows.float() if rows.element_size() < 4 else rows
        variance, mean = torch.var_mean(rows.unflatten(0, (2, pairs)), (0, 3, 4), correction=0)
        apart, total = mean - self.mean, self.count + count
        self.squares = self.squares + variance * count
        self.squares = self.squares + apart.square() * (self.count * count / total)
        self.mean, self.count = self.mean + apart * (count / total), total

    def variance(self) -> Float[Tensor, "pairs C"]:
        """Of all rows so far, as normalisation counts it (over n)."""
        return self.squares / self.count


Norm = Callable[[int], nn.Module]
"""makes the normalisation for a number of channels: `torch.nn.BatchNorm2d` or `PairNorm`"""


def normalised(convolution: nn.Conv2d, norm: nn.Module, x: Tensor) -> Tensor:
    """Return norm(convolution(x)), as one convolution where the norm's statistics are fixed."""
    apart = norm.training or torch.is_grad_enabled() or torch.compiler.is_compiling()
    if not isinstance(norm, nn.BatchNorm2d) or apart:  # a compiler joins them by itself
        return norm(convolution(x))
    statistics = norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    folded = fuse_conv_bn_weights(convolution.weight, convolution.bias, *statistics)
    return F.conv2d(x, *folded, convolution.stride, convolution.padding)


class ConvolutionNorm(nn.Module):
    """A convolution without bias that keeps the size (but for its stride), then a norm."""

    def __init__(
        self, in_channels: int, channels: int, kernel: int, norm: Norm, stride: int = 1
    ) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(
            in_channels, channels, kernel, stride, padding=kernel // 2, bias=False
        )
        self.norm = norm(channels)

    def forward(self, x: Float[Tensor, "V _ _ _"]) -> Float[Tensor, "V _ _ _"]:
        """Convolve and normalise; no activation."""
        return normalised(self.convolution, self.norm, x)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is 1x1 where the shape changes."""

    def __init__(self, in_channels: int, channels: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.first = ConvolutionNorm(in_channels, channels, 3, norm, stride)
        self.second = ConvolutionNorm(channels, channels, 3, norm)
        changes = in_channels != channels or stride != 1
        self.shortcut = (
            ConvolutionNorm(in_channels, channels, 1, norm, stride) if changes else nn.Identity()
        )

    def forward(self, x: Float[Tensor, "V _ _ _"]) -> Float[Tensor, "V _ _ _"]:
        """Return relu(second(relu(first(x))) + shortcut(x))."""
        branch = self.second(F.relu(self.first(x), inplace=True))
        return F.relu(branch + self.shortcut(x), inplace=True)


class Features(NamedTuple):
    """What the backbone hands to the decoder; every size is that of the image, rounded up."""

    quarter: Float[Tensor, "V 64 _ _"]
    eighth: Float[Tensor, "V 128 _ _"]
    sixteenth: Float[Tensor, "V 128 _ _"]


class Backbone(nn.Module):
    """Residual features at 1/4 and 1/8, and a pyramid of pooled features at 1/16 of the image."""

    def __init__(self, norm: Norm) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            *(ConvolutionNorm(3, 16, 3, norm, stride=2), nn.ReLU(inplace=True)),
            *(ConvolutionNorm(16, 16, 3, norm), nn.ReLU(inplace=True)),
            *(ConvolutionNorm(16, 32, 3, norm), nn.ReLU(inplace=True)),
        )
        self.quarter = _residual_stage(32, 64, norm)
        self.eighth = _residual_stage(64, 128, norm)
        self.pyramid = nn.ModuleList(
            ConvolutionNorm(128, _POOLED_CHANNELS, 1, norm) for _ in _POOLING_SIZES
        )

    def forward(self, images: Float[Tensor, "V 3 H W"]) -> Features:
        """Extract features of normalised images of any size."""
        quarter = self.quarter(self.stem(images))
        eighth = self.eighth(quarter)
        height, width = eighth.shape[-2:]
        size = (height + 1) // 2, (width + 1) // 2  # rounded up in ONNX, too
        pooled = []
        for cell, branch in zip(_POOLING_SIZES, self.pyramid, strict=True):
            pooled.append(_resize(F.relu(branch(_cell_means(eighth, cell))), size))
        return Features(quarter, eighth, torch.cat(pooled, dim=1))


class DenseLayer(nn.Module):
    """What one layer adds to a dense block: norm, 1x1 reduction, norm, 3x3 growth."""

    def __init__(self, in_channels: int, growth: int, norm: Norm) -> None:
        super().__init__()
        hidden = _DENSE_BOTTLENECK * growth
        self.reduce_norm = norm(in_channels)
        self.reduce = nn.Conv2d(in_channels, hidden, 1, bias=False)
        self.grow_norm = norm(hidden)
        self.grow = nn.Conv2d(hidden, growth, 3, padding=1, bias=False)

    def forward(self, x: Float[Tensor, "V _ _ _"]) -> Float[Tensor, "V _ _ _"]:
        """Return only the new channels."""
        x = F.relu(self.reduce_norm(x), inplace=True)
        return self.grow(F.relu(normalised(self.reduce, self.grow_norm, x), inplace=True))


class DenseBlock(nn.Sequential):
    """Layers that each see the block's input and everything the layers before them made."""

    def __init__(self, in_channels: int, growth: int, norm: Norm) -> None:
        super().__init__(
            *(DenseLayer(in_channels + i * growth, growth, norm) for i in range(_DENSE_LAYERS))
        )

    def forward(self, x: Float[Tensor, "V _ h w"]) -> Float[Tensor, "V _ h w"]:
        """Return the input's channels, then the new ones."""
        for layer in self:
            x = torch.cat([x, layer(x)], dim=1)
        return x


class QuarterTokens(nn.Module):
    """Tokens at 1/4 of the image (CSTR, STTR-light): 64 channels of the backbone, 64 new ones."""

    growth = 16
    pixel_bytes = 900
    """of memory that a pair takes for a pixel, whatever goes in pieces (measured, 960x540 to
    1920x1080): both images three times, ten maps of 128 channels at 1/4 of two views"""

    def __init__(self, norm: Norm) -> None:
        super().__init__()
        self.channels = _DENSE_LAYERS * self.growth
        skips = (0, 128, 64)
        inputs = (128, self.channels + skips[1], self.channels + skips[2])
        self.dense = nn.ModuleList(DenseBlock(count, self.growth, norm) for count in inputs)
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(self.channels, self.channels, 3, stride=2) for _ in skips[1:]
        )

    def decode(self, features: Features) -> Float[Tensor, "V _ _ _"]:
        """Go up from 1/16 to 1/4 of the image; all channels of the last dense block."""
        x = self.dense[0](features.sixteenth)
        for up, dense, skip in zip(self.up, self.dense[1:], features[1::-1], strict=True):
            x = up(x[:, -self.channels :])
            x = dense(torch.cat([_crop(x, skip.shape[-2:]), skip], dim=1))
        return x

    def forward(
        self, features: Features, images: Float[Tensor, "V 3 H W"]
    ) -> Float[Tensor, "V 128 h w"]:
        """Make tokens with h = ceil(H / 4), w = ceil(W / 4)."""
        return self.decode(features)[:, -TOKEN_CHANNELS:]

    def centres(self, size: int) -> Tensor:
        """Return the pixels of one image axis that its tokens stand for: 0, 4, 8, ..."""
        return torch.arange(0, size, 4)

    def scale(self, width: int) -> float:
        """Return how many pixels of the image lie between neighbouring tokens of a row."""
        return 4.0

    def distance(self, width: int) -> float:
        """Return how far apart neighbouring tokens are for the relative sine: it counts tokens."""
        return 1.0


class SampledTokens(QuarterTokens):
    """Tokens sampled from a full-resolution map at every third pixel (STTR)."""

    growth = 4
    pixel_bytes = 1700
    """measured likewise: a map of 128 channels at full size, one at 1/2, of two views, the rest"""

    def __init__(self, norm: Norm) -> None:
        super().__init__(norm)
        self.full_up = nn.Sequential(
            nn.ConvTranspose2d(self.channels, TOKEN_CHANNELS, 3, stride=2, bias=False),
            norm(TOKEN_CHANNELS),
            nn.ConvTranspose2d(TOKEN_CHANNELS, TOKEN_CHANNELS, 3, stride=2),
        )
        self.full = nn.Sequential(
            *(ConvolutionNorm(TOKEN_CHANNELS + 3, TOKEN_CHANNELS, 3, norm), nn.ReLU(inplace=True)),
            *(ConvolutionNorm(TOKEN_CHANNELS, TOKEN_CHANNELS, 3, norm), nn.ReLU(inplace=True)),
        )

    def forward(
        self, features: Features, images: Float[Tensor, "V 3 H W"]
    ) -> Float[Tensor, "V 128 h w"]:
        """Make a feature for every pixel and keep those at rows and columns 1, 4, 7, ..."""
        height, width = images.shape[-2:]
        half = self.full_up[:2](self.decode(features)[:, -self.channels :])
        row_bytes = 3 * TOKEN_CHANNELS * images[:, 0, 0].numel() * images.element_size()
        parts = pieces(height, row_bytes)
        if len(parts) > 1 and isinstance(self.full[0].norm, PairNorm):
            return self._sampled_in_strips(half, images, parts)
        x = torch.cat([_crop(self.full_up[2](half), (height, width)), images], dim=1)
        x = self.full(x)
        return x[:, :, _first(height) :: 3, _first(width) :: 3]

    def _sampled_in_strips(self, half: Tensor, images: Tensor, parts: list[slice]) -> Tensor:
        """The same with one full-size map: what the norms wait for, of which few pixels stay."""
        height, width = images.shape[-2:]
        first, _, second, _ = self.full
        wide = images.new_empty(images.shape[0], TOKEN_CHANNELS, height, width)
        moments = PairMoments()
        for part in parts:
            seen, own = widened(part, 1, height)
            x = self._enlarged_rows(half, seen, (height, width))
            x = first.convolution(torch.cat([x, images[:, :, seen]], dim=1))
            wide[:, :, part] = x[:, :, own]
            moments.add(wide[:, :, part])
        for part in parts:
            first.norm.normalise_(wide[:, :, part], moments).relu_()

        moments, kept = PairMoments(), []
        for part in parts:
            seen, own = widened(part, 1, height)
            x = second.convolution(wide[:, :, seen])[:, :, own]
            moments.add(x)
            begin = (_first(height) - part.start) % 3
            kept.append(x[:, :, begin::3, _first(width) :: 3].clone())  # a view would keep all of x
        return second.norm.normalise_(torch.cat(kept, dim=2), moments).relu_()

    def _enlarged_rows(self, half: Tensor, rows: slice, size: tuple[int, int]) -> Tensor:
        """Those rows of what enlarging `half` and cutting `size` out gives.

        Row r of the enlarged map comes from rows (r - 1) // 2 and r // 2.
        """
        enlarge, count = self.full_up[2], half.shape[-2]
        start = (2 * count + 1 - size[0]) // 2
        top, bottom = rows.start + start, rows.stop + start
        above = max((top - 1) // 2, 0)
        x = enlarge(half[:, :, above : (bottom - 1) // 2 + 1])
        left = (x.shape[-1] - size[1]) // 2
        return x[:, :, top - 2 * above : bottom - 2 * above, left : left + size[1]]

    def centres(self, size: int) -> Tensor:
        """Return the sampled pixels of one image axis: 1, 4, 7, ... (0 if there is only one)."""
        return torch.arange(_first(size), size, 3)

    def scale(self, width: int) -> float:
        """Return image width over the number of sampled columns: about, but seldom exactly, 3."""
        return width / self.centres(width).shape[0]

    def distance(self, width: int) -> float:
        """Return how far apart neighbouring tokens are for the relative sine: it counts pixels."""
        return self.scale(width)


def _first(size: int) -> int:
    """The first sampled pixel of an image axis."""
    return min(1, size - 1)


def _cell_means(x: Float[Tensor, "V C h w"], cell: int) -> Float[Tensor, "V C _ _"]:
    """Means of whole cells of `cell` x `cell`; where the map is smaller, of cells as large as it.

    The reference fails there (below 121 px).
    """
    height, width = x.shape[-2:]
    if not torch.jit.is_tracing():
        return F.avg_pool2d(x, (min(cell, height), min(cell, width)))
    # Recorded for any size: zeros around a smaller map, and their share taken out again.
    below, right = (torch.as_tensor(cell - side).clamp(min=0) for side in (height, width))
    share = (1 - below / cell) * (1 - right / cell)
    return F.avg_pool2d(F.pad(x, (0, right, 0, below)), cell) / share


def _residual_stage(in_channels: int, channels: int, norm: Norm) -> nn.Sequential:
    block = partial(ResidualBlock, channels=channels, norm=norm)
    return nn.Sequential(
        block(in_channels, stride=2), block(channels, stride=1), block(channels, stride=1)
    )


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size, mode="bilinear", align_corners=False)


def _crop(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut the centre out; a transposed convolution makes n into 2n + 1, one or two too many."""
    top, left = (x.shape[-2] - size[0]) // 2, (x.shape[-1] - size[1]) // 2
    return x[:, :, top : top + size[0], left : left + size[1]]
