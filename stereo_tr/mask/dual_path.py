"""The dual-path layer: pixels and object queries update each other, four ways by one argument.

    "cross"        queries attend to pixels and to each other: one softmax over all keys
    "dual_cross"   and pixels attend to the queries
    "kmeans"       each pixel goes to the query whose mask it fits best; queries gather their pixels
    "dual_kmeans"  and pixels attend to the queries

From cross-attention to k-means is one word, the assignment: softmax over the keys becomes arg-max
over the queries.

Letters  B batch, Q queries, C channels, h w size of a map, Cp of pixels, Cm of queries
Source   MaX-DeepLab, section 3.2, https://arxiv.org/abs/2012.00759; kMaX-DeepLab, section 3.2,
         https://arxiv.org/abs/2207.04044
Tests    tests/mask/test_dual_path.py: the authors' layers (TensorFlow and PyTorch), with gradients
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..attention import ASSIGNMENTS, NormalisedAttention, gather
from ..attention import drop_path as dropped
from ..attention.normalised import BatchNorm
from .blocks import HEADS, Activation, ConvolutionNorm
from .heads import MaskHead, Prediction


class Interaction(NamedTuple):
    """How queries learn from pixels, and whether pixels learn from queries."""

    assignments: tuple[str, ...]
    """of stereo_tr.attention.ASSIGNMENTS: "over keys" is attention, the others are clustering; two
    of them add up"""
    pixel_update: bool
    """let pixels attend to queries"""
    self_attention: bool = True
    """let queries attend to queries"""


INTERACTIONS = {
    "cross": Interaction(("over keys",), pixel_update=False),
    "dual_cross": Interaction(("over keys",), pixel_update=True),
    "kmeans": Interaction(("nearest query",), pixel_update=False),
    "dual_kmeans": Interaction(("nearest query",), pixel_update=True),
}


class LayerOutput(NamedTuple):
    """What a decoder layer hands on, and what it says about the masks."""

    pixels: Float[Tensor, "B Cp h w"]
    queries: Float[Tensor, "B Cm 1 Q"]
    prediction: Prediction | None
    """of the layer's own head; None where it has none"""
    assignment: Float[Tensor, "B Q h w"]
    """how much of each pixel went to each query, summing to 1 over the queries; no gradient"""
    logits: Float[Tensor, "B Q h w"] | None = None
    """scores that the next layer starts from, in layers that hand them on (CMT-DeepLab)"""
    reference: Float[Tensor, "B Q 4"] | None = None
    """mean and spread, x before y, of the mask that a query looks for (CMT-DeepLab)"""


