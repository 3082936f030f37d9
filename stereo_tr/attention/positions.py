"""What position adds to attention: to the tokens (maps) or to the scores (terms).

Maps are added to the tokens before they meet: `sine_map`, `LearnedMap`. Terms work inside
attention: given the attention that asks, the number of queries T and of keys S, `tables` says what
to add.

Letters  C channels, E heads, D channels a head, T queries, S keys, R = T + S - 1 offsets j - i
Source   sine: Vaswani et al. 2017; relative sine with the attention's own projections: STTR,
         https://arxiv.org/abs/2011.02910; window table: Swin, https://arxiv.org/abs/2103.14030;
         axial table: Axial-DeepLab, https://arxiv.org/abs/2003.07853; rotary:
         https://arxiv.org/abs/2104.09864
Tests    tests/attention/test_positions.py: float64 loops over pairs
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from .attend import PositionTables

if TYPE_CHECKING:
    from .attend import Attention


class Position(Protocol):
    """A term of the scores that depends on where query and key stand."""

    def tables(self, attention: Attention, queries: int, keys: int) -> PositionTables:
        """Say what to add when `queries` tokens look at `keys` tokens."""
        ...


def offsets(queries: int, keys: int, device: torch.device | None = None) -> Int[Tensor, " R"]:
    """All offsets j - i of key j from query i, ascending: -(T-1) ... S-1."""
    return torch.arange(1 - queries, keys, device=device)


def sine(places: Float[Tensor, "*N"], channels: int) -> Float[Tensor, "*N C"]:
    """Sines and cosines of geometrically falling frequency, interleaved: sin, cos, sin, cos, ...

    Channels 2m and 2m+1 hold sin and cos of place / 10000^(2m / channels).
    """
    even = torch.arange(0, channels, 2, device=places.device, dtype=places.dtype)
    angles = places[..., None] / 10000.0 ** (even / channels)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)[..., :channels]


def sine_map(
    height: int, width: int, channels: int, device: torch.device | None = None
) -> Float[Tensor, "H W C"]:
    """Absolute sine positions of a map: half of the channels for the row, half for the column.

    Raises ValueError for an odd number of channels.
    """
    if channels % 2:
        raise ValueError(f"channels={channels} must be even: half for rows, half for columns")
    rows = sine(torch.arange(height, device=device, dtype=torch.float32), channels // 2)
    columns = sine(torch.arange(width, device=device, dtype=torch.float32), channels // 2)
    return torch.cat((rows[:, None].expand(-1, width, -1), columns.expand(height, -1, -1)), dim=-1)


def resize_map(
    table: Float[Tensor, "H W C"], height: int, width: int
) -> Float[Tensor, "height width C"]:
    """Resize a table of positions, height and width apart (bicubic, no antialiasing)."""
    if table.shape[:2] == (height, width):
        return table
    maps = table.permute(2, 0, 1)[None]
    resized = F.interpolate(maps, (height, width), mode="bicubic", antialias=False)
    return resized[0].permute(1, 2, 0)


class LearnedMap(nn.Module):
    """One learned vector for each place of a map of `height` x `width`.

    It is resized (bicubic) where the map has another size.
    """

    def __init__(self, height: int, width: int, channels: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(height, width, channels))
        nn.init.trunc_normal_(self.table, std=0.02)

    def forward(self, height: int, width: int) -> Float[Tensor, "H W C"]:
        """Vectors for a map of `height` x `width`; height and width are resized apart."""
        return resize_map(self.table, height, width)


@dataclass(frozen=True)
class RelativeSine:
    """Sine of the distance i - j from query to key, seen through the attention's own projections.

    score_ij gains q_i . key(p_ij) + k_j . query(p_ij), where p_ij = sine(scale * (i - j + shift)),
    or of its negative if `reversed`; `query` and `key` are the attention's projections with their
    biases (STTR, eq. 4, without the position-position term).
    """

    scale: int | float = 1.0
    """distance between neighbouring tokens, in the unit of the sine"""
    shift: int | float = 0.0
    """added to every distance, in tokens"""
    reversed: bool = False
    """count distances from key to query: for the update of the right view"""

    def tables(self, attention: Attention, queries: int, keys: int) -> PositionTables:
        """Project the R distinct distances once; skewing serves them to all pairs."""
        weight = attention.to_query.weight
        distance = self.shift - offsets(queries, keys, weight.device).to(torch.float32)
        if self.reversed:
            distance = -distance
        table = sine(self.scale * distance, weight.shape[-1]).to(weight.dtype)
        return PositionTables(
            query=attention.split_heads(attention.to_key(table)),
            key=attention.split_heads(attention.to_query(table)),
        )


@dataclass(frozen=True)
class Rotary:
    """Queries, keys and values turned by an angle that grows with their place.

    Scores then depend on the offset j - i alone, and so do the retrieved values: the result says
    *where* a query found what it found. Wavelengths run geometrically from `shortest` to `longest`
    tokens. A head needs an even number of channels.
    """

    shortest: int | float = 6.0
    """wavelength of the fastest pair of channels, in tokens"""
    longest: int | float = 512.0
    """wavelength of the slowest pair of channels, in tokens"""

    def tables(self, attention: Attention, queries: int, keys: int) -> PositionTables:
        """Angles for every place up to the longer side."""
        weight = attention.to_query.weight
        channels = weight.shape[0] // attention.heads
        if channels % 2:
            raise ValueError(f"{channels} channels a head: rotary positions turn pairs of them")
        step = torch.linspace(0, 1, channels // 2, device=weight.device)
        wavelength = self.shortest * (self.longest / self.shortest) ** step
        place = torch.arange(max(queries, keys), device=weight.device)
        return PositionTables(angles=2 * torch.pi * place[:, None] / wavelength)


class WindowOffsetTable(nn.Module):
    """One learned number for each head and each 2-D offset between two places of a window (Swin).

    Row (dy + height - 1) * (2 * width - 1) + dx + width - 1 of the table belongs to the offset
    (dy, dx) from key to query.
    """

    def __init__(self, height: int, width: int, heads: int) -> None:
        super().__init__()
        self.height, self.width = height, width
        self.table = nn.Parameter(torch.zeros((2 * height - 1) * (2 * width - 1), heads))
        nn.init.trunc_normal_(self.table, std=0.02)

    def tables(self, attention: Attention, queries: int, keys: int) -> PositionTables:
        """Bias [E, N, N] for a window of N = height * width places in row-major order.

        Raises ValueError where T or S isn't N.
        """
        return OffsetBias(self.height, self.width, self.table).tables(attention, queries, keys)

    def resized(self, height: int, width: int) -> OffsetBias:
        """The term for windows of another size: bilinear, half-pixel centres, no antialiasing."""
        table = self.table
        if (height, width) != (self.height, self.width):
            grid = table.T.unflatten(1, (2 * self.height - 1, 2 * self.width - 1))[None]
            grid = F.interpolate(grid, (2 * height - 1, 2 * width - 1), mode="bilinear")
            table = grid[0].flatten(1).T
        return OffsetBias(height, width, table)


class OffsetBias(NamedTuple):
    """What a WindowOffsetTable says about windows of one size; rows as there."""

    height: int
    width: int
    table: Float[Tensor, "R E"]

    def tables(self, attention: Attention, queries: int, keys: int) -> PositionTables:
        """Bias [E, N, N] for N = height * width places; ValueError where T or S isn't N."""
        places = self.height * self.width
        if (queries, keys) != (places, places):
            raise ValueError(
                f"{queries} queries and {keys} keys do not fill a window of "
                f"{self.height} x {self.width} = {places} places"
            )
        y, x = torch.meshgrid(torch.arange(self.height), torch.arange(self.width), indexing="ij")
        dy = y.flatten()[:, None] - y.flatten()
        dx = x.flatten()[:, None] - x.flatten()
        row = (dy + self.height - 1) * (2 * self.width - 1) + dx + self.width - 1
        return PositionTables(bias=self.table[row.to(self.table.device)].permute(2, 0, 1))


class AxialOffsetTable(nn.Module):
    """Learned tables over the 1-D offset j - i, for queries, keys and values, shared by the heads.

    Offsets beyond +-(reach - 1) use the outermost row (Axial-DeepLab clips there, too).
    """

    def __init__(self, reach: int, key_channels: int, value_channels: int) -> None:
        super().__init__()
        self.reach = reach
        rows = 2 * reach - 1
        self.query = nn.Parameter(torch.randn(rows, key_channels) * key_channels**-0.5)
        self.key = nn.Parameter(torch.randn(rows, key_channels) * key_channels**-0.5)
        self.value = nn.Parameter(torch.randn(rows, value_channels) * value_channels**-0.5)

    def tables(self, attention: Attention, queries: int, keys: int) -> PositionTables:
        """Rows of the three tables for all offsets of this call."""
        limit = self.reach - 1
        row = offsets(queries, keys, self.query.device).clamp(-limit, limit) + limit
        return PositionTables(
            query=self.query[row][None], key=self.key[row][None], value=self.value[row][None]
        )
