import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stereo_tr.attention.memory import working_memory
from stereo_tr.stereo.matching import RawMatch
from stereo_tr.stereo.refinement import Adjusted, ContextAdjustment, DetailRefinement, Propagation

C, HEIGHT, WIDTH = 8, 3, 5


def some_match(confidence):
    disparity = 10 * torch.rand(2, HEIGHT, WIDTH)
    return RawMatch(disparity, torch.full_like(disparity, confidence), torch.rand_like(disparity))


def propagate_one_token_at_a_time(module, tokens, disparity, trust):
    """The definition in float64: softmax(q.k / sqrt(D)) * trust, normalised, along a line."""

    def line(tokens, disparity, trust):
        query, key = module.to_query(tokens).double(), module.to_key(tokens).double()
        filled = []
        for i in range(len(tokens)):
            weight = (key @ query[i] / query.shape[-1] ** 0.5).exp() * (trust + 1e-4)
            filled.append((weight * disparity).sum() / weight.sum())
        return trust * disparity + (1 - trust) * torch.stack(filled)

    disparity, trust = disparity.double(), trust.double()
    out = torch.empty_like(disparity)
    for b in range(len(tokens)):
        rows = torch.stack(
            [line(*row) for row in zip(tokens[b], disparity[b], trust[b], strict=True)]
        )
        half = 1 - 0.5 * (1 - trust[b])
        columns = zip(tokens[b].transpose(0, 1), rows.T, half.T, strict=True)
        out[b] = torch.stack([line(*column) for column in columns], dim=1)
    return out


def test_propagation_is_a_mean_of_trusted_disparities_that_look_alike():
    module = Propagation(C, 4)
    tokens, disparity = 2 * torch.randn(2, HEIGHT, WIDTH, C), 10 * torch.rand(2, HEIGHT, WIDTH)
    trust = torch.rand(2, HEIGHT, WIDTH)
    filled = module(tokens, disparity, trust)
    expected = propagate_one_token_at_a_time(module, tokens, disparity, trust)
    torch.testing.assert_close(filled.double(), expected, rtol=1e-4, atol=1e-4)
    assert disparity.min() - 1e-4 <= filled.min() and filled.max() <= disparity.max() + 1e-4
    for budget in (1, 2 * 4 * WIDTH**2 * 4):  # a line at a time, and four rows of it
        with torch.no_grad(), working_memory(budget):
            torch.testing.assert_close(module(tokens, disparity, trust), filled)


def test_propagation_reaches_a_token_from_the_trusted_one_alone():
    module = Propagation(C, 4)
    disparity, trust = torch.rand(1, 1, 4), torch.zeros(1, 1, 4)
    disparity[..., 2], trust[..., 2] = 7.0, 1.0
    filled = module(torch.zeros(1, 1, 4, C), disparity, trust)
    torch.testing.assert_close(filled, torch.full((1, 1, 4), 7.0), rtol=0, atol=0.01)


def test_trusted_matches_are_kept_before_training():
    """A confidence of 1 means a trust of sigmoid(8 * 0.6) = 0.992: under 1 % comes from others."""
    match, tokens = some_match(1.0), torch.randn(2, HEIGHT, WIDTH, C)
    adjusted = ContextAdjustment(C, 16)(tokens, match)
    assert adjusted.hidden.shape == (2, 16, HEIGHT, WIDTH)
    spread = match.disparity.max() - match.disparity.min()
    assert (adjusted.disparity - match.disparity).abs().max() < 0.009 * spread


def test_doubted_matches_are_replaced_before_training():
    match, tokens = some_match(1.0), torch.randn(2, HEIGHT, WIDTH, C)
    match.disparity[:] = 4.0
    match.disparity[0, 1, 2], match.confidence[0, 1, 2] = 90.0, 0.0
    adjusted = ContextAdjustment(C, 16)(tokens, match).disparity
    # its trust is 0.04, and as much is left of it along the row and in the end
    assert adjusted[0, 1, 2] < 4 + 0.12 * 86
    torch.testing.assert_close(adjusted[1], match.disparity[1], rtol=0, atol=1e-4)


