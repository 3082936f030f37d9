"""The mask decoder: learned queries go through a stack of layers, then say class and mask.

Letters  B batch, Q queries, C channels, h w size of a map
Source   kMaX-DeepLab, section 3.3, https://arxiv.org/abs/2207.04044
Tests    tests/mask/test_kmax_decoder.py: the authors' decoder (PyTorch), all outputs
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .blocks import ConvolutionNorm
from .clustering import ClusteringLayer
from .dual_path import INTERACTIONS, DualPathLayer
from .heads import MaskHead
from .output import MaskOutput
from .seeds import SeededQueries

CHANNELS = 256
"""of a query"""

CLUSTERING = "clustering"
"""the fifth interaction: CMT-DeepLab's"""


def make_layer(interaction: str, **sizes: object) -> nn.Module:
    """Make one decoder layer; `sizes` as DualPathLayer takes them.

    Raises ValueError for an interaction that isn't known.
    """
    if interaction == CLUSTERING:
        return ClusteringLayer(**sizes)
    if interaction not in INTERACTIONS:
        known = ", ".join((*INTERACTIONS, CLUSTERING))
        raise ValueError(f"interaction={interaction!r}; known are {known}")
    return DualPathLayer(interaction=INTERACTIONS[interaction], **sizes)


class MaskDecoder(nn.Module):
    """`depths` layers on each of the coarser maps, in order, and a head on the finest.

    `pixels` are the maps' channels, the coarsest first. `seeds`: queries start from pixels, see
    seeds.py. `sizes` go to every layer: filters, heads, feed_forward, drop_path, predicts.
    """

    def __init__(
        self,
        pixels: Sequence[int],
        *,
        num_classes: int,
        num_queries: int,
        interaction: str,
        depths: Sequence[int] = (2, 2, 2),
        channels: int = CHANNELS,
        head_sizes: dict[str, int] | None = None,
        seeds: bool = False,
        **sizes: object,
    ) -> None:
        super().__init__()
        if num_classes < 1 or num_queries < 1:
            raise ValueError(f"num_classes={num_classes}, num_queries={num_queries}: at least 1")
        if len(depths) != len(pixels) - 1:
            raise ValueError(
                f"layers={tuple(depths)}: one number for each of {len(pixels) - 1} maps"
            )
        self.queries = nn.Parameter(torch.empty(channels, num_queries))
        nn.init.trunc_normal_(self.queries, std=1.0)
        self.layers = nn.ModuleList(
            nn.ModuleList(
                make_layer(
                    interaction,
                    pixels=width,
                    queries=channels,
                    num_classes=num_classes,
                    head_sizes=head_sizes,
                    **sizes,
                )
                for _ in range(depth)
            )
            for width, depth in zip(pixels, depths, strict=False)
        )
        activation: Callable[[], nn.Module] = nn.GELU
        self.of_classes = ConvolutionNorm(channels, channels, activation=activation)
        self.of_masks = ConvolutionNorm(channels, channels, activation=activation)
        self.head = MaskHead(
            pixels[-1], channels, num_classes, activation=activation, **(head_sizes or {})
        )
        self.seeds = SeededQueries(self.head.feature.conv.out_channels, channels) if seeds else None

    def forward(self, maps: Sequence[Float[Tensor, "B _ _ _"]]) -> MaskOutput:
        """Predict from maps that are un-activated, the coarsest first; masks at the finest.

        The last update of a map's pixels goes nowhere, as published. It is tied to the result with
        weight 0, as processes that average their gradients want one for every parameter.
        """
        queries = self.queries[None, :, None].expand(maps[0].shape[0], -1, -1, -1)
        features, start = self.head.pixel_features(maps[-1]), None
        if self.seeds is not None:
            queries, start = self.seeds(features, queries)
        outputs, logits, idle = [], start, 0.0
        for layers, of_encoder in zip(self.layers, maps, strict=False):
            pixels = of_encoder
            for layer in layers:
                output = layer(pixels, queries, logits)
                pixels, queries = output.pixels, output.queries
                logits = logits if output.logits is None else output.logits
                outputs.append(output)
            if pixels is not of_encoder:
                idle = idle + 0.0 * pixels.mean()
        final = self.head.predict(features, self.of_masks(queries) + idle, self.of_classes(queries))
        if start is not None:
            final = final.plus(start)
        predictions = [output.prediction for output in outputs if output.prediction]
        return MaskOutput(
            final=final.masks,
            auxiliary=tuple(prediction.masks for prediction in predictions),
            pixel_features=final.features,
            assignments=tuple(output.assignment for output in outputs),
            auxiliary_features=tuple(prediction.features for prediction in predictions),
            references=tuple(
                output.reference for output in outputs if output.reference is not None
            ),
        )
