"""CMT-DeepLab's layer: object queries are cluster centres, cross-attention is joined by clustering.

    assignment   Z = affinity of centres and pixels + Z of the layer before
    centres      C + softmax over pixels(Z) V(P) + mean over softmax over centres(Z) of V(P)
    pixels       P + softmax over centres(Z) V(C)

The affinity is location-sensitive: pixels know where they stand, and a centre says where, and how
widely spread, the mask is that it looks for (its reference). No code of CMT-DeepLab was published.
The paper leaves open whether the clustering update is divided by the clusters' mass; here it is, so
that a centre moves to the mean of its pixels, whatever their number. Queries attend to queries and
have a feed-forward as in the k-means layer.

Letters  B batch, Q centres, h w size of a map, Cp channels of pixels, Cm of centres
Source   CMT-DeepLab, section 3, https://arxiv.org/abs/2206.08948
Tests    tests/mask/test_clustering.py: row sums, residual identity, order of the centres, and the
         limits: cross-attention, and k-means as the temperature falls
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..attention import NormalisedAttention, gather
from ..attention import drop_path as dropped
from ..attention.normalised import BatchNorm
from .assignment import QueryTargets
from .blocks import HEADS, Activation, ConvolutionNorm, corners_stay, resized
from .dual_path import LayerOutput, projection
from .heads import MaskHead, Prediction
from .output import MaskPrediction

REFERENCE = 4
"""numbers that describe a reference mask: mean x, y and spread in x, y"""

COORDINATES = 2


class ClusteringLayer(nn.Module):
    """One layer; `assignments` are words of stereo_tr.attention.ASSIGNMENTS, whose updates add up.

    `temperature` divides Z before it is shared out over the centres; as it falls, clustering
    becomes k-means. `predicts` is always true: Z are mask logits, supervised in every layer.
    """

    def __init__(
        self,
        pixels: int,
        queries: int,
        *,
        num_classes: int,
        predicts: bool = True,
        filters: int = 128,
        heads: int = HEADS,
        feed_forward: int = 2048,
        activation: Activation = nn.GELU,
        drop_path: int | float = 0.0,
        head_sizes: dict[str, int] | None = None,
        assignments: tuple[str, ...] = ("over keys", "over queries"),
        temperature: int | float = 1.0,
    ) -> None:
        super().__init__()
        width, keys, values = 2 * filters, filters, 2 * filters
        self.assignments, self.temperature, self.drop_path = assignments, temperature, drop_path
        self.activation = activation()
        self.enter_queries = ConvolutionNorm(queries, width, activation=activation)
        self.enter_pixels = ConvolutionNorm(pixels, width, activation=activation)
        self.reference = nn.Conv2d(width, REFERENCE, 1)
        nn.init.zeros_(self.reference.bias)
        self.head = MaskHead(
            width + COORDINATES,
            width + REFERENCE,
            num_classes,
            activation=activation,
            **(head_sizes or {}),
        )
        self.pixel_values = projection(width, values)
        self.project_queries = projection(width, 2 * keys + values)
        self.split = (keys, keys, values)
        self.gathered_norm = nn.ModuleList(BatchNorm(values) for _ in assignments)
        self.leave_gathered = nn.ModuleList(
            ConvolutionNorm(values, queries, starts_as_zero=True) for _ in assignments
        )
        self.attention = NormalisedAttention(heads, keys, values)
        self.leave_attention = ConvolutionNorm(values, queries, starts_as_zero=True)
        self.feed_forward = nn.Sequential(
            ConvolutionNorm(queries, feed_forward, activation=activation),
            ConvolutionNorm(feed_forward, queries, starts_as_zero=True),
        )
        self.pixel_norm = BatchNorm(values)
        self.leave_pixels = ConvolutionNorm(values, pixels, starts_as_zero=True)

    def forward(
        self,
        pixels: Float[Tensor, "B Cp h w"],
        queries: Float[Tensor, "B Cm 1 Q"],
        logits: Float[Tensor, "B Q _ _"] | None = None,
    ) -> LayerOutput:
        """Update both; `logits` is the assignment of the layer before, at any size."""
        size = pixels.shape[2:]
        p, q = self.enter_pixels(self.activation(pixels)), self.enter_queries(queries)
        reference = reference_mask(self.reference(q))
        seen = torch.cat((p, coordinates(p)), dim=1)
        asked = torch.cat((q, reference), dim=1)
        (classes, masks), features = self.head(seen, asked, asked)
        if logits is not None:
            masks = masks + resized(logits, masks, corners=corners_stay(logits))

        scores, values = masks.flatten(2), self.pixel_values(p).flatten(2).transpose(1, 2)
        updated, shares = queries, None
        for word, norm, leave in zip(
            self.assignments, self.gathered_norm, self.leave_gathered, strict=True
        ):
            attends = word == "over keys"
            temperature = 1.0 if attends else self.temperature
            tokens, weights = gather(
                scores, values, word, temperature=temperature, mean=not attends
            )
            updated = updated + self._dropped(leave(self.activation(norm(_as_map(tokens)))))
            shares = shares if attends else weights
        query, key, value = self.project_queries(q).flatten(2).split(self.split, dim=1)
        among = self.activation(_as_map(self.attention(query, key, value).tokens))
        updated = self.activation(updated + self._dropped(self.leave_attention(among)))
        updated = self.activation(updated + self._dropped(self.feed_forward(updated)))

        # Each pixel shares itself out over the centres: attention the other way round.
        of_centres, given = gather(
            scores.transpose(1, 2), value.transpose(1, 2), "over keys", temperature=self.temperature
        )
        back = of_centres.transpose(1, 2).unflatten(2, size)
        pixels = pixels + self._dropped(self.leave_pixels(self.activation(self.pixel_norm(back))))
        shares = given.transpose(1, 2) if shares is None else shares
        return LayerOutput(
            pixels,
            updated,
            Prediction(MaskPrediction(classes, masks), features),
            shares.detach().unflatten(2, size),
            masks,
            reference[:, :, 0].transpose(1, 2),
        )

    def _dropped(self, branch: Tensor) -> Tensor:
        return dropped(branch, self.drop_path) if self.drop_path and self.training else branch


def coordinates(like: Float[Tensor, "B _ h w"]) -> Float[Tensor, "B 2 h w"]:
    """Where the places of a map are, x and y, from -1 at the left (top) border to 1."""
    height, width = like.shape[2:]
    y, x = (
        (2 * torch.arange(side, device=like.device, dtype=like.dtype) + 1) / side - 1
        for side in (height, width)
    )
    grid = torch.stack((x.expand(height, -1), y[:, None].expand(-1, width)))
    return grid.expand(like.shape[0], -1, -1, -1)


def reference_mask(raw: Float[Tensor, "B 4 1 Q"]) -> Float[Tensor, "B 4 1 Q"]:
    """Mean in [-1, 1] and spread in (0, 1), in half widths and half heights of the image."""
    mean, spread = raw.chunk(2, dim=1)
    return torch.cat((mean.tanh(), spread.sigmoid()), dim=1)


def moments(masks: Float[Tensor, "B Q h w"]) -> Float[Tensor, "B Q 4"]:
    """Mean and standard deviation of x and y over a mask: what its reference should be.

    Zeros for an empty mask.
    """
    grid = coordinates(masks[:, :1]).flatten(2).transpose(1, 2)
    weights = F.normalize(masks.flatten(2), p=1, dim=2)
    mean, squares = weights @ grid, weights @ grid.square()
    return torch.cat((mean, (squares - mean.square()).clamp(min=0).sqrt()), dim=2)


def _as_map(tokens: Float[Tensor, "B Q C"]) -> Float[Tensor, "B C 1 Q"]:
    return tokens.transpose(1, 2)[:, :, None]


def reference_loss(
    references: tuple[Float[Tensor, "B Q 4"], ...], asked: QueryTargets, num_classes: int
) -> Float[Tensor, ""]:
    """Mean distance (L1) from the references of every layer to the moments of the matched masks.

    Zero where nothing was matched.
    """
    matched = (asked.classes != num_classes)[..., None]
    wanted = moments(asked.masks)
    total = sum(((each - wanted).abs() * matched).sum() for each in references)
    return total / (REFERENCE * len(references) * matched.sum().clamp(min=1))
