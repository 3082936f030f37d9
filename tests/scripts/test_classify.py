"""`stereo-tr classify` from a folder of images to predictions, on a tiny model."""

import json
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from stereo_tr.datasets.files import write_png
from stereo_tr.scripts import classify
from stereo_tr.vision.vit import VisionTransformer

MODEL = ["--model", "vit_tiny_patch16_224", "--override"]
SIZES = ["patch=4", "channels=16", "depth=1", "heads=2", "image_size=8"]
SHORT = ["--size", "8", "--batch", "6", "--learning-rate", "0.01", "--warmup", "2"]
TRAIN = [*MODEL, *SIZES, *SHORT, "--workers", "0", "--validate-every", "20"]


@pytest.fixture(autouse=True)
def no_curves(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)


@pytest.fixture
def folder(tmp_path):
    """Three classes that a colour tells apart, ten images each of another size."""
    draw = np.random.default_rng(1)
    for channel, name in enumerate(("red", "green", "blue")):
        (tmp_path / "images" / name).mkdir(parents=True)
        for index in range(10):
            image = draw.integers(0, 120, (9 + index, 12, 3), np.uint8)
            image[..., channel] += 130
            write_png(tmp_path / "images" / name / f"{index}.png", image)
    return tmp_path / "images"


def test_it_learns_resumes_scores_and_predicts(folder, tmp_path, capsys):
    out, whole = tmp_path / "run", tmp_path / "whole"
    data = ["--data", str(folder), *TRAIN]
    classify.main([*data, "--out", str(whole), "--steps", "40"])
    printed = capsys.readouterr().out
    assert "3 classes, 24 images to learn from, 6 to score, 0 left out" in printed
    assert "step 40: validation accuracy 100.00 %" in printed
    scores = json.loads((whole / "scores.json").read_text())
    assert scores == {
        "accuracy": 100.0,
        "images": 6,
        "classes": {"blue": 100.0, "green": 100.0, "red": 100.0},
    }

    # stopped at once, and resumed: the same weights to the last bit
    classify.main([*data, "--out", str(out), "--steps", "40", "--minutes", "0"])
    assert "--resume" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        classify.main(["--predict", str(folder / "red/1.png"), "--out", str(out)])
    assert "the run isn't finished" in capsys.readouterr().err
    other = ["--flip", "--size", "12", "--weights", "w.pth", "--override", "depth=2"]
    other += ["--data", str(tmp_path / "more"), "--model", "vit_small_patch16_224"]
    with pytest.raises(SystemExit, match="2"):
        classify.main(["--resume", "--out", str(out), *other])
    told = "a run, and --data, --model, --override, --weights, --flip, --size can't change"
    assert told in capsys.readouterr().err
    classify.main(["--resume", "--out", str(out), *data])  # the same once more is no change
    picture = ["--predict", str(folder / "red/1.png"), "--out", str(out)]
    with pytest.raises(SystemExit, match="2"):  # another's weights would seem to answer
        classify.main([*picture, "--weights", "w.pth"])
    assert "--weights can't change" in capsys.readouterr().err
    first, second = (load_file(path / "weights.safetensors") for path in (whole, out))
    assert all(torch.equal(first[name], second[name]) for name in first)

    images = [str(folder / "red/1.png"), str(folder / "blue/2.png")]
    capsys.readouterr()
    classify.main(["--predict", *images, "--out", str(out)])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[1].split()[0] for line in lines] == ["red", "blue"]

    classify.main(["--evaluate", "--data", str(folder), "--out", str(out)])
    assert "all 30" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "vit_tiny_patch16"], "did you mean vit_tiny_patch16_224"),
        (["--model", "transunet_r50_vit_b16"], "no model that scores images is called"),
        (["--model", "cstr_small"], "no model that scores images is called"),
        ([], "--data FOLDER and --model NAME are needed"),
        (["--model", "vit_tiny_patch16_224", "--unreadable", "stop"], "broken.png: not a picture"),
    ],
)
def test_what_cannot_be_is_one_sentence_and_leaves_nothing(
    folder, tmp_path, capsys, arguments, said
):
    (folder / "red" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(SystemExit, match="2"):
        classify.main(["--data", str(folder), *arguments, "--out", str(tmp_path / "run")])
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_folder_with_one_image_a_class_is_refused(folder, tmp_path, capsys):
    for image in folder.glob("*/[1-9].png"):
        image.unlink()
    with pytest.raises(SystemExit, match="2"):
        classify.main(["--data", str(folder), *TRAIN, "--out", str(tmp_path / "run")])
    error = capsys.readouterr().err
    assert "images holds one image a class" in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_weights_for_other_classes_need_a_new_classifier(folder, tmp_path, capsys):
    (folder / "red" / "broken.png").write_bytes(b"no picture")
    other = VisionTransformer(patch=4, channels=16, depth=1, heads=2, image_size=8, num_classes=5)
    torch.save(other.state_dict(), tmp_path / "five.pth")
    start = ["--data", str(folder), *TRAIN, "--weights", str(tmp_path / "five.pth")]
    start += ["--unreadable", "skip", "--out", str(tmp_path / "run"), "--steps", "1"]
    with pytest.raises(SystemExit, match="2"):
        classify.main(start)
    assert "made for 5 classes and the model for 3" in capsys.readouterr().err
    classify.main([*start, "--new-classifier", "--learning-rate", "1e-9"])
    captured = capsys.readouterr()
    assert "broken.png" in captured.out and "1 left out" in captured.out
    learned = load_file(tmp_path / "run" / "weights.safetensors")
    half = other.state_dict()["norm.weight"].half()
    torch.testing.assert_close(learned["norm.weight"], half)
    patches = other.state_dict()["patches.project.weight"].half()
    torch.testing.assert_close(learned["patches.project.weight"], patches)
    assert learned["head.weight"].shape == (3, 16)
