"""Vision models as feature extractors of the stereo transformer."""

import pytest
import torch
from torch import nn

from stereo_tr import create_model
from stereo_tr.pretrained import model_from_weights, save_weights
from stereo_tr.stereo.encoder import EncoderFeatures
from stereo_tr.stereo.model import ContextStereoTransformer
from stereo_tr.vision.convnext import ConvNeXt
from stereo_tr.vision.moat import MOAT
from stereo_tr.vision.resnet import ResNet
from stereo_tr.vision.swin import Swin
from stereo_tr.vision.transunet import TransUNet
from stereo_tr.vision.vit import VisionTransformer
from stereo_tr.vision.vitamin import ViTamin

ENCODERS = {
    "vit": lambda: VisionTransformer(channels=12, depth=2, heads=2, image_size=(48, 64)),
    "swin": lambda: Swin(channels=8, depths=(2, 1, 1, 1), heads=(1, 2, 4, 8), window=3),
    "convnext": lambda: ConvNeXt(widths=(8, 12, 16, 20), depths=(1, 1, 1, 1)),
    "moat": lambda: MOAT(stem=8, depths=(1, 1, 1, 1), widths=(8, 12, 16, 24), head=8),
    "vitamin": lambda: ViTamin(
        stem=8, channels=12, depth=1, heads=2, convolutions=(1, 1), image_size=(48, 64)
    ),
    "resnet": lambda: ResNet(widths=(8, 16, 24, 32), depths=(1, 1, 1, 1)),
    "transunet": lambda: TransUNet(
        channels=12, depth=1, heads=2, hidden=24, width=32, units=(1, 1, 1), image_size=64
    ),
}
WIDTHS = (8, 16, 24, 32)
NAME = "vit_tiny_patch16_224"


@pytest.mark.parametrize("kind", ENCODERS)
def test_every_family_gives_the_pyramid_and_all_of_it_learns(kind):
    features = EncoderFeatures(ENCODERS[kind](), WIDTHS)
    pyramid = features(torch.randn(2, 3, 48, 80))
    shapes = [tuple(map_.shape[1:]) for map_ in pyramid]
    assert shapes == [(8, 24, 40), (16, 12, 20), (32, 3, 5)]
    sum(map_.square().sum() for map_ in pyramid).backward()
    idle = [name for name, p in features.named_parameters() if p.grad is None]
    assert not idle  # what is only there to classify is gone


def test_a_stereo_model_matches_with_an_encoder():
    torch.manual_seed(0)
    model = ContextStereoTransformer(
        widths=WIDTHS,
        layers=1,
        adjustment_width=16,
        refinement_width=8,
        encoder=ENCODERS["swin"](),
    )
    left, right = torch.rand(2, 3, 3, 37, 53)
    left[1] *= 0.2  # exposure doesn't matter, as without an encoder
    model.eval()
    with torch.no_grad():
        together = model(left, right)
        brighter = model(left * 0.5 + 0.3, right)
        alone = model(left[1:2], right[1:2])
    assert together.disparity.shape == (3, 37, 53)
    torch.testing.assert_close(alone.disparity, together.disparity[1:2], rtol=1e-3, atol=1e-2)
    difference = (brighter.disparity - together.disparity)[0].abs().mean()
    assert difference < 0.2 * together.disparity[0].abs().mean()


def test_an_encoder_is_given_by_name_and_remembered(tmp_path):
    model = create_model("cstr_small", encoder=NAME)
    assert isinstance(model.features.encoder.head, nn.Identity)
    save_weights(model, tmp_path / "mine.safetensors", "cstr_small", {"encoder": NAME})
    again = model_from_weights(tmp_path / "mine.safetensors", stereo=True)
    name = "features.encoder.blocks.3.1.branch.widen.weight"
    assert torch.equal(again.state_dict()[name], model.state_dict()[name].half().float())


def test_without_an_encoder_nothing_changes():
    with torch.device("meta"):
        plain, none = create_model("cstr_small"), create_model("cstr_small", encoder=None)
    assert list(none.state_dict()) == list(plain.state_dict())
    assert not any("encoder" in name for name in plain.state_dict())


@pytest.mark.parametrize(
    ("encoder", "said"),
    [
        ("swin_tiny_patch4", "did you mean swin_tiny_patch4_window7_224"),
        ("sttr", "no encoder is called 'sttr'; known: convnext_base, "),
        ("vitamin_small_clip", "did you mean vitamin_small_224"),
        (3, "no encoder is called 3; known: "),
    ],
)
def test_what_is_no_encoder_is_refused(encoder, said):
    with pytest.raises(ValueError, match=said):
        create_model("cstr_small", encoder=encoder)


def test_the_published_models_have_their_own_features():
    with pytest.raises(ValueError, match="cstr takes no encoder"):
        create_model("cstr", encoder=NAME)
