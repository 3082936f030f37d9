import pytest
import torch
import torch.nn.functional as F
from golden_vision import golden

from stereo_tr.mask.decoder import MaskDecoder
from stereo_tr.mask.translation import DECODER, renamed

CLOSE = {"rtol": 1e-4, "atol": 1e-4}


@torch.no_grad()
def test_it_is_the_authors():
    config, weights, tensors = golden("kmax_decoder_111")
    decoder = MaskDecoder(
        (*config["in_channels"],),
        num_classes=config["num_classes"],
        num_queries=config["num_queries"],
        interaction="kmeans",
        depths=config["dec_layers"],
    ).eval()
    weights = {name.replace("layers.", "layers|"): value for name, value in weights.items()}
    named = {
        name.replace("_kmax_transformer_layers|", "layers.").replace("._", ".0._", 1)
        if "|" in name
        else name: value
        for name, value in weights.items()
    }
    decoder.load_state_dict(renamed(named, DECODER))
    out = decoder([tensors[f"in/{name}"] for name in ("os32", "os16", "os8", "panoptic")])
    torch.testing.assert_close(out.final.class_logits, tensors["eval/pred_logits"], **CLOSE)
    torch.testing.assert_close(out.final.mask_logits, tensors["eval/pred_masks"], **CLOSE)
    torch.testing.assert_close(out.pixel_features, tensors["eval/pixel_feature"], **CLOSE)
    assert len(out.auxiliary) == len(out.auxiliary_features) == len(out.assignments) == 3
    for index, (masks, features) in enumerate(
        zip(out.auxiliary, out.auxiliary_features, strict=True)
    ):
        theirs = f"eval/aux{index}/"
        torch.testing.assert_close(masks.class_logits, tensors[f"{theirs}pred_logits"], **CLOSE)
        for ours, name in ((masks.mask_logits, "pred_masks"), (features, "pixel_feature")):
            # theirs are handed out at the final size; 17 x 25 is odd, so corners stay
            ours = F.interpolate(ours, (17, 25), mode="bilinear", align_corners=True)
            torch.testing.assert_close(ours, tensors[theirs + name], **CLOSE)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"interaction": "means"}, "'means'; known are cross, dual_cross, kmeans, dual_kmeans, cl"),
        ({"num_queries": 0}, "num_queries=0: at least 1"),
        ({"depths": (1, 1)}, r"layers=\(1, 1\): one number for each of 3 maps"),
    ],
)
def test_bad_settings_say_so(wrong, message):
    settings = {"num_classes": 3, "num_queries": 4, "interaction": "cross"} | wrong
    with pytest.raises(ValueError, match=message):
        MaskDecoder((8, 8, 8, 8), **settings)
