import json

import cv2
import numpy as np
import pytest
import torch

from stereo_tr import pretrained
from stereo_tr.datasets.coco_panoptic import CocoLayout
from stereo_tr.mask.output import MaskOutput, MaskPrediction
from stereo_tr.scripts import segment
from stereo_tr.scripts.panoptic import main


class Knowing(torch.nn.Module):
    """Finds stuff (class 0) above row 20 and one thing below; sees nothing right of column 30."""

    num_classes, num_queries = 2, 3

    def forward(self, images):
        height, width = images.shape[2:]
        masks = torch.full((1, 3, height, width), -9.0)
        masks[:, 0, :20, :30] = masks[:, 1, 20:, :30] = masks[:, 2, :, 30:] = 9
        classes = torch.tensor([[[9.0, 0, 0], [0, 9, 0], [0, 0, 9]]])
        return MaskOutput(MaskPrediction(classes, masks))


@pytest.fixture
def street(tmp_path, monkeypatch):
    """One image of 40 x 56 px: sky above row 20, below it two cars, side by side at column 30."""
    monkeypatch.setattr(segment, "segmenting_model", lambda weights, name: Knowing())
    root = tmp_path / "street"
    kinds, which = np.full((40, 56), 3, np.uint8), np.zeros((40, 56), np.uint8)
    kinds[20:], which[:, 30:] = 9, 1
    for role, content in (("images", kinds), ("classes", kinds), ("instances", which)):
        (root / "validation" / role).mkdir(parents=True)
        cv2.imwrite(str(root / "validation" / role / "a.png"), content)
    listed = [{"id": 3, "name": "sky", "isthing": 0}, {"id": 9, "name": "car", "isthing": 1}]
    (root / "classes.json").write_text(json.dumps(listed))
    return root


def test_scores_and_coco_s_files_are_what_was_worked_out(tmp_path, street, capsys):
    """Of the sky 30 of 56 columns are found; of the cars the left one, exactly."""
    out = tmp_path / "out"
    results = ["--out", str(out), "--json", str(tmp_path / "scores.json")]
    main(["--data", "panoptic_folder", "--root", str(street), *results])
    scores = json.loads((tmp_path / "scores.json").read_text())
    sky, car = scores["classes"]["sky"], scores["classes"]["car"]
    assert sky["pq"] == pytest.approx(100 * 30 / 56) and sky["found"] == 1
    assert car["pq"] == pytest.approx(100 / 1.5)
    assert (car["found"], car["wrong"], car["missed"], car["sq"]) == (1, 0, 1, 100)
    assert scores["mean"]["pq"] == pytest.approx((sky["pq"] + car["pq"]) / 2)
    assert scores["images"] == 1
    printed = capsys.readouterr().out
    assert "mean, things" in printed and "car" in printed

    class Written(CocoLayout):
        def image_path(self, file_name):
            return street / "validation/images" / file_name

    written = Written(out / "panoptic.json", out / "panoptic")[0]
    assert written.segment_map[0, 0] != written.segment_map[39, 0] and written.name == "a"
    assert (written.segment_map[:, 30:] == 0).all() and sorted(written.classes.tolist()) == [0, 1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--data", "coco"], "unknown panoptic data 'coco'"),
        (["--data", "coco_panoptic"], "give --root DIR"),
        (["--data", "generated_things", "--limit", "0"], "--limit must be at least 1"),
        (["--data", "generated_things", "--rules", "cocoa"], "did you mean coco"),
        (["--data", "generated_things"], "has 4 classes, the model 2"),
    ],
)
def test_mistakes_are_one_line(street, capsys, arguments, says):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert says in capsys.readouterr().err


def test_scores_get_their_folder_before_the_work_or_it_does_not_begin(
    tmp_path, street, monkeypatch, capsys
):
    def score(place):
        main(["--data", "panoptic_folder", "--root", str(street), "--json", str(place)])

    score(tmp_path / "new" / "scores.json")
    assert json.loads((tmp_path / "new" / "scores.json").read_text())["images"] == 1
    monkeypatch.setattr(Knowing, "forward", None)
    for place, says in (
        (street / "classes.json" / "scores.json", "cannot write to folder"),
        (street, "is a folder; give a file"),
    ):
        with pytest.raises(SystemExit):
            score(place)
        assert says in capsys.readouterr().err


def test_models_of_another_kind_are_refused():
    other = next(name for name in pretrained.list_models() if name.startswith("vit"))
    with pytest.raises(ValueError, match="doesn't segment"):
        segment.segmenting_model(None, other)
