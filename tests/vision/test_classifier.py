"""What all vision models have in common, on a small one of each family."""

import math

import pytest
import torch
from small_models import PIXELWISE, SMALL

from stereo_tr import create_model
from stereo_tr.attention import Attention, recorded_weights
from stereo_tr.datasets.image_folder import LabelledImage
from stereo_tr.vision.classifier import STRIDES, pyramid_of_one, rising

CLASSES = 7


def make(name, **overrides):
    torch.manual_seed(0)
    sizes = (SMALL | PIXELWISE)[name]
    return create_model(name, num_classes=CLASSES, **sizes, **overrides).eval()


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("size", [(37, 90), (64, 64), (1, 5)])
def test_any_size_gives_scores_and_a_pyramid(name, size):
    model, x = make(name), torch.rand(2, 3, *size)
    with torch.no_grad():
        scores, maps = model(x), model.features(x)
        alone = torch.cat([model(image[None]) for image in x])
    assert scores.shape == (2, CLASSES)
    torch.testing.assert_close(scores, alone, rtol=1e-4, atol=1e-5)
    assert tuple(maps) == STRIDES
    for stride, map_ in maps.items():
        places = [math.ceil(side / stride) for side in size]
        assert map_.shape == (2, model.feature_channels[stride], *places)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("channels", [1, 5])
def test_other_channels_and_no_classes(name, channels):
    model = create_model(name, in_channels=channels, num_classes=0, **SMALL[name]).eval()
    x = torch.rand(1, channels, 33, 40)
    with torch.no_grad():
        assert torch.equal(model(x), model.embedding(x))
    with pytest.raises(ValueError, match=rf"\[1, 3, 33, 40\] for a model of {channels} channels"):
        model(torch.rand(1, 3, 33, 40))


def test_channels_and_classes_must_be_there():
    for wrong in ({"num_classes": -1}, {"in_channels": 0}):
        with pytest.raises(ValueError, match="at least 0 classes"):
            create_model("resnet50", **wrong)
    with pytest.raises(ValueError, match=r"takes no classes; what can .*num_classes"):
        create_model("resnet50", classes=3)


@pytest.mark.parametrize("name", SMALL)
def test_colours_are_normalised_inside(name):
    model = make(name, colours=((0.2, 0.3, 0.4), (0.5, 0.6, 0.7)))
    plain = make(name, colours=((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))
    x = torch.rand(1, 3, 32, 32)
    mean, deviation = (torch.tensor(v)[:, None, None] for v in ((0.2, 0.3, 0.4), (0.5, 0.6, 0.7)))
    with torch.no_grad():
        torch.testing.assert_close(model(x), plain((x - mean) / deviation))
    assert not {"mean", "deviation"} & set(model.state_dict())


@pytest.mark.parametrize("name", [*SMALL, *PIXELWISE])
def test_checkpointing_changes_no_gradient(name):
    x, results = torch.rand(2, 3, 40, 36), []
    for checkpointing in (False, True):
        model = make(name, checkpointing=checkpointing)
        model(x).square().sum().backward()
        results.append([p.grad for p in model.parameters() if p.grad is not None])
    assert len(results[0]) > 20
    for plain, recomputed in zip(*results, strict=True):
        torch.testing.assert_close(recomputed, plain)


@pytest.mark.parametrize("name", ["moat_0", "resnet50"])
def test_checkpointing_counts_a_batch_once(name):
    x, results = torch.rand(2, 3, 40, 36), []
    for checkpointing in (False, True):
        model = make(name, checkpointing=checkpointing).train()
        model(x).square().sum().backward()
        results.append(dict(model.named_buffers()))
    for key, buffer in results[0].items():
        torch.testing.assert_close(results[1][key], buffer)


@pytest.mark.parametrize("name", SMALL)
def test_drop_path_works_in_training_only(name):
    model, x = make(name, drop_path=0.5), torch.rand(1, 3, 64, 64).expand(12, -1, -1, -1)
    for parameter in model.parameters():  # every branch counts
        parameter.data.normal_(std=0.3)
    with torch.no_grad():
        torch.testing.assert_close(model(x), model(x)[:1].expand(12, -1), rtol=1e-3, atol=1e-3)
        for module in model.modules():  # batch statistics would make the same images differ
            module.training = not isinstance(module, torch.nn.BatchNorm2d)
        assert model(x).var(0).max() > 1e-4


@pytest.mark.parametrize("name", [*SMALL, *PIXELWISE])
def test_an_encoder_keeps_its_features_and_loses_what_only_classifies(name):
    model, x = make(name), torch.rand(1, 3, 40, 36)
    count = sum(p.numel() for p in model.parameters())
    with torch.no_grad():
        before = model.features(x)
        model.drop_classifier()
        for stride, map_ in model.features(x).items():
            assert torch.equal(map_, before[stride])
    assert sum(p.numel() for p in model.parameters()) < count


@pytest.mark.parametrize("name", [*SMALL, *PIXELWISE])
def test_a_batch_of_labels_is_learned_from(name):
    model = make(name).train()
    labels = torch.randint(CLASSES, (3, 32, 32) if name in PIXELWISE else (3,))
    batch = LabelledImage(torch.rand(3, 3, 32, 32), labels, ["a", "b", "c"])
    (loss,) = model.training_losses(batch).values()
    loss.backward()
    assert loss.isfinite() and model.head.weight.grad.abs().sum() > 0


def test_rates_rise_evenly():
    assert rising(0.3, 4) == pytest.approx([0, 0.1, 0.2, 0.3])
    assert rising(0.3, 1) == [0]


@pytest.mark.parametrize("name", [*SMALL, *PIXELWISE])
def test_one_switch_shows_all_attention(name):
    model, x = make(name), torch.rand(2, 3, 45, 52)
    with torch.no_grad():
        expected = model(x)
        with recorded_weights(model) as weights:
            torch.testing.assert_close(model(x), expected)
    layers = [part for part, module in model.named_modules() if isinstance(module, Attention)]
    assert list(weights) == layers
    for weight in weights.values():
        torch.testing.assert_close(weight.sum(-1), torch.ones(weight.shape[:-1]))


def test_a_single_map_becomes_a_pyramid_in_place():
    """A map that rises evenly from left to right still does, at the same places of the image."""
    patch, width = 8, 64
    ramp = (torch.arange(width // patch) + 0.5) * patch
    maps = pyramid_of_one(ramp.expand(1, 5, -1)[..., None], patch, 38, width)
    for stride, map_ in maps.items():
        places = (torch.arange(width // stride) + 0.5) * stride
        assert map_.shape == (1, 1, math.ceil(38 / stride), width // stride)
        inner = slice(1, -1) if stride < patch else slice(None)  # nothing is known beyond an edge
        torch.testing.assert_close(map_[0, 0, 0, inner], places[inner])
