"""The classes of well-known panoptic data, for models that were trained on them elsewhere.

Data on disk bring their own list; this one is for pictures that come without any.

Source  categories of COCO panoptic 2017 and of Cityscapes (labels.py of cityscapesScripts)
Tests   tests/datasets/test_panoptic_classes.py
"""

import json
from pathlib import Path

from .generated_panoptic import COARSE_CLASSES, SHAPE_CLASSES
from .panoptic_sample import ClassList

_COCO_THINGS = (
    "1 person, 2 bicycle, 3 car, 4 motorcycle, 5 airplane, 6 bus, 7 train, 8 truck, 9 boat, "
    "10 traffic light, 11 fire hydrant, 13 stop sign, 14 parking meter, 15 bench, 16 bird, 17 cat, "
    "18 dog, 19 horse, 20 sheep, 21 cow, 22 elephant, 23 bear, 24 zebra, 25 giraffe, 27 backpack, "
    "28 umbrella, 31 handbag, 32 tie, 33 suitcase, 34 frisbee, 35 skis, 36 snowboard, "
    "37 sports ball, 38 kite, 39 baseball bat, 40 baseball glove, 41 skateboard, 42 surfboard, "
    "43 tennis racket, 44 bottle, 46 wine glass, 47 cup, 48 fork, 49 knife, 50 spoon, 51 bowl, "
    "52 banana, 53 apple, 54 sandwich, 55 orange, 56 broccoli, 57 carrot, 58 hot dog, 59 pizza, "
    "60 donut, 61 cake, 62 chair, 63 couch, 64 potted plant, 65 bed, 67 dining table, 70 toilet, "
    "72 tv, 73 laptop, 74 mouse, 75 remote, 76 keyboard, 77 cell phone, 78 microwave, 79 oven, "
    "80 toaster, 81 sink, 82 refrigerator, 84 book, 85 clock, 86 vase, 87 scissors, "
    "88 teddy bear, 89 hair drier, 90 toothbrush"
)
_COCO_STUFF = (
    "92 banner, 93 blanket, 95 bridge, 100 cardboard, 107 counter, 109 curtain, 112 door-stuff, "
    "118 floor-wood, 119 flower, 122 fruit, 125 gravel, 128 house, 130 light, 133 mirror-stuff, "
    "138 net, 141 pillow, 144 platform, 145 playingfield, 147 railroad, 148 river, 149 road, "
    "151 roof, 154 sand, 155 sea, 156 shelf, 159 snow, 161 stairs, 166 tent, 168 towel, "
    "171 wall-brick, 175 wall-stone, 176 wall-tile, 177 wall-wood, 178 water-other, "
    "180 window-blind, 181 window-other, 184 tree-merged, 185 fence-merged, 186 ceiling-merged, "
    "187 sky-other-merged, 188 cabinet-merged, 189 table-merged, 190 floor-other-merged, "
    "191 pavement-merged, 192 mountain-merged, 193 grass-merged, 194 dirt-merged, "
    "195 paper-merged, 196 food-other-merged, 197 building-other-merged, 198 rock-merged, "
    "199 wall-other-merged, 200 rug-merged"
)
_CITYSCAPES_STUFF = (
    "7 road, 8 sidewalk, 11 building, 12 wall, 13 fence, 17 pole, 19 traffic light, "
    "20 traffic sign, 21 vegetation, 22 terrain, 23 sky"
)
_CITYSCAPES_THINGS = (
    "24 person, 25 rider, 26 car, 27 truck, 28 bus, 31 train, 32 motorcycle, 33 bicycle"
)


def _listed(things: str, stuff: str) -> ClassList:
    categories = [
        {"id": int(entry.split(" ", 1)[0]), "name": entry.split(" ", 1)[1], "isthing": isthing}
        for isthing, text in ((1, things), (0, stuff))
        for entry in text.split(", ")
    ]
    return ClassList.from_categories(categories)


KNOWN = {
    "coco": _listed(_COCO_THINGS, _COCO_STUFF),
    "cityscapes": _listed(_CITYSCAPES_THINGS, _CITYSCAPES_STUFF),
    "generated_panoptic": SHAPE_CLASSES,
    "generated_things": COARSE_CLASSES,
}
"""name -> classes"""


def known_classes(count: int) -> str:
    """Name the list in KNOWN that has so many classes. Raises ValueError where none does."""
    for name, classes in KNOWN.items():
        if len(classes.names) == count:
            return name
    listed = ", ".join(f"{name} {len(classes.names)}" for name, classes in KNOWN.items())
    raise ValueError(
        f"the model has {count} classes, and what they are called isn't known ({listed}): give "
        "--classes FILE, the classes.json or the COCO panoptic JSON that it was trained with"
    )


def read_classes(path: Path) -> ClassList:
    """Read a JSON list of categories, or the one in a COCO panoptic JSON.

    Raises ValueError, naming the file, for what is neither; FileNotFoundError.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return ClassList.from_categories(
            content["categories"] if isinstance(content, dict) else content
        )
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: no such file") from error
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: no list of classes: {error}") from error
