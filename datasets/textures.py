"""A bank of textures, made from a seed: what the surfaces of generated scenes are painted with.

`TextureBank` holds colour tiles and grey tiles, each kind side by side in one large picture: one
look-up paints all surfaces of a view. Tiles continue as mirror images beyond their edges.
About a third of the colour tiles are cut from photographs (photographs.py), unless switched off.

Source   the disks of many sizes that hide each other ("dead leaves") have the statistics of natural
         images: Lee, Mumford, Huang 2001, https://doi.org/10.1023/A:1011109015675
Tests    tests/datasets/test_textures.py
"""

from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from .photographs import load_photographs

Tile = NDArray[np.float32]
Corners = tuple[NDArray[np.intp], NDArray[np.intp]]

COLOUR_TILES, COLOUR_SIDE = 96, 384
GREY_TILES, GREY_SIDE = 32, 256
ACROSS = 8
"""tiles in a row of the large picture, whose sides must stay below cv2.remap's 32767"""


class TextureBank:
    """Tiles that are made when they are first asked for, each from its own seed."""

    def __init__(self, seed: int, photographs: bool) -> None:
        """Raises what `load_photographs` raises, if photographs are wanted."""
        self._seed = seed
        self._sources = load_photographs() if photographs else []
        self._colour = _Tiles(COLOUR_TILES, (COLOUR_SIDE, COLOUR_SIDE, 3), self._colour_tile)
        self._grey = _Tiles(GREY_TILES, (GREY_SIDE, GREY_SIDE), self._grey_tile)
        self.noise = np.random.default_rng((seed, 3)).standard_normal(1 << 21, np.float32)
        """a pool of normal noise, from which the cameras take theirs"""

    def colour(self, tiles: NDArray[np.intp]) -> tuple[NDArray[np.uint8], Corners]:
        """The large picture [*, *, 3], and where in it these tiles begin."""
        return self._colour.with_corners(tiles)

    def grey(self, tiles: NDArray[np.intp]) -> tuple[NDArray[np.uint8], Corners]:
        """The large picture [*, *], and where in it these tiles begin."""
        return self._grey.with_corners(tiles)

    def _colour_tile(self, tile: int) -> NDArray[np.uint8]:
        return _colour_tile(np.random.default_rng((self._seed, 1, tile)), self._sources)

    def _grey_tile(self, tile: int) -> NDArray[np.uint8]:
        return _grey_tile(np.random.default_rng((self._seed, 2, tile)), tile)


@lru_cache(maxsize=2)
def texture_bank(seed: int, photographs: bool) -> TextureBank:
    """The bank of a seed, kept for the life of the process."""
    return TextureBank(seed, photographs)


