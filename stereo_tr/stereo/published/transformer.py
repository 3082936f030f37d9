"""The transformers of the published models: within a view, across the views, layer after layer.

The main path holds the tokens that are matched. CSTR adds a context path of half the width, which
is told about the other view too but keeps nothing of it: only its own self-attention carries over.

Letters  B pairs, V = 2B views (lefts, then rights), h w token grid, n columns of the context, C
Source   Li et al. 2021 (STTR), https://arxiv.org/abs/2011.02910; Guo et al. 2022 (CSTR),
         https://arxiv.org/abs/2210.11719
Tests    tests/stereo/test_published.py: the original code's tokens after the first layer and last
         scores; test_published_attention.py: float64 loops, odd widths, scales that aren't whole
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from stereo_tr.attention import Attention, Columns, Layout, RelativeSine, Rows
from stereo_tr.attention.dense import dense

from .features import TOKEN_CHANNELS


class AxialSelfAttention(nn.Module):
    """Tokens of one view exchange along their column (CSTR only), then along their row."""

    def __init__(self, heads: int, *, columns: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(TOKEN_CHANNELS)
        self.columns = Attention(TOKEN_CHANNELS, heads) if columns else None
        self.rows = Attention(TOKEN_CHANNELS, heads)

    def forward(
        self, x: Float[Tensor, "V h n C"], position: RelativeSine
    ) -> Float[Tensor, "V h n C"]:
        """Add rows(columns(norm(x))) to x; `position` tells distances along a row."""
        update = self.norm(x)
        if self.columns is not None:
            update = _along(Columns(), self.columns, update, update, RelativeSine())
        return x + _along(Rows(), self.rows, update, update, position)


class ViewExchange(nn.Module):
    """The two views look at each other's rows: first the right one, then the left one."""

    def __init__(self, heads: int, *, updated_norm: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(TOKEN_CHANNELS)
        self.updated_norm = nn.LayerNorm(TOKEN_CHANNELS) if updated_norm else None
        self.attention = Attention(TOKEN_CHANNELS, heads)

    def forward(
        self, x: Float[Tensor, "V h n C"], position: RelativeSine, *, in_turn: bool
    ) -> Float[Tensor, "V h n C"]:
        """Update both views; `in_turn` lets the left one see the right one's update already."""
        left, right = x.chunk(2)
        left_seen = self.norm(left)
        new_right, right_seen = self._right(left_seen, right, position, in_turn)
        new_left = left + _along(Rows(), self.attention, left_seen, right_seen, position)
        return torch.cat([new_left, new_right])

    def before_scores(
        self, x: Float[Tensor, "V h w C"], position: RelativeSine
    ) -> tuple[Float[Tensor, "B h w C"], Float[Tensor, "B h w C"]]:
        """Return both views as the last scores compare them: the right one updated."""
        left, right = x.chunk(2)
        left_seen = self.norm(left)
        _, right_seen = self._right(left_seen, right, position, in_turn=True)
        return left_seen, right_seen

    def scores(
        self,
        left_seen: Float[Tensor, "B h w C"],
        right_seen: Float[Tensor, "B h w C"],
        position: RelativeSine,
    ) -> Float[Tensor, "B h w w"]:
        """Return how well left tokens match right ones of no larger column; -inf for the others."""
        width = left_seen.shape[2]
        behind = torch.ones(width, width, dtype=torch.bool, device=left_seen.device).triu(1)
        rows = Rows()
        scores = self.attention.total_scores(
            rows.split(left_seen), rows.split(right_seen), position
        )
        return scores.masked_fill_(behind, -torch.inf).unflatten(0, left_seen.shape[:2])

    def _right(
        self, left_seen: Tensor, right: Tensor, position: RelativeSine, in_turn: bool
    ) -> tuple[Tensor, Tensor]:
        """Update the right view; also return it as the left view is to see it."""
        seen = self.norm(right)
        backward = replace(position, reversed=True)
        updated = right + _along(Rows(), self.attention, seen, left_seen, backward)
        if not in_turn:
            return updated, seen
        return updated, (self.updated_norm or self.norm)(updated)


class ContextMerge(nn.Sequential):
    """Two convolutions that make new main tokens of the context and the main path.

    Left and right view lie in one map, left above right, so that the 3x3 kernel mixes the last left
    row and the first right row: a fault of the published model that its weights were trained with.
    """

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(2 * TOKEN_CHANNELS, TOKEN_CHANNELS, 1),
            nn.Conv2d(TOKEN_CHANNELS, TOKEN_CHANNELS, 3, padding=1),
        )

    def forward(
        self, main: Float[Tensor, "V h w C"], context: Float[Tensor, "V h n C"]
    ) -> Float[Tensor, "V h w C"]:
        """Resize the context to the width of the main path and mix; there is no residual.

        A 1x1 kernel and resizing commute, so the context is mapped while it is small, and nothing
        of both paths has to be put together.
        """
        mix, spread = self
        of_context, of_main = mix.weight[..., 0, 0].split(TOKEN_CHANNELS, dim=1)
        context = _stack_views(dense(context, of_context))
        mixed = _stack_views(dense(main, of_main, mix.bias))
        context = F.interpolate(context, mixed.shape[-2:], mode="bilinear", align_corners=False)
        merged = spread(mixed + context).permute(0, 2, 3, 1)
        return merged.unflatten(1, (2, -1)).transpose(0, 1).flatten(0, 1)


