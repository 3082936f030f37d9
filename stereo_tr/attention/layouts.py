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

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor


class Layout(ABC):
    """A pair of inverse functions between maps and sequences."""

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

    def _padding(self, height: int, width: int) -> tuple[int, int]:
        return -height % self.height, -width % self.width

    def split(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "N T C"]:
        """N = B * windows sequences, windows row after row."""
        below, right = self._padding(x.shape[1], x.shape[2])
        down, across = self._roll(x.shape[1], x.shape[2])
        x = _rolled(F.pad(x, (0, 0, 0, right, 0, below)), -down, -across)
        x = x.unflatten(2, (-1, self.width)).unflatten(1, (-1, self.height))
        return x.transpose(2, 3).flatten(0, 2).flatten(1, 2)

    def merge(
        self, tokens: Float[Tensor, "N T C"], height: int, width: int
    ) -> Float[Tensor, "B H W C"]:
        """Put the windows back, undo the roll, drop the padding."""
        below, right = self._padding(height, width)
        down, across = (height + below) // self.height, (width + right) // self.width
        x = tokens.unflatten(1, (self.height, self.width)).unflatten(0, (-1, down, across))
        x = x.transpose(2, 3).flatten(3, 4).flatten(1, 2)
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

        def part(size: int, padding: int, shift: int) -> Tensor:
            place = (torch.arange(size + padding, device=device) + shift) % (size + padding)
            wrapped = torch.arange(size + padding, device=device) >= size + padding - shift
            return wrapped.long() + 2 * (place >= size).long()

        rows = part(height, below, down)
        columns = part(width, right, across)
        parts = (4 * rows[:, None] + columns)[None, :, :, None].float()
        whole = Windows(self.height, self.width)
        parts = whole.split(parts)[..., 0]
        return parts[:, :, None] == parts[:, None, :]


def _rolled(x: Float[Tensor, "B H W C"], down: int, across: int) -> Float[Tensor, "B H W C"]:
    """Roll maps; while a graph is recorded by an index, because ONNX's roll takes fixed shifts."""
    if not torch.jit.is_tracing():
        return x.roll((down, across), (1, 2))
    for dim, shift in ((1, down), (2, across)):
        size = x.shape[dim]
        x = x.index_select(dim, (torch.arange(size, device=x.device) - shift) % size)
    return x
