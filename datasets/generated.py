"""Endless rectified pairs with exact truth, made from a seed: nothing to download.

A scene is a list of surfaces in disparity space (scene_layout.py), seen exactly by both cameras
(surfaces.py), painted with textures that lie on the surfaces (textures.py), and photographed by two
cameras that differ (camera.py). Everything follows from (seed, index) alone.

Letters  H W image size in pixels; B batch
Tests    tests/datasets/test_generated.py: warping by the truth, left against right, determinism;
         tests/datasets/test_surfaces.py: a float64 search
"""

import sys
from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from .camera import highlight, photograph, relit
from .photographs import photograph_folder
from .sample import StereoSample
from .scene_layout import CLASSES, KIND, Layout
from .surfaces import MOST, Surface, Views, look
from .textures import (
    COLOUR_SIDE,
    COLOUR_TILES,
    GREY_SIDE,
    GREY_TILES,
    TextureBank,
    texture_bank,
)

__all__ = ["CLASSES", "GeneratedScene", "GeneratedScenes"]

SMALLEST = 16
"""pixels; a smaller view has no room for any disparity"""


class GeneratedScene(NamedTuple):
    """A sample with what else is known of its scene."""

    sample: StereoSample
    clean_left: Float[Tensor, "3 H W"]
    """RGB in [0, 1], before the camera differences"""
    clean_right: Float[Tensor, "3 H W"]
    objects: Int[Tensor, "H W"]
    """int32; 0 is the background, other numbers are unique within the scene"""
    classes: Int[Tensor, "H W"]
    """int32; index into CLASSES"""
    right_objects: Int[Tensor, "H W"]
    right_classes: Int[Tensor, "H W"]


class GeneratedScenes(Dataset[StereoSample]):
    """Map-style: `scenes[index]` is the same pair in every process, on every run.

    height, width: pixels, at least 16. disparity_range: bounds of the largest disparity of a scene,
    pixels, log-uniform; both are cut to 0.45 of the width. photographs: a third of the textures
    come from scikit-image's pictures (needs `pip install 'stereo-tr[train]'`). camera: put the
    differences between two cameras on. few: only scenes of a handful of things before a
    background. length: what len() says.

    Raises ValueError for sizes and ranges that can't be met, also if photographs are wanted and
    scikit-image isn't installed.
    """

    def __init__(
        self,
        height: int,
        width: int,
        *,
        seed: int = 0,
        disparity_range: tuple[float, float] = (12.0, 200.0),
        photographs: bool = True,
        camera: bool = True,
        few: bool = False,
        length: int = sys.maxsize,
    ) -> None:
        if min(height, width) < SMALLEST:
            raise ValueError(
                f"generated scenes need at least {SMALLEST}x{SMALLEST} pixels, got {width}x{height}"
            )
        low, high = disparity_range
        if not 1 <= low <= high:
            raise ValueError(
                f"disparity_range must be (low, high) with 1 <= low <= high, got {disparity_range}"
            )
        if seed < 0 or length < 1:
            raise ValueError(f"seed must be >= 0 and length >= 1, got {seed} and {length}")
        if photographs:
            photograph_folder()
        self.height, self.width, self.seed = height, width, seed
        self.disparity_range, self.photographs, self.camera = (low, high), photographs, camera
        self.few, self.length = few, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> StereoSample:
        return self._made(index)[0]

    def scene(self, index: int) -> GeneratedScene:
        """Scene `index` with its maps of objects and classes and the clean views."""
        sample, clean, surfaces, views = self._made(index)
        objects = np.array([surface.object for surface in surfaces], np.int32)
        classes = np.array([surface.category for surface in surfaces], np.int32)
        return GeneratedScene(
            sample,
            _tensor(clean[0]),
            _tensor(clean[1]),
            torch.from_numpy(objects[views.surface]),
            torch.from_numpy(classes[views.surface]),
            torch.from_numpy(objects[views.right_surface]),
            torch.from_numpy(classes[views.right_surface]),
        )

    def _made(self, index: int) -> tuple[StereoSample, list[NDArray], list[Surface], Views]:
        """The sample, the clean views in grey levels, and what they were made of."""
        if not 0 <= index < self.length:
            raise IndexError(f"scene {index} is outside 0 to {self.length - 1}")
        if get_worker_info() is not None:
            cv2.setNumThreads(0)  # a worker's threads would fight with those of its siblings
        rng = np.random.default_rng((self.seed, index))
        bank = texture_bank(self.seed, self.photographs)
        layout = Layout(rng, self.height, self.width, self.disparity_range, self.few)
        surfaces = layout.surfaces
        views = look(surfaces, self.height, self.width)
        paint = _Paint(surfaces, layout.largest, rng)
        clean = [
            paint.view(bank, views.surface, views.disparity, from_left=True),
            paint.view(bank, views.right_surface, views.right_disparity, from_left=False),
        ]
        left, right = _recorded(*clean, surfaces, views, bank, rng) if self.camera else clean
        everywhere = torch.ones(self.height, self.width, dtype=torch.bool)
        sample = StereoSample(
            left=_tensor(left),
            right=_tensor(right),
            disparity=torch.from_numpy(views.disparity),
            valid=everywhere,
            occluded=torch.from_numpy(views.occluded),
            right_disparity=torch.from_numpy(views.right_disparity),
            right_valid=everywhere.clone(),
            right_occluded=torch.from_numpy(views.right_occluded),
            name=f"generated/{self.seed}/{index}",
        )
        return sample, clean, surfaces, views


