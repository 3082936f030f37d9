import pytest
import torch
from authors import load, nchw, translate
from golden_vision import golden

from stereo_tr.attention import recorded_weights
from stereo_tr.mask.blocks import Axial2d, Block
from stereo_tr.mask.translation import of_axial_attention


def test_axial_attention_is_the_authors():
    config, weights, tensors = golden("axial_attention_2d")
    filters = config["filters"]
    keys, values = filters * config["key_expansion"], filters * config["value_expansion"]
    layer = Axial2d(config["in_planes"], keys, values, heads=config["num_heads"]).eval()
    layer.load_state_dict(of_axial_attention(weights))
    out = layer(tensors["in/x"])
    torch.testing.assert_close(out, tensors["eval/out"], rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", ["axial_block_s1", "axial_block_s2"])
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_axial_blocks_are_the_authors(name, mode):
    config, weights, tensors = golden(name)
    x = nchw(tensors["in/x"])
    block = Block(x.shape[1], config["filters"][1], "axial", stride=config["stride"])
    load(block, translate(weights, [(r"^axial_block(_1)?/", "")]))
    out = block.train(mode == "train")(x)
    torch.testing.assert_close(out, nchw(tensors[f"{mode}/out"]), rtol=2e-5, atol=2e-5)


def test_weights_can_be_looked_at():
    layer = Axial2d(6, 8, 16)
    with recorded_weights(layer) as weights:
        layer(torch.rand(2, 6, 3, 5))
    columns, rows = weights["height.attention"], weights["width.attention"]
    assert columns.shape == (2 * 5, 8, 3, 3) and rows.shape == (2 * 3, 8, 5, 5)
    torch.testing.assert_close(columns.sum(-1), torch.ones(10, 8, 3))


def test_maps_beyond_the_reach_of_positions():
    layer = Axial2d(3, 8, 8).eval()
    assert layer(torch.rand(1, 3, 300, 2)).isfinite().all()


@pytest.mark.parametrize("kind", ["axial", "bottleneck", "basic"])
def test_a_block_starts_as_its_shortcut(kind):
    block = Block(16, 4, kind, heads=2)
    x = torch.rand(2, 16, 5, 3)
    assert torch.equal(block(x), x)


def test_an_unknown_kind_names_the_known():
    with pytest.raises(ValueError, match="known are 'axial', 'bottleneck' and 'basic'"):
        Block(16, 4, "wide")
