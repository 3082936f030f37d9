"""Which tokens meet: a layout turns a map into sequences of tokens, and back.

A layout is a pair of inverse functions, `split` and `merge`; `context` gives the tokens that a
sequence looks at (itself, unless the layout says otherwise) and `mask` the pairs that may meet.

Letters  B maps, H W size of a map in tokens, C channels, N sequences, T tokens in a sequence,
         S tokens that it looks at
Source   axial attention: Wang et al. 2020, https://arxiv.org/abs/2003.07853; shifted windows: Swin,
         https://arxiv.org/abs/2103.14030; epipolar lines: STTR, https://arxiv.org/abs/2011.02910
Tests    tests/attention/test_layouts.py: round trips, and who meets whom, by brute force
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Layout(ABC):
    """A pair of inverse functions between maps and sequences."""

    apart: ClassVar[int | None] = None
    """axis of a map [B, H, W, C] whose places never meet, so that parts of it can be attended to
    alone; None again in a subclass whose context or mask looks at other places"""

    @abstractmethod
    def split(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "N T C"]:
        """Turn maps into sequences."""

    @abstractmethod
    def merge(
        self, tokens: Float[Tensor, "N T C"], height: int, width: int
    ) -> Float[Tensor, "B H W C"]:
        """Turn sequences back into maps of `height` x `width`."""

    def context(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "N S C"]:
        """Tokens that the sequences look at."""
        return self.split(x)

    def mask(
        self, height: int, width: int, device: torch.device | None = None
    ) -> Bool[Tensor, "#N T S"] | None:
        """True where a query may look at a key; None if everywhere.

        For the sequences of a single map, or of size 1 where all sequences share a mask.
        """
        return None

    def window(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the part of a map that one sequence covers: here, all of it."""
        return height, width


class Rows(Layout):
    """Every row is a sequence."""

    apart = 1

    def split(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "N T C"]:
        """N = B * H sequences of W tokens."""
        return x.flatten(0, 1)

    def merge(
        self, tokens: Float[Tensor, "N T C"], height: int, width: int
    ) -> Float[Tensor, "B H W C"]:
        """Stack the rows again."""
        return tokens.unflatten(0, (-1, height))

    def window(self, height: int, width: int) -> tuple[int, int]:
        """One row."""
        return 1, width


class EarlierInRow(Rows):
    """Every row is a sequence, and a token looks at itself and at those before it (text)."""

    def mask(
        self, height: int, width: int, device: torch.device | None = None
    ) -> Bool[Tensor, "#N T S"] | None:
        """[1, W, W], the same for every row."""
        return torch.ones(width, width, dtype=torch.bool, device=device).tril()[None]


class Columns(Layout):
    """Every column is a sequence."""

    apart = 2

    def split(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "N T C"]:
        """N = B * W sequences of H tokens."""
        return x.transpose(1, 2).flatten(0, 1)

    def merge(
        self, tokens: Float[Tensor, "N T C"], height: int, width: int
    ) -> Float[Tensor, "B H W C"]:
        """Stand the columns side by side again."""
        return tokens.unflatten(0, (-1, width)).transpose(1, 2)

    def window(self, height: int, width: int) -> tuple[int, int]:
        """One column."""
        return height, 1


class Everything(Layout):
    """The whole map is one sequence, row after row."""

    def split(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "N T C"]:
        """N = B sequences of H * W tokens."""
        return x.flatten(1, 2)

    def merge(
        self, tokens: Float[Tensor, "N T C"], height: int, width: int
    ) -> Float[Tensor, "B H W C"]:
        """Cut the sequence into rows again."""
        return tokens.unflatten(1, (height, width))


@dataclass(frozen=True)
class EpipolarLine(Layout):
    """Every row looks at the same row of the other view: its epipolar line in a rectified pair.

    Maps are left views first, right views second. Rows of right views, and what they look at, are
    read from right to left: so the way from a token to its partner is the same in both views, and
    one position term and one mask serve both. With `forward_only` the mask lets a token look only
    where a partner can lie (disparity >= 0). An odd number of maps is a ValueError.
    """

    apart: ClassVar[int] = 1

    forward_only: bool = True

    def split(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "N T C"]:
        """N = B * H sequences of W tokens."""
        left, right = self._views(x)
        return torch.cat((left, right.flip(2))).flatten(0, 1)

    def merge(
        self, tokens: Float[Tensor, "N T C"], height: int, width: int
    ) -> Float[Tensor, "B H W C"]:
        """Stack the rows again, each in its own direction."""
        left, right = self._views(tokens.unflatten(0, (-1, height)))
        return torch.cat((left, right.flip(2)))

    def context(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "N S C"]:
        """Rows of the other view."""
        left, right = self._views(x)
        return torch.cat((right, left.flip(2))).flatten(0, 1)

    def mask(
        self, height: int, width: int, device: torch.device | None = None
    ) -> Bool[Tensor, "#N T S"] | None:
        """[1, W, W], the same for every row of either view."""
        if not self.forward_only:
            return None
        return torch.ones(width, width, dtype=torch.bool, device=device).tril()[None]

    @staticmethod
    def _views(x: Tensor) -> tuple[Tensor, Tensor]:
        if x.shape[0] % 2:
            raise ValueError(f"{x.shape[0]} maps do not hold left and right views in pairs")
        left, right = x.chunk(2)
        return left, right

    def window(self, height: int, width: int) -> tuple[int, int]:
        """One row."""
        return 1, width


