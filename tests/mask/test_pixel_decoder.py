import pytest
import torch
from golden_vision import golden

from stereo_tr.mask.pixel_decoder import PixelDecoder
from stereo_tr.mask.translation import PIXEL_DECODER, renamed


def test_it_is_the_authors():
    config, weights, tensors = golden("kmax_pixel_decoder")
    decoder = PixelDecoder(
        list(config["channels"].values())[::-1],
        widths=config["dec_channels"],
        depths=config["dec_layers"],
        kinds=config["layer_types"],
        heads=config["num_heads"],
    ).eval()
    decoder.load_state_dict(renamed(weights, PIXEL_DECODER))
    maps = decoder([tensors[f"in/res{stage}"] for stage in (5, 4, 3, 2)])
    for name, map_ in zip(("os32", "os16", "os8", "panoptic"), maps, strict=True):
        torch.testing.assert_close(map_, tensors[f"eval/{name}"], rtol=1e-4, atol=1e-4)


def test_a_stage_for_every_map():
    with pytest.raises(ValueError, match="for every map of the encoder, which has 3"):
        PixelDecoder((24, 16, 12))
