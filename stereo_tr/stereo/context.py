"""The context-enhanced transformer: matching tokens on epipolar lines, context on a coarser path.

Two paths run side by side through all layers. On the main path (1/4) every token looks along its
epipolar line in the other view. On the context path (1/16) tokens look along their column, their
row and their epipolar line, so that two layers connect any two places of an image. In each layer
the paths exchange what they know, by addition, and both go on.

Letters  B maps (left views, then right views), C C2 channels of the main and the context path,
         h w size of the main path in tokens, a multiple of CONTEXT_STRIDE
Source   CSTR, https://arxiv.org/abs/2210.11719: two paths, axial attention for context. Unlike the
         published code, the context is carried through all layers, and position is rotary.
Tests    tests/stereo/test_model.py
"""

from collections.abc import Collection
from functools import partial

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..attention import (
    Attention,
    Columns,
    Dense,
    EpipolarLine,
    FeedForward,
    Layout,
    LayoutAttention,
    Residual,
    Rotary,
    Rows,
)
from ..attention.memory import summed

CONTEXT_STRIDE = 4
"""tokens of the main path under one token of the context path, along each axis"""

LAYOUTS: dict[str, Layout] = {
    "columns": Columns(),
    "rows": Rows(),
    "epipolar lines": EpipolarLine(),
}
"""where a token of the context path can look, in this order"""

# The slowest pair of channels turns once within what training crops show, so that larger images ask
# for no angle that was never seen.
MAIN_POSITION = Rotary(shortest=4.0, longest=160.0)
CONTEXT_POSITION = Rotary(shortest=3.0, longest=40.0)


class ContextLayer(nn.Module):
    """Match, tell the context, look around there, tell the matching."""

    def __init__(
        self,
        channels: int,
        heads: int,
        context_channels: int,
        context_heads: int,
        looks: Collection[str] = tuple(LAYOUTS),
    ) -> None:
        """Sizes of both paths. `looks` are keys of LAYOUTS; with none there is no context path.

        Raises ValueError for others.
        """
        super().__init__()
        if unknown := set(looks) - set(LAYOUTS):
            raise ValueError(f"context {sorted(unknown)}: known are {', '.join(LAYOUTS)}")
        self.matching = nn.Sequential(
            _attention(EpipolarLine(), channels, heads, MAIN_POSITION),
            _feed_forward(channels),
        )
        self.context = None
        if not looks:
            return
        self.context = nn.Sequential(
            *(
                _attention(layout, context_channels, context_heads, CONTEXT_POSITION)
                for name, layout in LAYOUTS.items()
                if name in looks
            ),
            _feed_forward(context_channels),
        )
        self.to_context = Dense(channels, context_channels)
        self.to_main = Dense(context_channels, channels)

    def forward(
        self, main: Float[Tensor, "B h w C"], context: Float[Tensor, "B h/4 w/4 C2"]
    ) -> tuple[Float[Tensor, "B h w C"], Float[Tensor, "B h/4 w/4 C2"]]:
        """Advance both paths by one layer."""
        main = self.matching(main)
        if self.context is None:
            return main, context
        coarse = F.avg_pool2d(main.permute(0, 3, 1, 2), CONTEXT_STRIDE).permute(0, 2, 3, 1)
        context = self.context(context + self.to_context(coarse))
        fine = F.interpolate(
            self.to_main(context).permute(0, 3, 1, 2),
            scale_factor=CONTEXT_STRIDE,
            mode="bilinear",
            align_corners=False,
        ).permute(0, 2, 3, 1)
        return summed(main, fine), context


def _attention(layout: Layout, channels: int, heads: int, position: Rotary) -> Residual:
    attention = Attention(channels, heads, position=position)
    return Residual(LayoutAttention(layout, attention), channels)


def _feed_forward(channels: int) -> Residual:
    activation = partial(nn.ReLU, inplace=True)
    return Residual(FeedForward(channels, 2 * channels, activation, mixing=3), channels)
