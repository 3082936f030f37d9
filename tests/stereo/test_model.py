import pytest
import torch

from stereo_tr.datasets.sample import StereoSample
from stereo_tr.stereo.model import ContextStereoTransformer, _coin


@pytest.fixture(scope="module")
def model():
    """The architecture of cstr_small with few channels, weights far from where training starts."""
    torch.manual_seed(0)
    model = ContextStereoTransformer(
        widths=(8, 16, 24, 32), blocks=(2, 1, 1), layers=2, adjustment_width=16, refinement_width=8
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def views(pairs, height, width):
    generator = torch.Generator().manual_seed(7)  # no ties between matches that rounding decides
    both = torch.rand(2, pairs, 3, height, width, generator=generator)
    return both[0], both[1]


def assert_same(output, expected):
    """float32 through many layers: disparities to 1e-3 px."""
    torch.testing.assert_close(output.disparity, expected.disparity, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(output.occlusion, expected.occlusion, rtol=0, atol=1e-4)
    torch.testing.assert_close(output.confidence, expected.confidence, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("pairs", "height", "width"), [(1, 33, 47), (2, 32, 64), (1, 1, 1), (1, 17, 5), (3, 16, 48)]
)
def test_any_size_and_every_range(model, pairs, height, width):
    with torch.no_grad():
        output = model(*views(pairs, height, width))
    for values in (output.disparity, output.occlusion, output.confidence):
        assert values.shape == (pairs, height, width)
        assert values.isfinite().all() and values.min() >= 0
    assert output.occlusion.max() <= 1 and output.confidence.max() <= 1
    assert output.disparity.max() <= width + 15 + 8  # as far as the padded row and the last moves
    tokens = -(-width // 16) * 4
    assignment = output.details.log_assignment.exp()
    torch.testing.assert_close(
        assignment[..., :-1, :].sum(-1), torch.ones(pairs, -(-height // 16) * 4, tokens)
    )
    assert not assignment[..., :-1, :-1].triu(1).any()  # disparities are never negative


def test_a_batch_gives_what_its_pairs_give_alone(model):
    left, right = views(3, 20, 37)
    left[1] *= 0.2  # pairs of different exposure
    with torch.no_grad():
        together = model(left, right)
        for b in range(3):
            alone = model(left[b : b + 1], right[b : b + 1])
            assert_same(alone, type(together)(*(x[b : b + 1] for x in together[:3]), None))


def test_samples_do_not_see_each_other(model):
    left, right = views(2, 16, 32)
    with torch.no_grad():
        before = model(left, right)
        left[1], right[1] = torch.rand(2, 3, 16, 32)
        after = model(left, right)
    for old, new in zip(before[:3], after[:3], strict=True):
        assert torch.equal(old[0], new[0])
        assert not torch.equal(old[1], new[1])


def test_views_meet_only_in_attention(model):
    """The features of one view don't depend on the other, nor on which of the two it is."""
    left, right = views(2, 32, 48)
    with torch.no_grad():
        together = model.features(torch.cat((left, right)))
        for alone, stacked in zip(model.features(right), together, strict=True):
            torch.testing.assert_close(stacked[2:], alone, rtol=1e-4, atol=1e-5)


def test_candidates_are_what_the_nearest_token_was_matched_to(model):
    left, right = views(2, 22, 35)
    with torch.no_grad():
        output, training = model.eval()(left, right), model.train()(left, right)
    model.eval()
    assert training.candidates is None
    match = output.details.match

    def nearest(place, tokens):  # they lie on pixels 0, 4, 8, ...
        return min(range(tokens), key=lambda token: (abs(4 * token - place), -token))

    rows = [nearest(y, match.disparity.shape[1]) for y in range(22)]
    columns = [nearest(x, match.disparity.shape[2]) for x in range(35)]
    expected = match.disparity[:, rows][..., columns] * 4
    torch.testing.assert_close(output.candidates.disparity, expected)
    expected = match.confidence[:, rows][..., columns]
    torch.testing.assert_close(output.candidates.confidence, expected)


def test_training_is_inference_and_both_are_deterministic(model):
    left, right = views(2, 33, 31)
    with torch.no_grad():
        first, second = model.eval()(left, right), model.eval()(left, right)
        training = model.train()(left, right)
    for values in zip(first[:3], second[:3], training[:3], strict=True):
        assert torch.equal(values[0], values[1]) and torch.equal(values[0], values[2])
    assert_same(first, model(left, right))  # with gradients: plain products, no fused kernel
    assert not list(model.buffers())  # no statistics are carried along


def test_exposure_does_not_matter(model):
    left, right = views(1, 32, 32)
    with torch.no_grad():
        darker = model(0.9 * left + 0.05, 0.9 * right + 0.02)
        expected = model(left, right)
    # exact but for what keeps a blank image from dividing by 0
    torch.testing.assert_close(darker.disparity, expected.disparity, rtol=0, atol=0.1)


def flat_scenes(height, width, *disparities):
    """Random textures, each at one disparity, with the truth of both views."""
    textures = torch.rand(len(disparities), 3, height, width + max(disparities))
    right = torch.stack([x[..., d : d + width] for x, d in zip(textures, disparities, strict=True)])
    known = torch.tensor(disparities).float()[:, None, None].expand(-1, height, width)
    occluded = torch.arange(width) < known
    return StereoSample(
        left=textures[..., :width],
        right=right,
        disparity=known,
        valid=torch.ones_like(occluded),
        occluded=occluded,
        right_disparity=known,
        right_valid=~occluded.flip(-1),
        right_occluded=occluded.flip(-1),
        name=[f"{d} px" for d in disparities],
    )


ABLATIONS = [
    {},
    {"context": []},
    {"context": ["epipolar lines", "rows"]},
    {"sinkhorn_iterations": 0},
    {"adjusts": False},
]


@pytest.mark.parametrize("ablation", ABLATIONS, ids=str)
def test_the_gradient_reaches_every_parameter(ablation):
    torch.manual_seed(0)
    model = ContextStereoTransformer(
        widths=(8, 16, 24, 32),
        blocks=(2, 1, 1),
        layers=2,
        adjustment_width=16,
        refinement_width=8,
        **ablation,
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    sample = flat_scenes(32, 48, 5, 8)
    output = model.train()(sample.left, sample.right)
    losses = model.losses(output, sample)
    model.zero_grad()
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        # Softmax doesn't see what is added to all keys; elsewhere the position makes a difference.
        if name != "adjustment.propagation.to_key.bias":
            assert parameter.grad.any(), name


@pytest.mark.parametrize(
    "size",
    [
        {"layers": -1},
        {"window": -2},
        {"refinement_reach": -1},
        {"sinkhorn_iterations": -1},
        {"refinement_width": 0},
        {"adjustment_width": -4},
    ],
)
def test_a_size_below_the_least_is_named(size):
    [(name, value)] = size.items()
    with pytest.raises(ValueError, match=f"^{name} is {value}; take [01] or more$"):
        ContextStereoTransformer(**size)


def test_context_that_is_left_out_is_gone():
    def attentions(**options):
        model = ContextStereoTransformer(layers=2, **options)
        return sum(type(module).__name__ == "Attention" for module in model.modules())

    assert attentions() == 2 * (1 + 3)
    assert attentions(context=["rows", "epipolar lines"]) == 2 * (1 + 2)
    assert attentions(context=[]) == 2
    with pytest.raises(ValueError, match="known are columns"):
        ContextStereoTransformer(context=["row"])


def test_two_pairs_can_be_learned():
    """Nothing but the disparity tells them apart on average; a constant would be 4 px wrong."""
    torch.manual_seed(1)
    model = ContextStereoTransformer(
        widths=(8, 16, 16, 16), blocks=(1, 1, 1), layers=1, adjustment_width=16, refinement_width=8
    )
    sample = flat_scenes(16, 32, 4, 12)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for _ in range(28):
        output = model(sample.left, sample.right)
        optimizer.zero_grad()
        sum(model.losses(output, sample).values()).backward()
        optimizer.step()
    assert (output.disparity - sample.disparity).abs().mean() < 1


def test_a_pair_is_guided_by_its_own_pixels():
    """Of many pairs about half are, the same whatever batch they come in."""
    torch.manual_seed(0)
    images = torch.rand(200, 3, 5, 7)
    guided = _coin(images)
    assert set(guided.tolist()) == {0.0, 1.0}
    assert 70 < guided.sum() < 130  # five standard deviations of a fair coin are 35
    assert torch.equal(_coin(images[50:]), guided[50:])


def test_refinement_trains_in_full_precision():
    """Whatever the layers before compute in; while matching it computes as they do."""
    torch.manual_seed(0)
    model = ContextStereoTransformer(layers=1)
    kinds = {}

    def note(module, given):
        kinds[module] = given[0].dtype

    model.refinement.outputs.register_forward_pre_hook(note)
    model.features.to_quarter.register_forward_pre_hook(note)
    for training, expected in ((True, torch.float32), (False, torch.bfloat16)):
        model.train(training)
        with torch.autocast("cpu", torch.bfloat16):
            model(*torch.rand(2, 1, 3, 33, 47))
        assert kinds[model.refinement.outputs] == expected
        assert kinds[model.features.to_quarter] == torch.bfloat16
