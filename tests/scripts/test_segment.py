import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch

from stereo_tr.datasets.coco_panoptic import CocoLayout
from stereo_tr.datasets.files import read_image, write_png
from stereo_tr.datasets.generated_panoptic import GeneratedPanoptic
from stereo_tr.mask.panoptic import RULES, Rules
from stereo_tr.pictures import view_picture
from stereo_tr.pretrained import create_model, save_weights
from stereo_tr.scripts.panoptic import ScorePanoptic, score_panoptic
from stereo_tr.scripts.segment import main
from stereo_tr.training_data import VALIDATION_SEED

TINY = {
    "encoder": {"widths": [8, 12, 16, 20], "depths": [1, 1, 1, 1]},
    "num_classes": 4,
    "num_queries": 5,
    "layers": [1, 1, 1],
    "decoder_widths": [8, 8, 8, 8],
    "decoder_depths": [1, 1, 1, 1],
    "channels": 16,
    "filters": 8,
    "feed_forward": 24,
    "hidden": 12,
    "features": 16,
}


class Written(CocoLayout):
    """Reads what the command wrote, as COCO."""

    def __init__(self, folder, images):
        self._images = images
        super().__init__(next(folder.glob("*_panoptic.json")), folder)

    def image_path(self, file_name):
        return self._images / file_name


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(2)
    path = tmp_path / "tiny.safetensors"
    save_weights(create_model("kmax_resnet50", **TINY), path, "kmax_resnet50", TINY)
    return path


def picture(path, height=70, width=90):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    cv2.imwrite(str(path), values)
    return str(path)


def test_every_picture_gets_its_four_files_and_they_are_coco_s(
    tmp_path, weights, capsys, monkeypatch
):
    """A model that was never trained is sure of nothing: let it get away with it."""
    monkeypatch.setitem(RULES, "generated", Rules("pixels", 0.0, 0.0, pixel=0.0))
    given = picture(tmp_path / "in/street.png")
    out = tmp_path / "out"
    main([given, "--out", str(out), "--weights", str(weights)])
    names = ["clusters.png", "overlay.png", "panoptic.json", "panoptic.png"]
    assert sorted(path.name for path in out.iterdir()) == [f"street_{name}" for name in names]
    assert read_image(out / "street_overlay.png").shape == (70, 90, 3)
    # Three layers and the prediction side by side, under their titles.
    assert read_image(out / "street_clusters.png").shape == (20 + 70, 4 * 90 + 3 * 4, 3)
    sample = Written(out, tmp_path / "in")[0]
    assert len(sample.classes) >= 1 and sample.segment_map.shape == (70, 90)
    content = json.loads((out / "street_panoptic.json").read_text())
    for segment in content["annotations"][0]["segments_info"]:
        assert 0 <= segment["score"] <= 1 and segment["area"] > 0
        assert segment["name"] in ("background", "floor", "wall", "thing")
    printed = capsys.readouterr().out
    assert "classes: the 4 of generated_things" in printed and "street.png: 90x70 px" in printed


def test_the_packaged_weights_find_what_stands_in_generated_scenes(tmp_path, capsys):
    """Pictures that nothing was learned from; the bounds are well below what is reached."""
    scores = score_panoptic(ScorePanoptic(data="generated_few", size=96, limit=24))
    assert scores["mean"]["pq"] > 12 and scores["mean"]["pq_things"] > 7
    images = GeneratedPanoptic(96, 96, seed=VALIDATION_SEED, few=True, coarse=True)
    write_png(tmp_path / "scene.png", view_picture(images[1].image))
    main([str(tmp_path / "scene.png"), "--out", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert "photographs means nothing" in printed and "background" in printed
    found = json.loads((tmp_path / "out/scene_panoptic.json").read_text())
    assert len(found["annotations"][0]["segments_info"]) >= 2


def test_a_folder_with_own_classes(tmp_path, weights):
    for name in ("a", "b"):
        picture(tmp_path / f"in/{name}.jpg", 40, 50)
    listing = tmp_path / "classes.json"
    listing.write_text(json.dumps([{"id": 9 - n, "name": f"c{n}", "isthing": 0} for n in range(4)]))
    out = tmp_path / "out"
    settings = ["--classes", str(listing), "--rules", "coco", "--weights", str(weights)]
    main([str(tmp_path / "in"), "--out", str(out), *settings])
    assert len(list(out.iterdir())) == 8
    content = json.loads((out / "b_panoptic.json").read_text())
    assert [c["name"] for c in content["categories"]] == ["c3", "c2", "c1", "c0"]


def failed(capsys, arguments):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_bad_input_is_one_line_and_nothing_is_written(tmp_path, weights, capsys):
    out = str(tmp_path / "out")
    given = [picture(tmp_path / "in/a.png"), "--out", out]
    with_weights = [*given, "--weights", str(weights)]
    assert "stereo-tr train --preset kmax_small" in failed(
        capsys, [*given, "--model", "kmax_resnet50"]
    )
    assert "doesn't segment" in failed(
        capsys, [*with_weights, "--model", "swin_tiny_patch4_window7_224"]
    )
    assert "did you mean cityscapes" in failed(capsys, [*with_weights, "--rules", "cityscape"])
    few = tmp_path / "few.json"
    few.write_text('[{"id": 1, "name": "a", "isthing": 1}]')
    assert "1 classes, but the model has 4" in failed(
        capsys, [*with_weights, "--classes", str(few)]
    )
    absent = str(tmp_path / "in/absent.png")
    assert "absent.png: no such file" in failed(capsys, [absent, *with_weights])
    twin = picture(tmp_path / "other/a.jpg")
    assert "two pictures are called a" in failed(capsys, [twin, *with_weights])
    assert not (tmp_path / "out").exists()


def test_help_and_mistakes_come_without_torch():
    code = (
        "import sys; from stereo_tr.scripts import segment\n"
        "try: segment.main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "NAME_clusters.png" in done.stdout
