import json

import numpy as np
import pytest
import torch
import trees

from stereo_tr.datasets.cityscapes_panoptic import CityscapesPanoptic
from stereo_tr.datasets.coco_panoptic import CocoPanoptic

IDS = np.array([[1000, 1000, 0, 70_000, 70_000], [1000, 5, 5, 70_000, 0], [5, 5, 5, 5, 8]])
CATEGORIES = [
    {"id": 200, "name": "grass", "isthing": 0},
    {"id": 1, "name": "person", "isthing": 1},
    {"id": 44, "name": "bottle", "isthing": 1},
]
SEGMENTS = [
    {"id": 1000, "category_id": 44, "iscrowd": 0},
    {"id": 70_000, "category_id": 1, "iscrowd": 0},
    {"id": 5, "category_id": 200},
    {"id": 8, "category_id": 1, "iscrowd": 1},
]


def write(image, png, listing, image_name, png_name, segments=SEGMENTS, ids=IDS, image_id=3):
    rows, columns = np.mgrid[:3, :5]
    picture = np.stack([16 * rows + columns, 9 + 0 * rows, 200 - rows], -1).astype(np.uint8)
    trees.write_picture(image, picture)
    colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)
    trees.write_picture(png, colours)
    content = {
        "images": [{"id": image_id, "file_name": image_name, "height": 3, "width": 5}],
        "annotations": [{"image_id": image_id, "file_name": png_name, "segments_info": segments}],
        "categories": CATEGORIES,
    }
    listing.parent.mkdir(parents=True, exist_ok=True)
    listing.write_text(json.dumps(content))


def write_coco(root, **changes):
    annotations = root / "annotations"
    write(
        root / "val2017/000000000009.png",
        annotations / "panoptic_val2017/000000000009.png",
        annotations / "panoptic_val2017.json",
        "000000000009.png",
        "000000000009.png",
        **changes,
    )


def check(sample):
    """Ids 5, 1000, 70000 become 1, 2, 3; the crowd and what has no id become void."""
    expected = [[2, 2, 0, 3, 3], [2, 1, 1, 3, 0], [1, 1, 1, 1, 0]]
    assert sample.segment_map.tolist() == expected
    assert sample.classes.tolist() == [2, 1, 0]
    red = 255 * sample.image[0]
    torch.testing.assert_close(
        red, torch.tensor([[16.0 * y + x for x in range(5)] for y in range(3)])
    )


def test_coco(tmp_path):
    write_coco(tmp_path)
    images = CocoPanoptic(tmp_path, "val")
    assert images.classes == (("person", "bottle", "grass"), frozenset({0, 1}), (1, 44, 200))
    assert len(images) == 1
    check(images[0])
    assert images[0].name == "000000000009"


def test_cityscapes(tmp_path):
    base = "frankfurt_000000_000294"
    truth = tmp_path / "gtFine"
    write(
        tmp_path / f"leftImg8bit/val/frankfurt/{base}_leftImg8bit.png",
        truth / f"cityscapes_panoptic_val/{base}_gtFine_panoptic.png",
        truth / "cityscapes_panoptic_val.json",
        f"{base}_gtFine_leftImg8bit.png",
        f"{base}_gtFine_panoptic.png",
        image_id=base,
    )
    check(CityscapesPanoptic(tmp_path, "val")[0])
    with pytest.raises(FileNotFoundError, match="createPanopticImgs --dataset-folder"):
        CityscapesPanoptic(tmp_path, "train")


def test_what_is_missing_or_does_not_fit_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"panoptic_val2017.json: no such file"):
        CocoPanoptic(tmp_path, "val")
    write_coco(tmp_path, segments=SEGMENTS[:2])
    with pytest.raises(ValueError, match=r"000000000009.png: id 5 isn't among its segments"):
        CocoPanoptic(tmp_path, "val")[0]
    write_coco(tmp_path, segments=[{"id": 1000, "category_id": 45}])
    with pytest.raises(ValueError, match=r"panoptic_val2017.json: .* doesn't hold: 45"):
        CocoPanoptic(tmp_path, "val")
    write_coco(tmp_path, ids=IDS[:, :4])
    with pytest.raises(ValueError, match=r"is 4x3 px but .*val2017/000000000009.png is 5x3"):
        CocoPanoptic(tmp_path, "val")[0]
    write_coco(tmp_path)
    trees.write_picture(
        tmp_path / "annotations/panoptic_val2017/000000000009.png", IDS.astype("u1")
    )
    with pytest.raises(ValueError, match=r"one channel \(L\) where COCO's colours are expected"):
        CocoPanoptic(tmp_path, "val")[0]
    (tmp_path / "annotations/panoptic_val2017.json").write_text("[1]")
    with pytest.raises(ValueError, match="holds a list, not an object"):
        CocoPanoptic(tmp_path, "val")
    (tmp_path / "annotations/panoptic_val2017.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be read as JSON"):
        CocoPanoptic(tmp_path, "val")
