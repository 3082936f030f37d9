"""Blocks: attention or a feed-forward in a residual branch, with the place of the norm as a choice.

A transformer block is a sequence of `Residual` branches over maps [B, H, W, C]; a branch is a
`LayoutAttention` (who meets whom) or a `FeedForward`.

Letters  B maps, H W size of a map in tokens, C channels
Source   post-norm: Vaswani et al. 2017; pre-norm: https://arxiv.org/abs/2002.04745; norm on the
         branch: Swin V2, https://arxiv.org/abs/2111.09883; layer scale: CaiT,
         https://arxiv.org/abs/2103.17239; drop path: https://arxiv.org/abs/1603.09382
Tests    tests/attention/test_blocks.py: torch.nn.TransformerEncoderLayer
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .attend import Attention
from .dense import Dense
from .layouts import Layout
from .memory import maps_are_whole, pieces, summed, widened
from .positions import WindowOffsetTable

NormPlacement = Literal["pre", "post", "branch"]


class LayoutAttention(nn.Module):
    """Attention among the tokens that a layout brings together."""

    def __init__(self, layout: Layout, attention: Attention) -> None:
        super().__init__()
        self.layout = layout
        self.attention = attention

    def forward(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "B H W C"]:
        """Split the map, attend, merge; where memory asks for it, a part of the map at a time."""
        axis = self.layout.apart
        if axis is None:
            return self._attended(x)
        # queries, keys, values, their turned copies, what is found, and three orders of the tokens
        batch, *sides, channels = x.shape
        each = 10 * batch * sides[2 - axis] * channels * x.element_size()
        parts = pieces(x.shape[axis], each, cached=not x.is_cuda)
        if len(parts) == 1 or maps_are_whole():
            return self._attended(x)
        result = None
        for part in parts:
            place = *[slice(None)] * axis, part
            found = self._attended(x[place])
            if result is None:
                result = found.new_empty(x.shape)
            result[place] = found
        return result

    def _attended(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "B H W C"]:
        _, height, width, _ = x.shape
        tokens = self.layout.split(x)
        itself = type(self.layout).context is Layout.context  # then it is split once, not twice
        context = None if itself else self.layout.context(x)
        mask = self.layout.mask(height, width, x.device)
        if mask is not None and mask.shape[0] > 1:  # one mask a window; every map has them all
            mask = mask.repeat(tokens.shape[0] // mask.shape[0], 1, 1)
        if mask is not None:
            mask = mask[:, None]  # the same for every head
        position = self.attention.position
        if isinstance(position, WindowOffsetTable):  # the only term that must know a window's shape
            position = position.resized(*self.layout.window(height, width))
        attended = self.attention(tokens, context, mask=mask, position=position).tokens
        return self.layout.merge(attended, height, width)


class FeedForward(nn.Module):
    """Two linear layers with an activation between, for every token alone.

    With `gated`, the activation of one half multiplies the other (GeGLU). With `mixing`, a
    depthwise convolution of that (odd) size lets neighbouring tokens talk between the two layers,
    which also tells them where they stand; the input is a map [B, H, W, C] then.
    """

    def __init__(
        self,
        channels: int,
        hidden: int,
        activation: Callable[[], nn.Module] = nn.GELU,
        *,
        gated: bool = False,
        mixing: int | None = None,
    ) -> None:
        super().__init__()
        if mixing is not None and mixing % 2 == 0:
            raise ValueError(f"mixing={mixing} must be odd, to be centred on a token")
        self.widen = Dense(channels, hidden * (2 if gated else 1))
        self.mix = (
            nn.Conv2d(hidden, hidden, mixing, padding=mixing // 2, groups=hidden)
            if mixing
            else None
        )
        self.activation = activation()
        self.gated = gated
        self.narrow = Dense(hidden, channels)

    def forward(self, x: Float[Tensor, "*B C"]) -> Float[Tensor, "*B C"]:
        """Widen, (mix,) activate, narrow; where tokens mix, a few rows of the map at a time."""
        if self.mix is None:
            return self._all(x)
        # widened, mixed and activated, and once more what the convolution asks for
        each = 4 * x.shape[0] * x.shape[2] * self.widen.out_features * x.element_size()
        parts = pieces(x.shape[1], each, cached=not x.is_cuda)
        if len(parts) == 1:
            return self._all(x)
        halo, result = self.mix.kernel_size[0] // 2, torch.empty_like(x)
        for part in parts:
            seen, own = widened(part, halo, x.shape[1])
            result[:, part] = self._all(x[:, seen])[:, own]
        return result

    def _all(self, x: Tensor) -> Tensor:
        x = self.widen(x)
        gate = None
        if self.gated:
            x, gate = x.chunk(2, dim=-1)
        if self.mix is None:
            x = self.activation(x)
        else:  # activated as it comes from the convolution, so that this can be done in place
            x = self.activation(self.mix(x.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)
        return self.narrow(x if gate is None else x * gate)


def drop_path(
    branch: Float[Tensor, " B *rest"], probability: int | float
) -> Float[Tensor, " B *rest"]:
    """Zero a sample's branch with that probability; enlarge the others' so that the mean stays.

    Raises ValueError for a probability outside [0, 1).
    """
    _check_drop_path(probability)
    keep = torch.rand(branch.shape[0], *[1] * (branch.ndim - 1), device=branch.device)
    return branch * (keep >= probability) / (1 - probability)


def _check_drop_path(probability: int | float) -> None:
    if not 0 <= probability < 1:  # at 1 no sample is left whose branch could be enlarged
        raise ValueError(
            f"drop_path={probability} must be at least 0 and below 1; give 0 to drop nothing"
        )


class Residual(nn.Module):
    """x plus a branch of x.

    norm "pre": x + branch(norm(x)); "post": norm(x + branch(x)); "branch": x + norm(branch(x)).
    `layer_scale` starts a learned factor for each channel of the branch at that value; `drop_path`,
    in [0, 1), is the probability, in training, that a sample skips the branch (the others' branch
    is enlarged so that the mean stays). What `branch` returns must be its own, and hooks mustn't
    keep it: without gradients the sum may take its memory. Raises ValueError for another `norm` or
    `drop_path`.
    """

    def __init__(
        self,
        branch: nn.Module,
        channels: int,
        *,
        norm: NormPlacement = "pre",
        make_norm: Callable[[int], nn.Module] = nn.LayerNorm,
        layer_scale: int | float | None = None,
        drop_path: int | float = 0.0,
    ) -> None:
        super().__init__()
        if norm not in ("pre", "post", "branch"):
            raise ValueError(f"norm={norm!r}; allowed are 'pre', 'post' and 'branch'")
        _check_drop_path(drop_path)
        self.branch = branch
        self.norm = make_norm(channels)
        self.placement = norm
        self.scale = (
            None
            if layer_scale is None
            else nn.Parameter(torch.full((channels,), float(layer_scale)))
        )
        self.drop_path = drop_path

    def forward(self, x: Float[Tensor, "B *rest C"]) -> Float[Tensor, "B *rest C"]:
        """Add the branch."""
        branch = self.branch(self.norm(x) if self.placement == "pre" else x)
        if self.placement == "branch":
            branch = self.norm(branch)
        if self.scale is not None:
            branch = branch * self.scale
        if self.drop_path and self.training:
            branch = drop_path(branch, self.drop_path)
        total = summed(x, branch)
        return self.norm(total) if self.placement == "post" else total