@dataclass(frozen=True)
class Windows(Layout):
    """Windows of height x width tokens, optionally of a map rolled by `shift` (Swin).

    A map that isn't a multiple of the window is padded with zeros at the bottom and the right;
    the mask keeps padding, and parts that the roll brought together, apart. An axis that a single
    window covers isn't rolled: nothing would meet across a border, and it would be cut in two.
    """

    height: int
    width: int
    shift: tuple[int, int] = (0, 0)

    def _roll(self, height: int, width: int) -> tuple[int, int]:
        down, across = self.shift
        if torch.jit.is_tracing():  # sizes are tensors: the decision is recorded as arithmetic
            high, wide = torch.as_tensor(height > self.height), torch.as_tensor(width > self.width)
            return down * high.long(), across * wide.long()
        return down if height > self.height else 0, across if width > self.width else 0

    def _count(self, height: int, width: int) -> tuple[int, int]:
        """Windows down and across; sizes that are derived from them divide even in symbols."""
        down, across = height + self.height - 1, width + self.width - 1
        return down // self.height, across // self.width

    def _padding(self, height: int, width: int) -> tuple[int, int]:
        down, across = self._count(height, width)
        return down * self.height - height, across * self.width - width

    def split(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "N T C"]:
        """N = B * windows sequences, windows row after row."""
        height, width = x.shape[1:3]
        below, right = self._padding(height, width)
        if torch.jit.is_tracing() or below or right:  # padding by nothing would copy
            x = F.pad(x, (0, 0, 0, right, 0, below))
        down, across = self._roll(height, width)
        return _windows(
            _rolled(x, -down, -across), self._count(height, width), (self.height, self.width)
        )

    def merge(
        self, tokens: Float[Tensor, "N T C"], height: int, width: int
    ) -> Float[Tensor, "B H W C"]:
        """Put the windows back, undo the roll, drop the padding."""
        down, across = self._count(height, width)
        maps, channels = tokens.shape[0] // (down * across), tokens.shape[2]
        x = tokens.reshape(maps, down, across, self.height, self.width, channels).transpose(2, 3)
        x = x.reshape(maps, down * self.height, across * self.width, channels)
        return _rolled(x, *self._roll(height, width))[:, :height, :width]

    def window(self, height: int, width: int) -> tuple[int, int]:
        """One window, whatever the map."""
        return self.height, self.width

    def mask(
        self, height: int, width: int, device: torch.device | None = None
    ) -> Bool[Tensor, "#N T S"] | None:
        """[windows, T, T]: True where two tokens come from the same part of the image."""
        below, right = self._padding(height, width)
        down, across = self._roll(height, width)
        if not torch.jit.is_tracing() and not any((down, across, below, right)):
            return None

        rows = _parts(height, below, down, device)
        columns = _parts(width, right, across, device)
        count, size = self._count(height, width), (self.height, self.width)
        parts = _windows((4 * rows[:, None] + columns)[None, :, :, None], count, size)[..., 0]
        return parts[:, :, None] == parts[:, None, :]


def _windows(
    x: Float[Tensor, "B H W C"] | Int[Tensor, "B H W C"],
    count: tuple[int, int],
    size: tuple[int, int],
) -> Float[Tensor, "N T C"] | Int[Tensor, "N T C"]:
    """Cut maps into `count` windows of `size`, down and across."""
    (down, across), (high, wide), channels = count, size, x.shape[3]
    x = x.reshape(x.shape[0], down, high, across, wide, channels).transpose(2, 3)
    return x.reshape(x.shape[0] * down * across, high * wide, channels)


def _rolled(x: Float[Tensor, "B H W C"], down: int, across: int) -> Float[Tensor, "B H W C"]:
    """Roll maps; while a graph is recorded by an index, because ONNX's roll takes fixed shifts."""
    if not torch.jit.is_tracing():
        return x.roll((down, across), (1, 2)) if down or across else x  # else a copy
    for dim, shift in ((1, down), (2, across)):
        size = x.shape[dim]
        x = x.index_select(dim, (torch.arange(size, device=x.device) - shift) % size)
    return x


def _parts(
    size: int | Tensor, padding: int | Tensor, shift: int | Tensor, device: torch.device | None
) -> Int[Tensor, " N"]:
    """For each place of a padded and rolled side, which part of the image it comes from."""
    place = (torch.arange(size + padding, device=device) + shift) % (size + padding)
    wrapped = torch.arange(size + padding, device=device) >= size + padding - shift
    return wrapped.long() + 2 * (place >= size).long()
