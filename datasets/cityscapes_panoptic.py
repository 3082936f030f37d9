"""Cityscapes with panoptic truth, as Cityscapes' own tool writes it.

    root/leftImg8bit/val/frankfurt/frankfurt_000000_000294_leftImg8bit.png
         gtFine/cityscapes_panoptic_val.json
                cityscapes_panoptic_val/frankfurt_000000_000294_gtFine_panoptic.png

gtFine_trainvaltest.zip holds no such JSON: `pip install cityscapesscripts`, then
`python -m cityscapesscripts.preparation.createPanopticImgs --dataset-folder ROOT/gtFine`.

Source   https://github.com/mcordts/cityscapesScripts
Tests    tests/datasets/test_coco_panoptic.py
"""

from pathlib import Path

from .coco_panoptic import CocoLayout

LEFT = "_leftImg8bit.png"
IN_JSON = "_gtFine" + LEFT
"""how the JSON ends the images' names"""


class CityscapesPanoptic(CocoLayout):
    """Street scenes; split: "train" or "val"."""

    def __init__(self, root: str | Path, split: str = "train") -> None:
        self._images = Path(root) / "leftImg8bit" / split
        truth = Path(root) / "gtFine"
        name = f"cityscapes_panoptic_{split}"
        if truth.is_dir() and not (truth / f"{name}.json").is_file():
            raise FileNotFoundError(
                f"{truth / name}.json is missing; write it with Cityscapes' tool: pip install "
                "cityscapesscripts, then python -m "
                f"cityscapesscripts.preparation.createPanopticImgs --dataset-folder {truth} "
                f"--set-names {split}"
            )
        super().__init__(truth / f"{name}.json", truth / name)

    def image_path(self, file_name: str) -> Path:
        """The left image; the city is the name's first part."""
        name = file_name.removesuffix(IN_JSON).removesuffix(LEFT)
        return self._images / name.split("_")[0] / f"{name}{LEFT}"
