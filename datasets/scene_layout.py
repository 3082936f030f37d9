"""Where things stand in a generated scene: rooms, streets, tables, shapes that float before a wall.

Works in disparity space (see surfaces.py), with the sizes and slants that a camera would see: a
plane turned by an angle t against the image has ∂d/∂x = d tan(t) / f for focal length f in pixels,
things that stand upright keep their disparity from top to bottom, and heights shrink in proportion
to disparity around the horizon.

Numbers  sizes and amounts follow what helped in published measurements (many floating objects, a
         wide range of disparity: WMGStereo) and the disparities of real benchmarks
Tests    tests/datasets/test_generated.py
"""

from collections.abc import Callable

import numpy as np

from .shapes import BORDER, SHAPES, THIN, Mask, blank_canvas, fill, finished, ring, stick
from .surfaces import MOST, STEEPEST, Surface

CLASSES = ("background", "floor", "wall", "box", *SHAPES)
"""what the class map's numbers mean"""
KIND = {name: number for number, name in enumerate(CLASSES)}
WIDE = 0.45
"""largest disparity of a scene as a share of the image's width: beyond, little is seen by both"""
NOMINAL_HEIGHT = 192
"""image height for which objects of 9 to 130 px are meant; in larger images they grow along"""


class Layout:
    """The surfaces of one scene, put up in turn; the first has no mask.

    few: a scene of at most ten things, or groups of them, before a background.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        height: int,
        width: int,
        disparity_range: tuple[float, float],
        few: bool = False,
    ) -> None:
        self.rng, self.height, self.width = rng, height, width
        low, high = (min(bound, WIDE * width) for bound in disparity_range)
        self.largest = low * (high / low) ** rng.random()
        """pixels; no surface comes nearer"""
        self.far = self.largest * 0.03 * 20 ** rng.random()
        """pixels; the background's, 3 to 60 % of the largest"""
        self.focal = width * rng.uniform(0.8, 2.5)
        self.horizon = height * rng.uniform(-0.2, 0.9)
        self.floor_slope = 0.0
        """pixels of disparity a row, below the horizon; 0: there is no floor"""
        self.surfaces: list[Surface] = []
        self.objects = 0
        kinds = (self._floating, self._room, self._street, self._still_life, self._few)
        kind = kinds[rng.choice(5, p=(0.24, 0.24, 0.16, 0.3, 0.06))]
        (self._handful if few else kind)()

    # ------------------------------------------------------------------------ kinds of scenes

    def _floating(self) -> None:
        self._background(curved=self.rng.random() < 0.4)
        for _ in range(int(self.rng.integers(0, 4))):
            self._slanted_plane()
        self._things(int(self.rng.integers(12, 45)), standing=0.0)

    def _few(self) -> None:
        self._background(curved=self.rng.random() < 0.6)
        for _ in range(int(self.rng.integers(0, 4))):
            self._slanted_plane()
        self._things(int(self.rng.integers(0, 8)), standing=0.0)

    def _handful(self) -> None:
        """Enough to cover much of the background, few enough to be told apart."""
        self._background(curved=False)
        if self.rng.random() < 0.5:
            self._slanted_plane()
        self._things(int(self.rng.integers(4, 11)), standing=0.0)

    def _room(self) -> None:
        self.horizon = self.height * self.rng.uniform(-0.3, 0.6)
        self.far = self.largest * self.rng.uniform(0.15, 0.6)
        self._background(curved=False, leaning=0.2)
        self._floor(self.rng.uniform(0.6, 1.0))
        for side in (-1, 1):
            if self.rng.random() < 0.45:
                self._side_wall(side, reach=self.rng.uniform(0.1, 0.5))
        self._things(int(self.rng.integers(10, 37)), standing=0.7)

    def _street(self) -> None:
        self.horizon = self.height * self.rng.uniform(0.25, 0.55)
        self.far = self.largest * self.rng.uniform(0.03, 0.15)
        self._background(curved=False)
        self._floor(self.rng.uniform(0.8, 1.0))
        for side in (-1, 1):
            if self.rng.random() < 0.6:
                self._side_wall(side, reach=self.rng.uniform(0.25, 0.6))
        self._things(int(self.rng.integers(10, 37)), standing=0.85)

    def _still_life(self) -> None:
        """Things put close together on a table before a wall, some hollow, some sticks."""
        rng, scale = self.rng, max(1.0, self.height / NOMINAL_HEIGHT)
        self.horizon = self.height * rng.uniform(-0.6, 0.3)
        self.far = self.largest * rng.uniform(0.3, 0.75)
        self._background(curved=rng.random() < 0.1, leaning=0.15)
        self._floor(rng.uniform(0.85, 1.0))
        for _ in range(int(rng.integers(0, 4))):  # on the wall, or close to it
            name = ("rectangle", "polygon", "blob")[rng.integers(3)]
            half = (rng.uniform(25, 80) * scale, rng.uniform(25, 80) * scale)
            where = (rng.uniform(0, self.width + self.far), rng.uniform(0, 0.7) * self.height)
            self._thing(name, where, half, self.far * rng.uniform(1.0, 1.15), upright=True)
        kinds = rng.choice(3, int(rng.integers(6, 22)), p=(0.6, 0.25, 0.15))
        for kind in kinds:
            size = 25 * 5.5 ** rng.random() * scale
            d = self.far + (self.largest - self.far) * rng.random() ** 1.2
            x = rng.uniform(0, self.width + d)
            bottom = self.horizon + d / self.floor_slope
            if rng.random() < 0.25:  # on something else, or hung up
                bottom -= rng.uniform(0.1, 0.6) * self.height
            (self._solid, self._hollow, self._sticks)[kind](x, bottom, d, size)

    def _solid(self, x: float, bottom: float, d: float, size: float) -> None:
        if self.rng.random() < 0.3:
            self._box(x, bottom, d, size)
            return
        name = ("polygon", "rectangle", "ellipse", "blob", "blob", "foliage")[self.rng.integers(6)]
        half = self._half(size, 0.4)
        self._thing(name, (x, bottom - half[1]), half, d, upright=True)

    def _hollow(self, x: float, bottom: float, d: float, size: float) -> None:
        """What is behind shows through."""
        half = self._half(size, 0.3)
        where = (x, bottom - half[1])
        if self.rng.random() < 0.5:
            self._thing("ellipse", where, half, d, upright=True, draw=ring)
        else:
            names = ("frame", "holes", "furniture", "grid")
            name = names[self.rng.choice(4, p=(0.4, 0.3, 0.2, 0.1))]
            self._thing(name, where, half, d, upright=True)

    def _sticks(self, x: float, bottom: float, d: float, size: float) -> None:
        """One to six, in one place: pencils in a cup, legs, stems."""
        rng = self.rng
        for _ in range(int(rng.integers(1, 7))):
            half = (size * rng.uniform(0.01, 0.25), size * rng.uniform(0.25, 0.6))
            where = (x + rng.normal(0, 0.25) * size, bottom - half[1])
            near = d * rng.uniform(0.95, 1.05)
            self._thing("bar", where, half, near, upright=True, draw=stick)

    def _half(self, size: float, spread: float) -> tuple[float, float]:
        """Half extents of a thing about `size` wide and high; deviation of log(width / height)."""
        aspect = np.exp(self.rng.normal(0, spread))
        return (
            np.clip(size * aspect**0.5 / 2, 3, 0.9 * self.width),
            np.clip(size / aspect**0.5 / 2, 3, 0.9 * self.height),
        )

    # -------------------------------------------------------------------------- large surfaces

    def _add(self, surface: Surface) -> None:
        if len(self.surfaces) < MOST:
            self.surfaces.append(surface)

    def _new_object(self) -> int:
        self.objects += 1
        return self.objects

    def _background(self, curved: bool, leaning: float = 0.35) -> None:
        """Everywhere, disparity between about half and one and a half times `far`.

        leaning: the most that it gains or loses towards the borders, as a share of `far`.
        """
        rng, half = self.rng, ((self.width + self.largest) / 2, self.height / 2)
        # shares of `far` that the surface may gain or lose; together below one, so d stays positive
        lean, bend, wave = rng.uniform(0, leaning), 0.0, 0.0
        if rng.random() < 0.3:
            lean = 0.0
        if curved:
            bend, wave = rng.uniform(0, 0.25), rng.uniform(0, 0.2) * (rng.random() < 0.5)
        turn = rng.uniform(0, 2 * np.pi)
        k1, k2 = self.far * lean * np.cos(turn) / half[0], self.far * lean * np.sin(turn) / half[1]
        k3, k5 = self.far * bend * rng.uniform(-0.5, 0.5, 2) / np.square(half)
        p, q = rng.normal(0, 2 * np.pi / self.width * 2, 2)
        a = min(self.far * wave, 0.2 / (abs(p) + 1e-6))
        centre = (half[0], half[1])
        steep = max(1.0, (abs(k1) + 2 * abs(k3) * half[0] + abs(a * p)) / STEEPEST)
        shape = (self.far, k1 / steep, k2, k3 / steep, 0.0, k5)
        self._add(Surface(centre, shape, 0, KIND["background"], (a / steep, p, q, turn)))

    def _slanted_plane(self) -> None:
        """Rises from behind the background to near the largest disparity, at the image's border."""
        rng = self.rng
        turn = rng.uniform(0, 2 * np.pi)
        half = np.array([(self.width + self.largest) / 2, self.height / 2])
        near = rng.uniform(0.4, 0.95) * self.largest
        reach = half * np.abs([np.cos(turn), np.sin(turn)])
        middle = rng.uniform(-0.3, 0.9) * self.far
        rise = max(near - middle, 1.0) * reach / reach.sum()
        slope = rise / half * np.sign([np.cos(turn), np.sin(turn)])
        slope[0] = np.clip(slope[0], -STEEPEST, STEEPEST)
        shape = (middle, *slope.tolist(), 0.0, 0.0, 0.0)
        self._add(Surface(tuple(half), shape, self._new_object(), KIND["wall"]))

    def _floor(self, near: float) -> None:
        """A horizontal plane; `near`: its disparity at the bottom, as a share of the largest."""
        self.floor_slope = near * self.largest / (self.height - 1 - self.horizon)
        lean = self.rng.normal(0, 0.02) * self.far / self.width
        shape = (0.0, lean, self.floor_slope, 0.0, 0.0, 0.0)
        centre = (self.width / 2, self.horizon)
        self._add(Surface(centre, shape, self._new_object(), KIND["floor"]))

    def _side_wall(self, side: int, reach: float) -> None:
        """A wall along the line of sight; leaves the background at `reach` of the width."""
        near = self.rng.uniform(0.5, 1.0) * self.largest
        border = 0.0 if side < 0 else self.width - 1 + near
        slope = (near - self.far) / (reach * self.width)
        slope = min(slope, STEEPEST if side > 0 else 1.5 * STEEPEST)
        shape = (near, side * slope, 0.0, 0.0, 0.0, 0.0)
        self._add(Surface((border, 0.0), shape, self._new_object(), KIND["wall"]))

    # --------------------------------------------------------------------------------- objects

    def _things(self, count: int, standing: float) -> None:
        """About `count` objects; `standing`: the share that stands on the floor, others float."""
        rng = self.rng
        # meant for pictures twice as wide as high; a wider one has room for more
        count = round(count * max(1.0, self.width / (2 * self.height)))
        names = list(SHAPES)
        weights = np.array([1.0 if name in THIN else 2.0 for name in names])
        if rng.random() < 0.15:  # scenes of mostly thin things
            weights = np.array([5.0 if name in THIN else 1.0 for name in names])
        weights[names.index("grid")] *= 0.3  # one covers as much as several others
        weights = np.cumsum(weights / weights.sum())
        largest_size = 130 * max(1.0, self.height / NOMINAL_HEIGHT)
        while count > 0:
            size = 9 * (largest_size / 9) ** (rng.random() ** (0.65 if standing else 1.0))
            nearest = self.objects == 0 or rng.random() < 0.04
            stands = rng.random() < standing and not nearest
            share = 1.0 if nearest else rng.random() ** 1.5
            d = self.far + (self.largest - self.far) * share
            x, y = rng.uniform(0, self.width + d), rng.uniform(-0.05, 1.05) * self.height
            if stands:
                bottom = self.horizon + d / self.floor_slope
                if bottom > self.height * 1.3:
                    continue
            count -= 1
            if rng.random() < (0.3 if stands else 0.1):
                self._box(x, bottom if stands else y + size / 2, d, size)
                continue
            name = names[int(np.searchsorted(weights, rng.random()))]
            group = 1
            if name in ("bar", "foliage") and rng.random() < 0.3:
                group = int(rng.integers(2, 8))
            for member in range(group):
                half = self._half(size, 1.0 if name == "bar" else 0.45)
                apart = rng.normal(0, 0.5, 2) * size * (member > 0)
                near = d * (rng.uniform(0.85, 1.15) if member else 1.0)
                where = (x + apart[0], bottom - half[1] if stands else y + apart[1])
                self._thing(name, where, half, near, upright=stands)

    def _thing(
        self,
        name: str,
        where: tuple[float, float],
        half: tuple[float, float],
        d: float,
        upright: bool,
        draw: Callable[..., Mask] | None = None,
    ) -> None:
        """One object of a single surface: flat or curved, facing us or turned away.

        draw: what makes its mask, if not that of its name.
        """
        rng = self.rng
        mask = (draw or SHAPES[name])(rng, half)
        kind = rng.random()
        lean = rng.normal(0, 2.5 if kind < 0.15 else 0.7, 2) * (kind < 0.75)
        if upright:
            lean[1] = 0
        hx, hy = half[0] + BORDER, half[1] + BORDER
        k1, k2 = d / self.focal * lean
        k2 *= min(1.0, 0.4 * d / (abs(k2) * hy + 1e-6))
        k1 *= min(1.0, 0.4 * d / (abs(k1) * hx + 1e-6))
        k3 = k4 = k5 = 0.0
        wave = (0.0, 0.0, 0.0, 0.0)
        if rng.random() < 0.4:
            form = int(rng.integers(5))
            relief = d * min(rng.uniform(0.3, 1.6) * min(half) / self.focal, 0.4)
            bulge = -relief if rng.random() < 0.8 else relief
            k3 = bulge / hx**2 * (form in (0, 1, 3))
            k5 = bulge / hy**2 * (form in (0, 2)) - bulge / hy**2 * (form == 3)
            k4 = bulge / (hx * hy) * 0.5 * (form == 3)
            if form == 4:
                p, q = rng.normal(0, 1, 2) * 2 * np.pi / max(half)
                wave = (min(relief, 0.25 / (abs(p) + 1e-6)), p, q, rng.uniform(0, 2 * np.pi))
        steep = abs(k1) + 2 * abs(k3) * hx + abs(k4) * hy + abs(wave[0] * wave[1])
        ease = min(1.0, STEEPEST / (steep + 1e-6))
        shape = (d, k1 * ease, k2, k3 * ease, k4 * ease, k5)
        self._place(mask, where, shape, self._new_object(), KIND[name], (wave[0] * ease, *wave[1:]))

    def _place(self, mask, where, shape, number, kind, wave=(0.0, 0.0, 0.0, 0.0)) -> None:
        """Put a mask's middle at `where`, and move it back if it came nearer than the largest."""
        rows, columns = mask.shape
        origin = (round(where[0] - columns / 2), round(where[1] - rows / 2))
        centre = (origin[0] + (columns - 1) / 2, origin[1] + (rows - 1) / 2)
        surface = Surface(centre, shape, number, kind, wave, origin, mask)
        x = np.arange(origin[0], origin[0] + columns, dtype=np.float32)
        y = np.arange(origin[1], origin[1] + rows, dtype=np.float32)[:, None]
        there = surface.disparity(x, y)[mask > 0]
        if there.size == 0:
            return
        excess = max(float(there.max()) - self.largest, 0.0)
        surface.shape = (shape[0] - excess, *shape[1:])
        self._add(surface)

    def _box(self, x: float, bottom: float, d: float, size: float) -> None:
        """An upright box seen at its edge: walls that meet at x, and the lid if we look down on it.

        bottom: row where its front edge ends; d: disparity of that edge.
        """
        rng = self.rng
        number, turn = self._new_object(), rng.uniform(0.15, 1.4)
        height = size * np.exp(rng.normal(0, 0.4))
        slopes = np.minimum(d / self.focal * np.tan([turn, np.pi / 2 - turn]), 0.5)
        widths = size * np.array([np.cos(turn), np.sin(turn)]) * np.exp(rng.normal(0, 0.3, 2))
        widths = np.minimum(widths, 0.5 * d / slopes)
        middle = self.width / 2
        top = bottom - height

        def corner(position: float, near: float, row: float) -> np.ndarray:
            """(x, y) of an upright edge's end: its height is in proportion to its disparity."""
            return np.array([position, self.horizon + (row - self.horizon) * near / d])

        ends = []
        for side in (0, 1):
            sign = -1 if side == 0 else 1
            far_x, far_d = x + sign * widths[side], d - slopes[side] * widths[side]
            ends.append((far_x, far_d))
            corners = [(x, top), (x, bottom)]
            corners += [corner(far_x, far_d, bottom), corner(far_x, far_d, top)]
            plane = (-sign * slopes[side], 0.0)
            self._face(np.array(corners), (x, top, d), plane, number)
        if top > self.horizon + 2:
            # the fourth corner of the lid: a parallelogram in space, where a point is (x, y, 1) / d
            inverse = 1 / ends[0][1] + 1 / ends[1][1] - 1 / d
            behind = 1 / inverse
            across = sum((end[0] - middle) / end[1] for end in ends) - (x - middle) / d
            corners = [(x, top), corner(*ends[0], top)]
            corners += [corner(middle + across * behind, behind, top), corner(*ends[1], top)]
            plane = (0.0, d / (top - self.horizon))
            self._face(np.array(corners), (x, top, d), plane, number)

    def _face(self, corners: np.ndarray, point, slope, number: int) -> None:
        """A plane polygon through `point` (x, y, d); corners [4, 2] in the left image."""
        middle = (corners.min(0) + corners.max(0)) / 2
        extent = np.minimum((corners.max(0) - corners.min(0)) / 2, 2.0 * self.width)
        columns, rows = (2 * int(np.ceil(e)) + 3 + 2 * BORDER for e in extent)
        canvas = blank_canvas(rows, columns)
        origin = np.array([round(middle[0] - columns / 2), round(middle[1] - rows / 2)])
        # a little larger, so that no gap opens between faces that share an edge
        grown = corners + 0.3 * np.sign(corners - corners.mean(0))
        fill(canvas, grown - origin)
        where = origin + np.array([columns, rows]) / 2
        centre = origin + np.array([columns - 1, rows - 1]) / 2
        d = point[2] + slope[0] * (centre[0] - point[0]) + slope[1] * (centre[1] - point[1])
        self._place(finished(canvas), where, (d, *slope, 0.0, 0.0, 0.0), number, KIND["box"])