class _Tiles:
    """Tiles of one size side by side in one large picture."""

    def __init__(self, count: int, shape: tuple[int, ...], make: Callable[[int], NDArray]) -> None:
        self.side, self.make, self.made = shape[0], make, np.zeros(count, bool)
        rows = -(-count // ACROSS)
        self.picture = np.zeros((rows * shape[0], ACROSS * shape[1], *shape[2:]), np.uint8)

    def with_corners(self, tiles: NDArray[np.intp]) -> tuple[NDArray[np.uint8], Corners]:
        """The picture with at least these tiles in it, and (x, y) of the tiles' first pixels."""
        x, y = tiles % ACROSS * self.side, tiles // ACROSS * self.side
        for tile in np.unique(tiles[~self.made[tiles]]):
            row, column = (int(tile) // ACROSS * self.side, int(tile) % ACROSS * self.side)
            there = (slice(row, row + self.side), slice(column, column + self.side))
            self.picture[there] = self.make(int(tile))
            self.made[tile] = True
        return self.picture, (x, y)


# ------------------------------------------------------------------------------- colour tiles


def _colour_tile(rng: np.random.Generator, sources: list) -> NDArray[np.uint8]:
    if sources and rng.random() < 0.34:
        tile = _photograph(rng, sources)
    else:
        names, weights = zip(*PROCEDURAL, strict=True)
        kind = names[rng.choice(len(names), p=np.array(weights) / sum(weights))]
        tile = kind(rng, COLOUR_SIDE)
        if rng.random() < 0.7:  # almost nothing real is perfectly clean
            grain = noise(rng, COLOUR_SIDE, rng.uniform(-0.1, 0.9))[..., None]
            tile = tile + grain * rng.uniform(3, 26)
    if rng.random() < 0.35:
        tile = _mixed_colours(rng, tile)
    return np.clip(np.rint(tile), 0, 255).astype(np.uint8)


def _mixed_colours(rng: np.random.Generator, tile: Tile) -> Tile:
    """A random linear map of the colours around grey."""
    mix = np.eye(3) * rng.uniform(0.6, 1.2) + rng.normal(0, 0.25, (3, 3))
    return ((tile - 128) @ mix.astype(np.float32)) + 128


def colour(rng: np.random.Generator) -> Tile:
    """A random colour [3], 0 to 255, more often dull than vivid."""
    grey = rng.uniform(15, 240)
    vivid = 70 * rng.random() ** 2
    return np.clip(grey + rng.normal(0, vivid, 3), 5, 250).astype(np.float32)


def noise(rng: np.random.Generator, side: int, slope: float, stretch: float = 1.0) -> Tile:
    """Noise of many octaves [side, side], mean 0 and deviation 1; amplitude ~ wavelength^slope.

    stretch: how much longer its waves are down than across.
    """
    total = np.zeros((side, side), np.float32)
    cells = 3
    while cells <= side:
        rows = max(int(cells / stretch), 2)
        octave = rng.standard_normal((rows, cells), np.float32)
        enlarged = cv2.resize(octave, (side, side), interpolation=cv2.INTER_CUBIC)
        total += enlarged * np.float32((side / cells) ** slope)
        cells = int(cells * 2.2)
    total -= total.mean()
    return total / (total.std() + 1e-6)


def _photograph(rng: np.random.Generator, sources: list) -> Tile:
    """A turned and rescaled cut-out."""
    picture = sources[int(rng.integers(len(sources)))]
    shrink = rng.uniform(0.5, 1.3) if min(picture.shape[:2]) < 700 else rng.uniform(0.35, 1.0)
    if shrink < 1:  # area-averaged, or the tile would alias
        picture = cv2.resize(picture, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    zoom = max(shrink, 1.0)
    height, width = picture.shape[:2]
    turn = rng.uniform(-180, 180) if rng.random() < 0.4 else 0.0
    place = (rng.uniform(0.3, 0.7) * width, rng.uniform(0.3, 0.7) * height)
    move = cv2.getRotationMatrix2D(place, turn, zoom)
    move[:, 2] += COLOUR_SIDE / 2 - np.array(place)
    tile = cv2.warpAffine(
        picture,
        move,
        (COLOUR_SIDE, COLOUR_SIDE),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return (tile if rng.random() < 0.5 else tile[:, ::-1]).astype(np.float32)


def _clouds(rng: np.random.Generator, side: int) -> Tile:
    slope = rng.uniform(-0.2, 1.1)
    shared = noise(rng, side, slope, 4.0 ** rng.uniform(-1, 1))[..., None]
    own = np.stack([noise(rng, side, slope) for _ in range(3)], 2) * rng.uniform(0, 0.6)
    return colour(rng) + (shared + own) * rng.uniform(15, 55)


def _leaves(rng: np.random.Generator, side: int) -> Tile:
    """Shapes of all sizes that hide each other."""
    tile = np.empty((side, side, 3), np.float32)
    tile[:] = colour(rng)
    palette = [colour(rng) for _ in range(int(rng.integers(3, 24)))]
    smallest = 1.5 * 4 ** rng.random()
    kind = int(rng.integers(4))
    for _ in range(int(rng.integers(400, 1600))):
        # radius ~ r^-3: as many pixels in small as in large shapes
        radius = smallest / np.sqrt(1 - rng.random() * (1 - (smallest / 90) ** 2))
        x, y = rng.uniform(-10, side + 10, 2)
        paint = (palette[int(rng.integers(len(palette)))] + rng.normal(0, 8)).tolist()
        if kind == 0:
            cv2.circle(tile, (int(x), int(y)), int(radius) + 1, paint, -1, cv2.LINE_AA)
        elif kind == 1:
            far = (int(x + radius * rng.uniform(0.5, 3)), int(y + radius * rng.uniform(0.5, 3)))
            cv2.rectangle(tile, (int(x), int(y)), far, paint, -1)
        elif kind == 2:
            box = ((x, y), (2 * radius, 2 * radius * rng.uniform(0.2, 1)), rng.uniform(0, 180))
            cv2.ellipse(tile, box, paint, -1, cv2.LINE_AA)
        else:
            corners = np.array([x, y]) + rng.uniform(-1.5, 1.5, (4, 2)) * radius
            cv2.fillPoly(tile, [np.rint(corners * 16).astype(np.int32)], paint, cv2.LINE_AA, 4)
    return cv2.GaussianBlur(tile, (0, 0), rng.uniform(0.4, 0.8))


def _waves(rng: np.random.Generator, side: int) -> Tile:
    """Stripes, checks or tartan; sine or sharp, straight or bent."""
    y, x = np.mgrid[:side, :side].astype(np.float32)
    bend = noise(rng, side, 1.5) * (rng.uniform(0, 10) if rng.random() < 0.4 else 0)
    angle = rng.uniform(0, np.pi) if rng.random() < 0.6 else 0.0
    along = (x + bend) * np.cos(angle) + (y + bend) * np.sin(angle)
    across = (y + bend) * np.cos(angle) - (x + bend) * np.sin(angle)
    period = 4.0 * 12 ** rng.random()
    sharp = rng.uniform(0.5, 8)
    one = np.tanh(sharp * np.sin(along * (2 * np.pi / period)))
    kind = int(rng.integers(3))
    if kind:
        two = np.tanh(sharp * np.sin(across * (2 * np.pi / period / rng.choice([1.0, 1.0, 1.6]))))
        one = one * two if kind == 1 else (one + two) / 2
    share = (one * 0.5 + 0.5)[..., None].astype(np.float32)
    return colour(rng) * share + colour(rng) * (1 - share)


def _bricks(rng: np.random.Generator, side: int) -> Tile:
    """Bricks, tiles or planks, each of a slightly different colour, with joints."""
    rows_high = int(rng.integers(7, 48))
    long = int(rows_high * rng.choice([1.0, 1.0, 2.0, 2.5, 6.0]) * rng.uniform(0.9, 1.1))
    joint = int(rng.integers(1, 4))
    tile = np.empty((side, side, 3), np.float32)
    tile[:] = colour(rng)
    paint, spread, shift = colour(rng), rng.uniform(0, 30), rng.choice([0.0, 0.5])
    for row, y in enumerate(range(0, side, rows_high)):
        for x in range(-int(row % 2 * shift * long), side, long):
            brick = paint + rng.normal(0, spread) + rng.normal(0, spread / 3, 3)
            tile[y : y + rows_high - joint, max(x, 0) : max(x + long - joint, 0)] = brick
    tile += noise(rng, side, 0.5)[..., None] * rng.uniform(0, 10)
    tile = cv2.GaussianBlur(tile, (0, 0), rng.uniform(0.4, 0.9))
    return tile if rng.random() < 0.6 else np.ascontiguousarray(tile.transpose(1, 0, 2))


def _dots(rng: np.random.Generator, side: int) -> Tile:
    """A lattice of round spots, or spots anywhere."""
    tile = np.empty((side, side, 3), np.float32)
    tile[:] = colour(rng)
    paint, pitch = colour(rng).tolist(), int(rng.integers(5, 36))
    radius = pitch * rng.uniform(0.15, 0.45)
    regular = rng.random() < 0.5
    for y in range(0, side + pitch, pitch):
        for x in range(0, side + pitch, pitch):
            place = np.array([x + (y // pitch % 2) * pitch / 2, y], float)
            if not regular:
                place += rng.uniform(-pitch, pitch, 2)
            centre = np.rint(place * 16).astype(int).tolist()
            size = radius if regular else radius * rng.uniform(0.3, 1.5)
            cv2.circle(tile, centre, int(size * 16), paint, -1, cv2.LINE_AA, 4)
    return tile


def _writing(rng: np.random.Generator, side: int) -> Tile:
    """Lines of letters, as on book covers and signs."""
    tile = np.empty((side, side, 3), np.uint8)  # the only depth that putText takes
    tile[:] = colour(rng)
    y = 4
    alphabet = list("abcdefghiklmnoprstuvwxyzABCDEFGHIKLMNOPRSTUVWXYZ0123456789  ..")
    while y < side:
        size = 0.35 * 6 ** rng.random() if rng.random() < 0.3 else 0.4
        text = "".join(rng.choice(alphabet, 60))
        y += int(24 * size) + int(rng.integers(2, 12))
        thick = max(1, int(size * rng.uniform(0.8, 2.4)))
        place = (int(rng.integers(-20, 40)), y)
        paint = colour(rng).tolist()
        cv2.putText(tile, text, place, int(rng.integers(0, 5)), size, paint, thick, cv2.LINE_AA)
    return tile + noise(rng, side, 1.0)[..., None] * rng.uniform(0, 12)


def _grain(rng: np.random.Generator, side: int) -> Tile:
    """Wood, brushed metal, cloth: noise much longer one way than the other."""
    long = noise(rng, side, rng.uniform(0.2, 1.0), 12.0)
    if rng.random() < 0.3:
        long = long + noise(rng, side, 0.3, 12.0).T
    if rng.random() < 0.5:
        long = np.sin(long * rng.uniform(2, 6))
    share = np.clip(long * 0.3 + 0.5, 0, 1)[..., None]
    tile = colour(rng) * share + colour(rng) * (1 - share)
    return tile if rng.random() < 0.5 else np.ascontiguousarray(tile.transpose(1, 0, 2))


def _cells(rng: np.random.Generator, side: int) -> Tile:
    """Patches of the nearest of many points: stones, leather, cracked ground."""
    points = int(10 * 60 ** rng.random())
    seeds = np.full((side, side), 255, np.uint8)
    places = rng.integers(0, side, (points, 2))
    seeds[places[:, 0], places[:, 1]] = 0
    distance, label = cv2.distanceTransformWithLabels(
        seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    paint = colour(rng) + rng.normal(0, rng.uniform(5, 60), (points + 2, 3))
    tile = paint.astype(np.float32)[np.minimum(label, points + 1)]
    tile += (distance / (distance.max() + 1e-6))[..., None] * rng.uniform(-80, 80)
    return cv2.GaussianBlur(tile, (0, 0), 0.6)


def _slope(rng: np.random.Generator, side: int) -> Tile:
    """A soft change from one colour to another."""
    share = noise(rng, side, 3.0)
    share = np.clip((share - share.min()) / np.ptp(share), 0, 1)[..., None]
    return colour(rng) * share + colour(rng) * (1 - share)


PROCEDURAL = (
    (_clouds, 3),
    (_leaves, 5),
    (_waves, 2.5),
    (_bricks, 1.5),
    (_dots, 1),
    (_writing, 1.5),
    (_grain, 1.5),
    (_cells, 1.5),
    (_slope, 0.7),
)
"""kind of texture and how often, relative to the others"""


# --------------------------------------------------------------------------------- grey tiles


def _grey_tile(rng: np.random.Generator, tile: int) -> NDArray[np.uint8]:
    """The first half soft (light and shadow), the second fine (grain of the material); mean 128."""
    if tile < GREY_TILES // 2:
        soft = noise(rng, GREY_SIDE, rng.uniform(1.6, 3.0))
        if rng.random() < 0.6:  # cast shadows: two levels with a soft border
            soft = np.tanh((soft - rng.normal(0, 0.5)) * 4.0 ** rng.uniform(0, 1.5))
        values = soft * 60
    else:
        values = noise(rng, GREY_SIDE, rng.uniform(-0.3, 0.8), 4.0 ** rng.uniform(-1, 1)) * 42
    return np.clip(np.rint(values + 128), 0, 255).astype(np.uint8)