def _tensor(picture: NDArray) -> Float[Tensor, "3 H W"]:
    """Grey levels [H, W, 3] to [3, H, W] in [0, 1]."""
    channels_first = np.ascontiguousarray(picture.transpose(2, 0, 1))
    return torch.from_numpy(channels_first).float().div_(255)


def _recorded(left, right, surfaces: list[Surface], views: Views, bank: TextureBank, rng):
    """The views after the cameras: uint8 [H, W, 3] each."""
    if rng.random() < 0.15:
        y, x = (int(rng.integers(size)) for size in views.disparity.shape)
        number = surfaces[views.surface[y, x]].object
        own = np.array([surface.object == number for surface in surfaces])
        left, right = left.copy(), right.copy()
        masks = (own[views.surface], own[views.right_surface])
        highlight(left, right, masks, (x, y), float(views.disparity[y, x]), rng)
    if rng.random() < 0.3:
        right = relit(right, views.right_surface, rng)
    edges = (_edges(views.surface), _edges(views.right_surface))
    return photograph(left, right, edges, bank.noise, rng)


def _edges(surface: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels beside another surface, above, below, left or right."""
    edge = np.zeros(surface.shape, bool)
    across, down = surface[:, 1:] != surface[:, :-1], surface[1:] != surface[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    return edge


class _Paint:
    """How each surface of a scene is painted: a colour tile, tinted, times a grey tile.

    Both tiles are looked up at positions that are functions of the surface's own points, so both
    cameras see the same paint there, each as sharp as the other.
    """

    def __init__(self, surfaces: list[Surface], largest: float, rng: np.random.Generator) -> None:
        count = len(surfaces)
        category = np.array([surface.category for surface in surfaces])
        large = np.isin(category, (KIND["background"], KIND["floor"], KIND["wall"]))
        self.colour_tiles = rng.integers(0, COLOUR_TILES, count)
        if rng.random() < 0.25:  # things of the same material as others
            self.colour_tiles = self.colour_tiles[rng.integers(0, count, count) // 3]
        self.colour_move = _moves(rng, count, 0.6 * 2.4 ** rng.random(count))
        fine = rng.random(count) < 0.65
        self.grey_tiles = rng.integers(0, GREY_TILES // 2, count) + fine * (GREY_TILES // 2)
        self.grey_move = _moves(rng, count, np.where(fine, 0.7, 0.15) * 2.0 ** rng.random(count))
        self.shading = (rng.random(count) * np.where(fine, 0.45, 0.9)).astype(np.float32)
        # paint on floors and walls grows towards us; relative to a disparity in the scene's middle
        flat = large & (category != KIND["background"]) & (rng.random(count) < 0.7)
        self.reference = (flat * largest * rng.uniform(0.3, 0.7)).astype(np.float32)

        # strength of the texture: none, weak, or as it is; weak more often on walls
        strength = rng.uniform(0.6, 1.7, count)
        bare = rng.random() < 0.45
        weak = rng.random(count) < np.where(large & bare, 0.7, 0.2)
        # to the fourth power: half of the weak ones are blank walls, whose camera noise is stronger
        strength[weak] *= rng.random(weak.sum()) ** 4 * 0.5
        if rng.random() < 0.4:  # dull materials, or dull light
            strength *= rng.uniform(0.25, 0.9)
        self.shading[weak] *= rng.random(weak.sum())
        tinted = rng.random((count, 1)) < 0.6
        # often most things have similar colours, so that edges of depth are faint in the picture
        alike = rng.uniform(0.1, 0.6) if rng.random() < 0.35 else 1.0
        levels = rng.uniform(40, 230) * (1 - alike) + rng.uniform(40, 230, (count, 1)) * alike
        hues = rng.normal(0, 30, 3) * (1 - alike) + rng.normal(0, 30, (count, 3)) * alike
        base = np.where(tinted, levels + hues * rng.random((count, 1)), 128)
        gain = np.where(tinted, 1 + rng.normal(0, 0.15, (count, 3)), 1.0)
        gain *= np.where(rng.random((count, 1)) < 0.1, -1, 1) * strength[:, None]
        base = np.clip(base, 8, 247)
        # the faces of a box are mostly of one material, and differ in the light they get
        number = np.array([surface.object for surface in surfaces])
        same = np.flatnonzero((number[1:] == number[:-1]) & (rng.random(count - 1) < 0.6)) + 1
        light = np.ones((count, 1)) * rng.uniform(0.75, 1.1)
        for face in same:
            self.colour_tiles[face] = self.colour_tiles[face - 1]
            gain[face], base[face] = gain[face - 1], base[face - 1]
        light[same] *= rng.uniform(0.5, 1.1, (len(same), 1))
        self.base = (base * light).astype(np.float32)
        self.gain = (gain * light).astype(np.float32)

    def view(self, bank: TextureBank, surface, disparity, from_left: bool) -> NDArray[np.float32]:
        """One view in grey levels [H, W, 3], 0 to 255."""
        height, width = surface.shape
        x = np.arange(width, dtype=np.float32)[None]
        y = np.arange(height, dtype=np.float32)[:, None]
        if not from_left:
            x = x + disparity
        zoom = None
        if self.reference.any():
            reference = cv2.LUT(surface, _table(self.reference))
            zoom = np.clip(reference / np.maximum(disparity, 1e-3), 0.3, 2.0)
            zoom[reference == 0] = 1
        tiles, corner = bank.colour(self.colour_tiles)
        where = _places(corner, self.colour_move, COLOUR_SIDE, surface, x, y, zoom)
        picture = cv2.remap(tiles, *where, cv2.INTER_CUBIC).astype(np.float32)
        tiles, corner = bank.grey(self.grey_tiles)
        where = _places(corner, self.grey_move, GREY_SIDE, surface, x, y, zoom)
        light = cv2.remap(tiles, *where, cv2.INTER_LINEAR).astype(np.float32)
        light -= 128
        light *= cv2.LUT(surface, _table(self.shading / 128))
        light += 1
        # the tile's 128 becomes `base`
        three = cv2.merge([surface] * 3)
        picture *= cv2.LUT(three, _table(self.gain))
        picture += cv2.LUT(three, _table(self.base - 128 * self.gain))
        picture = cv2.multiply(picture, cv2.merge([light] * 3))
        return np.clip(picture, 0, 255, out=picture)


def _moves(rng: np.random.Generator, count: int, scale: NDArray) -> NDArray[np.float32]:
    """From surface to tile: rows [6, count] of an affine map; scale: tile pixels a pixel."""
    angle = rng.uniform(-np.pi, np.pi, count) * (rng.random(count) < 0.5)
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    squeeze = np.exp(rng.normal(0, 0.12, count))
    start = rng.uniform(0, 2 * COLOUR_SIDE, (2, count))
    rows = [cos, -sin, start[0], sin * squeeze, cos * squeeze, start[1]]
    return np.stack(rows).astype(np.float32)


def _table(values: NDArray) -> NDArray[np.float32]:
    """A number [N] or colour [N, 3] a surface as a table for cv2.LUT, faster than take."""
    table = np.zeros((1, MOST, *values.shape[1:]), np.float32)
    table[0, : len(values)] = values
    return table


def _places(corner, move, side: int, surface, x, y, zoom) -> list[NDArray[np.float32]]:
    """Where in the large picture (x, y) each pixel's surface finds its paint."""
    places = []
    period = np.float32(2 * (side - 5))
    for axis in (0, 1):
        place = cv2.LUT(surface, _table(move[3 * axis])) * x
        place += cv2.LUT(surface, _table(move[3 * axis + 1])) * y
        if zoom is not None:
            place *= zoom
        place += cv2.LUT(surface, _table(move[3 * axis + 2]))
        # mirrored at the tile's edges, and 2 px inside them: the cubic look-up needs its neighbours
        place -= period * np.floor(place / period)
        np.minimum(place, period - place, out=place)
        place += cv2.LUT(surface, _table(corner[axis] + 2))
        places.append(place)
    return places