class DualPathLayer(nn.Module):
    """One layer, working at `2 * filters` channels (keys at `filters`); see the module's text.

    Clustering needs masks to compare: a layer that clusters has a head of its own for
    `num_classes`, which learns by deep supervision only, as no gradient passes an arg-max. With
    `predicts`, attention has such a head, too. `feed_forward=0` leaves that part out.
    """

    def __init__(
        self,
        pixels: int,
        queries: int,
        interaction: Interaction,
        *,
        num_classes: int,
        predicts: bool = False,
        filters: int = 128,
        heads: int = HEADS,
        feed_forward: int = 2048,
        activation: Activation = nn.GELU,
        drop_path: int | float = 0.0,
        head_sizes: dict[str, int] | None = None,
    ) -> None:
        super().__init__()
        unknown = [word for word in interaction.assignments if word not in ASSIGNMENTS]
        if unknown:
            raise ValueError(f"assignment={unknown[0]!r}; known are {', '.join(ASSIGNMENTS)}")
        width, keys, values = 2 * filters, filters, 2 * filters
        self.interaction, self.drop_path = interaction, drop_path
        self.attends = "over keys" in interaction.assignments
        self.clustering = [word for word in interaction.assignments if word != "over keys"]
        self.activation = activation()
        self.enter_queries = ConvolutionNorm(queries, width, activation=activation)
        self.enter_pixels = ConvolutionNorm(pixels, width, activation=activation)

        # Only what is read: queries' and pixels' (query, key, value) channels.
        looked_at = interaction.self_attention or interaction.pixel_update
        asks = self.attends or interaction.self_attention
        self.of_queries = (keys if asks else 0, *((keys, values) if looked_at else (0, 0)))
        self.of_pixels = (
            keys if interaction.pixel_update else 0,
            keys if self.attends else 0,
            values,
        )
        self.project_queries = projection(width, sum(self.of_queries))
        self.project_pixels = projection(width, sum(self.of_pixels))

        self.attention = NormalisedAttention(heads, keys, values) if asks else None
        self.leave_attention = (
            ConvolutionNorm(values, queries, starts_as_zero=True) if asks else None
        )
        self.cluster_norm = BatchNorm(values) if self.clustering else None
        self.leave_cluster = (
            ConvolutionNorm(values, queries, starts_as_zero=True) if self.clustering else None
        )
        self.head = (
            MaskHead(width, width, num_classes, activation=activation, **(head_sizes or {}))
            if predicts or self.clustering
            else None
        )
        self.feed_forward = (
            nn.Sequential(
                ConvolutionNorm(queries, feed_forward, activation=activation),
                ConvolutionNorm(feed_forward, queries, starts_as_zero=True),
            )
            if feed_forward
            else None
        )
        self.pixel_attention = (
            NormalisedAttention(heads, keys, values) if interaction.pixel_update else None
        )
        self.leave_pixels = (
            ConvolutionNorm(values, pixels, starts_as_zero=True)
            if interaction.pixel_update
            else None
        )

    def forward(
        self,
        pixels: Float[Tensor, "B Cp h w"],
        queries: Float[Tensor, "B Cm 1 Q"],
        logits: Float[Tensor, "B Q _ _"] | None = None,
    ) -> LayerOutput:
        """Update both; pixels come and go un-activated, queries activated.

        `logits`, where queries start from seeds, are added to the layer's own mask logits and not
        handed on.
        """
        size = pixels.shape[2:]
        p, q = self.enter_pixels(self.activation(pixels)), self.enter_queries(queries)
        prediction = self.head(p, q, q) if self.head else None
        if prediction is not None and logits is not None:
            prediction = prediction.plus(logits)
        query_q, key_q, value_q = self.project_queries(q).flatten(2).split(self.of_queries, dim=1)
        query_p, key_p, value_p = self.project_pixels(p).flatten(2).split(self.of_pixels, dim=1)

        updated, assignment = queries, None
        for word in self.clustering:
            scores = prediction.masks.mask_logits.detach().flatten(2)
            tokens, weights = gather(scores, value_p.transpose(1, 2), word)
            gathered = tokens.transpose(1, 2)[:, :, None]
            update = self.leave_cluster(self.cluster_norm(gathered))
            updated = updated + self._dropped(update)
            assignment = weights.unflatten(2, size)
        if self.attention is not None:
            keys = [key_p] * self.attends + [key_q] * self.interaction.self_attention
            values = [value_p] * self.attends + [value_q] * self.interaction.self_attention
            attended = self.attention(
                query_q,
                torch.cat(keys, dim=2),
                torch.cat(values, dim=2),
                with_scores=assignment is None,
            )
            tokens = attended.tokens.transpose(1, 2)[:, :, None]
            updated = updated + self._dropped(self.leave_attention(self.activation(tokens)))
            if assignment is None:
                assignment = _shares(attended.weights[..., : value_p.shape[2]].detach(), size)
        updated = self.activation(updated)
        if self.feed_forward is not None:
            updated = self.activation(updated + self._dropped(self.feed_forward(updated)))

        if self.pixel_attention is not None:
            tokens = self.pixel_attention(query_p, key_q, value_q).tokens
            tokens = self.activation(tokens.transpose(1, 2)).unflatten(2, size)
            pixels = pixels + self._dropped(self.leave_pixels(tokens))
        return LayerOutput(pixels, updated, prediction, assignment)

    def _dropped(self, branch: Tensor) -> Tensor:
        return dropped(branch, self.drop_path) if self.drop_path and self.training else branch


def projection(inputs: int, outputs: int) -> ConvolutionNorm:
    """Project to queries, keys and values."""
    projection = ConvolutionNorm(inputs, outputs)
    nn.init.trunc_normal_(projection.conv.weight, std=inputs**-0.5)
    return projection


def _shares(weights: Float[Tensor, "B E Q P"], size: tuple[int, ...]) -> Float[Tensor, "B Q h w"]:
    """To which query a pixel mattered most: its attention weights, shared out over the queries."""
    weights = weights.mean(1)
    weights = weights / weights.sum(1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
    return weights.unflatten(2, size)