class WithinViews(nn.Module):
    """The first half of a layer: self-attention on the main and the context path."""

    def __init__(self, heads: int, context: bool) -> None:
        super().__init__()
        self.main = AxialSelfAttention(heads, columns=context)
        self.context = AxialSelfAttention(heads, columns=True) if context else None


class AcrossViews(nn.Module):
    """The second half of a layer: the views exchange on both paths, which then merge."""

    def __init__(self, heads: int, context: bool) -> None:
        super().__init__()
        self.main = ViewExchange(heads, updated_norm=not context)
        self.context = ViewExchange(heads, updated_norm=False) if context else None
        self.merge = ContextMerge() if context else None


class PublishedTransformer(nn.Module):
    """Alternate attention within and across views; the scores of the last exchange match them.

    With `context` it is CSTR's, otherwise STTR's. The parameters that the last layer's scores don't
    depend on, and a final norm that nothing calls, are kept so that published files load strictly;
    they are frozen (`requires_grad` False), never read and never trained.
    """

    def __init__(self, layers: int, heads: int, *, context: bool) -> None:
        super().__init__()
        self.within = nn.ModuleList(WithinViews(heads, context) for _ in range(layers))
        self.across = nn.ModuleList(AcrossViews(heads, context) for _ in range(layers))
        self.unused_norm = nn.LayerNorm(TOKEN_CHANNELS)
        last = (self.within[-1].context, self.across[-1].context, self.across[-1].merge)
        for module in (self.unused_norm, *last):
            if module is not None:
                module.requires_grad_(False)

    def forward(
        self, tokens: Float[Tensor, "V C h w"], scale: float = 1.0
    ) -> Float[Tensor, "B h w w"]:
        """Return matching scores, left token x right token, summed over the heads.

        `scale` is the distance between neighbouring tokens in the unit of the relative sine.
        """
        return self.scores(*self.before_scores(tokens, scale), scale)

    def scores(
        self,
        left_seen: Float[Tensor, "B h w C"],
        right_seen: Float[Tensor, "B h w C"],
        scale: float = 1.0,
    ) -> Float[Tensor, "B h w w"]:
        """Return the scores of views that `before_scores` made; rows don't depend on each other."""
        return self.across[-1].main.scores(left_seen, right_seen, RelativeSine(scale=scale))

    def before_scores(
        self, tokens: Float[Tensor, "V C h w"], scale: float = 1.0
    ) -> tuple[Float[Tensor, "B h w C"], Float[Tensor, "B h w C"]]:
        """Advance through all layers, up to the last comparison of left and right view."""
        width = tokens.shape[-1]
        main, context = tokens.permute(0, 2, 3, 1), None
        position = RelativeSine(scale=scale)
        context_position = RelativeSine()
        if self.within[0].context is not None:
            context = F.avg_pool2d(tokens, (1, min(2, width))).permute(0, 2, 3, 1)
            # The published table is made for ceil(w / 2) columns and read as if there were as many.
            context_position = RelativeSine(shift=(width + 1) // 2 - context.shape[2])

        for within, across in zip(self.within[:-1], self.across[:-1], strict=True):
            main = within.main(main, position)
            main = across.main(main, position, in_turn=True)
            if context is not None:
                context = within.context(context, context_position)
                informed = across.context(context, context_position, in_turn=False)
                main = across.merge(main, informed)
        main = self.within[-1].main(main, position)
        return self.across[-1].main.before_scores(main, position)


def _along(
    layout: Layout, attention: Attention, x: Tensor, seen: Tensor, position: RelativeSine
) -> Tensor:
    """Let the sequences of map `x` look at those of map `seen`."""
    attended = attention(layout.split(x), layout.split(seen), position=position)
    return layout.merge(attended.tokens, x.shape[1], x.shape[2])


def _stack_views(x: Float[Tensor, "V h n C"]) -> Float[Tensor, "B C h2 n"]:
    """Put each pair's left view above its right view, channels first."""
    return x.unflatten(0, (2, -1)).transpose(0, 1).flatten(1, 2).permute(0, 3, 1, 2)
