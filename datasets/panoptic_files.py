"""Maps of numbers as pictures: one channel of ids, or COCO's colours that are numbers.

    grey or palette PNG   the number is the value, or the index into the palette
    RGB PNG of COCO       number = R + 256 G + 65536 B

Letters  H W image height and width in pixels
Source   https://cocodataset.org/#format-data, "Panoptic Segmentation"
Tests    tests/datasets/test_panoptic_folder.py
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Int32, UInt8
from PIL import Image

from .files import encode_png

ONE_CHANNEL = ("1", "L", "P", "I", "I;16", "I;16B")
"""Pillow's names of pictures with one number a pixel"""


def read_numbers(path: Path) -> Int32[np.ndarray, "H W"]:
    """Read ids from a picture of one channel.

    Raises ValueError for a colour picture, and for what is no whole picture; FileNotFoundError.
    """
    picture = _open(path)
    if picture.mode not in ONE_CHANNEL:
        raise ValueError(
            f"{path}: a colour picture ({picture.mode}) where ids are expected: one channel, grey "
            "or palette, whose values are the numbers. COCO's colour-coded ids are read as "
            "coco_panoptic, with their JSON"
        )
    return np.asarray(picture).astype(np.int32)


def read_coloured_numbers(path: Path) -> Int32[np.ndarray, "H W"]:
    """Read ids from COCO's colours; raises as `read_numbers`, for one channel here."""
    picture = _open(path)
    if picture.mode not in ("RGB", "RGBA"):
        raise ValueError(
            f"{path}: one channel ({picture.mode}) where COCO's colours are expected: RGB, "
            "id = R + 256 G + 65536 B"
        )
    colours = np.asarray(picture).astype(np.int32)
    return colours[..., 0] + 256 * colours[..., 1] + 65536 * colours[..., 2]


def coloured_numbers(numbers: Int[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """COCO's colours of ids from 0 to 2**24 - 1."""
    channels = [numbers % 256, numbers // 256 % 256, numbers // 65536]
    return np.stack(channels, -1).astype(np.uint8)


def encode_coloured_numbers(numbers: Int[np.ndarray, "H W"]) -> bytes:
    """The same as PNG."""
    return encode_png(coloured_numbers(numbers))


def coco_annotation(
    image: str, png: str, numbers: Int[np.ndarray, "H W"], segments: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """COCO's JSON for one image, without its categories.

    image, png: names of the two files. numbers: ids of the pixels. segments: "id", "category_id"
    and whatever else is known of each; "area", "bbox" (left, top, width, height) and "iscrowd" are
    added.
    """
    height, width = numbers.shape
    listed = []
    for segment in segments:
        rows, columns = np.nonzero(numbers == segment["id"])
        left, top = int(columns.min()), int(rows.min())
        box = [left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1]
        listed.append({**segment, "area": len(rows), "bbox": box, "iscrowd": 0})
    name = Path(image).stem
    return {
        "images": [{"id": name, "file_name": image, "height": height, "width": width}],
        "annotations": [{"image_id": name, "file_name": png, "segments_info": listed}],
    }


def _open(path: Path) -> Image.Image:
    """The picture, decoded."""
    try:
        with Image.open(path) as picture:
            picture.load()
            return picture
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: no such file") from error
    except (OSError, SyntaxError, EOFError) as error:  # decoders meet broken bytes with all these
        raise ValueError(f"{path}: not a whole picture ({error})") from error
