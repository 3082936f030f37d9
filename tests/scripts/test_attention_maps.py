"""Attention maps against brute force, and the command."""

import numpy as np
import pytest
import torch

from stereo_tr import create_model
from stereo_tr.attention import EpipolarLine, Windows
from stereo_tr.datasets.files import read_image, write_png
from stereo_tr.scripts import attention_maps
from stereo_tr.scripts.attention_maps import Layer, looked_at, recorded_layers

SWIN = {"channels": 8, "depths": (1, 2, 1, 1), "heads": (1, 2, 4, 8), "window": 3}


def test_what_a_token_looks_at_lies_where_the_layout_says():
    """Weights that say which sequence, query and key they belong to, in a padded, rolled window."""
    layout = Windows(2, 3, (1, 1))
    height, width = 3, 5  # padded to 4 x 6: four windows of six
    weights = torch.rand(4, 2, 6, 6)
    layer = Layer("a", weights, layout, 1, height, width)
    tokens = torch.arange(height * width, dtype=torch.float32).view(1, height, width, 1)
    for row, column in ((0, 0), (2, 4), (1, 2)):
        seen = looked_at(layer, 0, row, column)
        # let the core do it: values that are one at a single key bring out that key's weight
        for other in range(height * width):
            value = layout.split((tokens == other).float())
            merged = layout.merge(weights.mean(1) @ value, height, width)
            assert seen.flatten()[other] == pytest.approx(merged[0, row, column, 0].item())


def test_a_left_token_looks_along_its_epipolar_line():
    weights = torch.rand(2 * 3, 1, 4, 4)  # two views of three rows
    seen = looked_at(Layer("a", weights, EpipolarLine(), 2, 3, 4), 0, 1, 2)
    assert not seen[0].any()
    torch.testing.assert_close(seen[1, 1], weights[1, 0, 2])
    assert not seen[1, [0, 2]].any()


def test_all_layers_over_maps_are_recorded_in_their_order():
    model = create_model("swin_tiny_patch4_window7_224", num_classes=3, **SWIN).eval()
    layers = recorded_layers(model, lambda: model(torch.rand(1, 3, 40, 50)))
    assert [(layer.height, layer.width) for layer in layers] == [
        (10, 13),
        (5, 7),
        (5, 7),
        (3, 4),
        (2, 2),
    ]
    for layer in layers:
        assert looked_at(layer, 0, 1, 1).sum() == pytest.approx(1, abs=1e-5)
    clip = create_model("resnet50", widths=(8, 8, 8, 8), depths=(1, 1, 1, 1)).eval()
    assert recorded_layers(clip, lambda: clip(torch.rand(1, 3, 32, 32))) == []


@pytest.fixture
def views(tmp_path):
    paths = [tmp_path / f"{name}.png" for name in ("left", "right")]
    for path in paths:
        write_png(path, np.random.default_rng(2).integers(0, 255, (36, 52, 3), np.uint8))
    return [str(path) for path in paths]


def test_pictures_of_vit_and_of_a_pair(views, tmp_path, capsys):
    small = ["--override", "channels=12", "depth=2", "heads=2", "image_size=32"]
    vit = [views[0], "--model", "vit_tiny_patch16_224", *small, "--out", str(tmp_path / "vit")]
    attention_maps.main([*vit, "--class-token"])
    assert "layer_01.png: blocks.1.0.branch.attention, 3x4 tokens" in capsys.readouterr().out
    names = sorted(path.name for path in (tmp_path / "vit").iterdir())
    assert names == ["layer_00.png", "layer_01.png", "overview.png"]
    assert read_image(tmp_path / "vit" / "layer_00.png").shape == (36, 52, 3)
    assert read_image(tmp_path / "vit" / "overview.png").shape == (40, 2 * 56, 3)

    pair = [*views, "--override", "layers=1", "--out", str(tmp_path / "pair"), "--at", "30", "8"]
    attention_maps.main(pair)
    picture = read_image(tmp_path / "pair" / "layer_00.png")
    assert picture.shape == (36, 52 + 4 + 52, 3)
    assert np.array_equal(picture[8, 33], attention_maps.MARK)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "resnet50"], "resnet50 has no attention among the places of a map"),
        (["--model", "cstr_small"], "cstr_small takes 2 images, not 1"),
        (["--model", "moat_0", "--at", "52", "3"], "--at 52 3 lies outside the image of 52x36 px"),
        (["--model", "vitamin_small_clip"], "isn't drawn: take a stereo or an image model"),
    ],
)
def test_what_cannot_be_drawn(views, tmp_path, capsys, arguments, said):
    with pytest.raises(SystemExit, match="2"):
        attention_maps.main([views[0], *arguments, "--out", str(tmp_path / "out")])
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