@pytest.mark.parametrize("offset", [3.0, -2.0])
def test_disparities_enter_the_adjustment_standardised(offset):
    """All disparities further by an offset: the adjusted ones, too, also after training."""
    module, tokens, match = ContextAdjustment(C, 16), torch.randn(2, 3, 5, C), some_match(0.5)
    nn.init.normal_(module.outputs.weight, std=0.1)
    moved = match._replace(disparity=match.disparity + offset)
    torch.testing.assert_close(
        module(tokens, moved).disparity, module(tokens, match).disparity + offset
    )


def refinement():
    """A refinement that compares the features as they are, with 16 channels."""
    module = DetailRefinement(half=16, hidden=8, width=8, descriptor=16, reach=2)
    nn.init.dirac_(module.to_descriptor.weight)
    nn.init.zeros_(module.to_descriptor.bias)
    return module


@pytest.mark.parametrize("true", [5.0, 6.0, 7.0, 8.0, 9.0])
def test_comparison_finds_a_known_disparity(true):
    """Features shifted by `true` half-pixels, looked for around 7: the best offset is true - 7."""
    right = F.normalize(torch.randn(2, 16, 4, 30), dim=1)
    left = right.roll(int(true), -1)
    cost = refinement().compare(left, right, torch.full((2, 1, 4, 30), 7.0))
    assert cost.shape == (2, 5, 4, 30)
    best = cost[..., 10:].argmax(1) - 2
    assert torch.equal(best, torch.full_like(best, int(true) - 7))
    torch.testing.assert_close(cost.max(1).values[..., 10:], torch.full((2, 4, 20), 16**-0.5))


def test_comparison_is_linear_between_columns_and_ends_at_the_border():
    left, right = torch.ones(1, 16, 2, 9), torch.randn(1, 16, 2, 9)
    disparity = 12 * torch.rand(1, 1, 2, 9)
    cost = refinement().compare(left, right, disparity)
    sums = right.sum(1).double() / 4  # sqrt(16)
    for y in range(2):
        for x in range(9):
            for step in range(5):
                place = min(max(x - disparity[0, 0, y, x].item() - (step - 2), 0), 8)
                low = min(int(place), 7)
                share = place - low
                expected = sums[0, y, low] * (1 - share) + sums[0, y, low + 1] * share
                torch.testing.assert_close(
                    cost[0, step, y, x].double(), expected, rtol=0, atol=1e-4
                )


def test_refinement_moves_by_no_more_than_its_reach_and_never_below_zero():
    module = refinement()
    nn.init.normal_(module.outputs.weight, std=3)
    left, right = torch.randn(2, 16, 6, 10), torch.randn(2, 16, 6, 10)
    adjusted = ContextAdjustment(C, 8)(torch.randn(2, HEIGHT, WIDTH, C), some_match(0.6))
    refined = module(left, right, adjusted)
    start, after = refined.half_disparity
    assert start.shape == after.shape == (2, 6, 10)
    assert 0 < (after - start).abs().max() <= 2 + 1e-5
    assert after.min() >= 0
    for full in (refined.disparity, refined.occlusion_logits, refined.confidence_logits):
        assert full.shape == (2, 12, 20)
    assert refined.disparity.min() >= 0 and refined.disparity.max() <= 2 * after.max() + 1e-4


def test_disparities_double_with_the_size():
    """A flat scene of 3 tokens is 6 half-size pixels before the refinement looks at it."""
    module = refinement()
    flat = Adjusted(torch.full((1, 3, 5), 3.0), torch.randn(1, 8, 3, 5))
    start, _ = module(torch.randn(1, 16, 6, 10), torch.randn(1, 16, 6, 10), flat).half_disparity
    torch.testing.assert_close(start, torch.full((1, 6, 10), 6.0))
