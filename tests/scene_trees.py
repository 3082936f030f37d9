"""Generated pairs written to disk in the layout of FlyingThings3D, part of SceneFlow."""

from pathlib import Path

from stereo_tr.datasets.files import write_pfm, write_png
from stereo_tr.datasets.generated import GeneratedScenes
from stereo_tr.pictures import view_picture


def write_flying_things(
    root: Path, count: int, height: int, width: int, split: str = "TRAIN", first: int = 0
) -> None:
    """Write pairs `first` to `first + count - 1` of seed 0, largest disparity from 16 to 30 px."""
    scenes = GeneratedScenes(height, width, photographs=False, disparity_range=(16.0, 30.0))
    for index in range(first, first + count):
        sample = scenes[index]
        views = {"left": (sample.left, sample.disparity)}
        views["right"] = (sample.right, sample.right_disparity)
        for view, (picture, disparity) in views.items():
            place = Path(split, "A", "0000", view)
            frames, truth = root / "frames_finalpass" / place, root / "disparity" / place
            for folder in (frames, truth):
                folder.mkdir(parents=True, exist_ok=True)
            write_png(frames / f"{index:04d}.png", view_picture(picture))
            write_pfm(truth / f"{index:04d}.pfm", disparity.numpy())
