"""Write generated training scenes as one picture to look at.

    stereo-tr scenes --out scenes.png --count 8 --seed 0

A row is a scene: left view, right view, disparity (dark far, light near), occlusion (white: the
right camera doesn't see it), and objects, a colour each.

Tests  tests/scripts/test_scenes.py
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from jaxtyping import UInt8

# Absolute, so that `python scripts/scenes.py` works as well.
from stereo_tr.datasets.files import write_png
from stereo_tr.datasets.generated import GeneratedScene, GeneratedScenes
from stereo_tr.pictures import colour_disparity, probability_picture, view_picture
from stereo_tr.scripts.command import NO_DEFAULT, run

GAP = 4
"""pixels of white between pictures"""


@dataclass(frozen=True)
class Scenes:
    """Settings of a contact sheet."""

    out: Path
    """file to write, .png"""
    count: int = 8
    """scenes, a row each"""
    first: int = 0
    """index of the first scene"""
    seed: int = 0
    """seed of the data set; training uses its own"""
    height: int = 192
    """pixels"""
    width: int = 384
    """pixels"""
    # The command shows these two as --no-photographs and --no-camera: so their texts read.
    photographs: Annotated[bool, NO_DEFAULT] = True
    """leave out the textures from scikit-image's photographs"""
    camera: Annotated[bool, NO_DEFAULT] = True
    """leave out the differences between the two cameras"""


def contact_sheet(settings: Scenes) -> UInt8[np.ndarray, "rows columns 3"]:
    """Draw the scenes and write them to `settings.out`.

    Raises ValueError for settings that make no scene, OSError where the file can't be written.
    """
    if settings.count < 1 or settings.first < 0:
        raise ValueError(
            f"--count must be at least 1 and --first at least 0, "
            f"got {settings.count} and {settings.first}"
        )
    if settings.out.suffix.lower() != ".png":
        raise ValueError(f"--out must end in .png, got {settings.out}")
    scenes = GeneratedScenes(
        settings.height,
        settings.width,
        seed=settings.seed,
        photographs=settings.photographs,
        camera=settings.camera,
    )
    indices = range(settings.first, settings.first + settings.count)
    sheet = np.concatenate([_row(scenes.scene(index)) for index in indices])
    write_png(settings.out, sheet)
    return sheet


def _row(scene: GeneratedScene) -> UInt8[np.ndarray, "rows columns 3"]:
    sample = scene.sample
    # steps of the golden ratio around the colour circle keep neighbouring numbers apart
    turn = scene.objects.numpy()[..., None] * 0.618 + np.array([0, 1 / 3, 2 / 3])
    objects = np.rint(255 * (0.5 + 0.45 * np.cos(2 * np.pi * turn))).astype(np.uint8)
    occluded = probability_picture(sample.occluded.float().numpy())
    pictures = [
        view_picture(sample.left),
        view_picture(sample.right),
        colour_disparity(sample.disparity.numpy()),
        np.repeat(occluded[..., None], 3, axis=2),
        objects,
    ]
    border = ((0, GAP), (0, GAP), (0, 0))
    framed = [np.pad(picture, border, constant_values=255) for picture in pictures]
    return np.concatenate(framed, axis=1)


def _write(settings: Scenes) -> None:
    contact_sheet(settings)
    print(f"{settings.out} holds left, right, disparity, occlusion, objects, a scene a row")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `stereo-tr scenes`."""
    run(Scenes, _write, "scenes", __doc__.partition("\n")[0], arguments)


if __name__ == "__main__":
    main()
