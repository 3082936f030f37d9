"""The published models against the textbook: both sides of every shortcut, the same weights."""

import pytest
import torch
from golden_stereo import golden, pair
from textbook import Textbook

from stereo_tr import create_model, load_weights
from stereo_tr.attention.memory import working_memory
from stereo_tr.datasets.generated import GeneratedScenes
from stereo_tr.stereo.output import maps_only
from stereo_tr.stereo.published.features import PairMoments

SIZE = {"cstr": (35, 58), "sttr": (38, 49), "sttr_light": (34, 42)}


def some_model(name):
    torch.manual_seed(3)
    model = create_model(name, layers=2).eval()
    with torch.no_grad():
        for key, value in (*model.named_parameters(), *model.named_buffers()):
            if ("norm" in key and value.is_floating_point()) or key.endswith("bias"):
                value.add_(0.2 * torch.rand_like(value))
        model.dustbin.fill_(-1.0)
    return model


def batch(name, height, width):
    sample = GeneratedScenes(height, width, seed=6, photographs=False)[0]
    fields = (value if isinstance(value, str) else value[None] for value in sample)
    return type(sample)(*fields)


def same(found, expected):
    for field in ("disparity", "occlusion", "confidence"):
        ours, theirs = getattr(found, field), getattr(expected, field)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-3)
    assert torch.equal(found.details.rows, expected.details.rows)
    assert found.details.scale == expected.details.scale


@pytest.mark.parametrize("name", SIZE)
def test_inference_is_the_textbook_at_any_budget(name):
    model = some_model(name)
    left, right = torch.rand(2, 1, 3, *SIZE[name])
    with torch.no_grad():
        expected = Textbook(model).eval()(left, right)
        whole = model(left, right)
        same(whole, expected)
        for field in ("scores", "log_assignment"):
            ours, theirs = getattr(whole.details, field), getattr(expected.details, field)
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)
        with working_memory(1_000_000), maps_only():
            in_pieces = model(left, right)
    same(in_pieces, expected)
    assert in_pieces.details.scores is None
    assert in_pieces.details.log_assignment is None


@pytest.mark.parametrize(("height", "width"), [(2, 40), (37, 31), (38, 30), (39, 29), (40, 28)])
@pytest.mark.parametrize("budget", [1, 700_000])
def test_tokens_made_in_strips_are_those_of_whole_maps(height, width, budget):
    model = some_model("sttr")
    images = torch.randn(2 * 3, 3, height, width) + 0.5
    with torch.no_grad():
        features = model.backbone(images)
        with working_memory(10**12):
            expected = model.tokenizer(features, images)
        with working_memory(budget):
            found = model.tokenizer(features, images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_moments_of_strips_are_those_of_the_whole_far_from_zero():
    rows = torch.randn(2 * 2, 5, 23, 7) + 1000
    moments = PairMoments()
    for strip in rows.split((1, 4, 18), dim=2):
        moments.add(strip)
    pairs = rows.double().unflatten(0, (2, 2))
    torch.testing.assert_close(moments.mean.double(), pairs.mean((0, 3, 4)), rtol=1e-6, atol=0)
    expected = pairs.var((0, 3, 4), correction=0)
    torch.testing.assert_close(moments.variance().double(), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", SIZE)
def test_a_training_step_is_the_textbooks(name):
    model = some_model(name).train()
    plain = Textbook(model).train()
    sample = batch(name, 33, 44)
    ours, theirs = model.training_losses(sample), plain.training_losses(sample)
    for key, loss in theirs.items():
        torch.testing.assert_close(ours[key], loss, rtol=1e-4, atol=1e-5)
    sum(ours.values()).backward()
    sum(theirs.values()).backward()
    for key, value in model.named_parameters():
        expected = plain.get(key).grad
        if not value.requires_grad or key.startswith(("backbone", "tokenizer")):
            continue  # far from the loss, through batch statistics: rounding is magnified
        error = (value.grad - expected).norm()
        assert error <= 1e-2 * expected.norm() + 1e-5, (key, error, expected.norm())


def test_the_textbook_is_the_original():
    model = create_model("cstr")
    load_weights(model, golden("cstr/state_dict"))
    expected = golden("cstr/out_noise")
    with torch.no_grad():
        output = Textbook(model.eval()).eval()(*pair("noise"))
    torch.testing.assert_close(output.disparity, expected["disp_pred"], rtol=0, atol=1e-3)
    torch.testing.assert_close(output.occlusion, expected["occ_pred"], rtol=0, atol=1e-4)
