import math

import pytest
import torch

from stereo_tr.datasets.sample import StereoSample
from stereo_tr.stereo.losses import (
    WEIGHTS,
    masked_mean,
    relative_response,
    robust,
    staged_losses,
)
from stereo_tr.stereo.matching import RawMatch, optimal_transport
from stereo_tr.stereo.model import Details
from stereo_tr.stereo.refinement import Adjusted, Refined

H, W, ROWS, COLUMNS = 11, 22, 4, 8  # an image padded to 16 x 32


def nothing_known(pairs, height=H, width=W):
    maps = torch.zeros(pairs, height, width)
    images = torch.zeros(pairs, 3, height, width)
    names = [str(b) for b in range(pairs)]
    off = [torch.zeros(pairs, height, width, dtype=torch.bool) for _ in range(4)]
    return StereoSample(images, images, maps, *off[:2], maps.clone(), *off[2:], names)


def some_sample(pairs):
    """Truth in about two thirds of both views; disparity 0 where unknown, as everywhere."""
    valid, right_valid = (torch.rand(pairs, H, W) < 0.7 for _ in range(2))
    return nothing_known(pairs)._replace(
        disparity=8 * torch.rand(pairs, H, W) * valid,
        valid=valid,
        occluded=valid & (torch.rand(pairs, H, W) < 0.3),
        right_disparity=8 * torch.rand(pairs, H, W) * right_valid,
        right_valid=right_valid,
        right_occluded=torch.rand(pairs, H, W) < 0.2,
    )


def some_details(pairs):
    def disparity(rows, columns):
        return 3 * torch.rand(pairs, rows, columns)

    log_assignment = optimal_transport(
        torch.randn(pairs, ROWS, COLUMNS, COLUMNS), torch.tensor(0.0), 3
    )
    tokens = (ROWS, COLUMNS)
    full = (pairs, 4 * ROWS, 4 * COLUMNS)
    half = (disparity(2 * ROWS, 2 * COLUMNS), disparity(2 * ROWS, 2 * COLUMNS))
    return Details(
        log_assignment,
        RawMatch(disparity(*tokens), disparity(*tokens), disparity(*tokens)),
        Adjusted(disparity(*tokens), torch.randn(pairs, 5, *tokens)),
        Refined(4 * torch.rand(full), half, torch.randn(full), torch.randn(full)),
        (H, W),
    )


def each(x, b):
    """Pair b of a batch, of however deep a tuple of tensors."""
    if isinstance(x, torch.Tensor):
        return x[b : b + 1]
    if hasattr(x, "_fields"):
        return type(x)(*(each(part, b) for part in x))
    if isinstance(x, tuple) and isinstance(x[0], torch.Tensor):
        return tuple(each(part, b) for part in x)
    return x


def test_relative_response_by_hand():
    """One row of 4 tokens; pixels 0, 4, 8, 12 are asked."""
    share = torch.rand(5, 5) * 0.9 + 0.05
    sample = nothing_known(1, 2, 14)
    for x, disparity in ((4, 4.0), (8, 6.0)):  # token 1 -> 0; token 2 -> 0.5
        sample.disparity[0, 0, x], sample.valid[0, 0, x] = disparity, True
    sample.occluded[0, 0, 12] = True
    sample.disparity[0, 1], sample.valid[0, 1] = 1.0, True  # a row that isn't asked
    sample.right_disparity[0, 0, 0], sample.right_valid[0, 0, 0] = 9.0, True  # token 0 -> 2.25
    sample.right_occluded[0, 0, 4] = True
    left = [share[1, 0], 0.5 * share[2, 0] + 0.5 * share[2, 1], share[3, 4]]
    right = [0.75 * share[2, 0] + 0.25 * share[3, 0], share[4, 1]]
    expected = sum(-math.log(x + 1e-6) for x in left) / 3
    expected = (expected + sum(-math.log(x + 1e-6) for x in right) / 2) / 2
    loss = relative_response(share.log()[None, None], sample)
    torch.testing.assert_close(loss, torch.tensor(expected))


def test_robust_by_hand():
    expected = [0.0, math.log(2) + 0.1, math.log(2) + 0.1, math.log(11) + 1]
    torch.testing.assert_close(robust(torch.tensor([0.0, 1, -1, 10])), torch.tensor(expected))


def test_masked_mean_by_hand():
    values = torch.tensor([[1.0, 2, 9], [5, torch.nan, 7], [1, 1, torch.inf]])
    mask = torch.tensor([[1, 1, 0], [1, 0, 1], [0, 0, 0]]).bool()
    assert masked_mean(values, mask) == (1.5 + 6 + 0) / 3


def test_every_stage_is_compared_at_its_own_resolution():
    """Off by one pixel at each stage: log 2 + 0.1, times the weight."""
    details, sample = some_details(2), some_sample(2)
    truth = torch.zeros(2, 4 * ROWS, 4 * COLUMNS)
    truth[:, :H, :W] = sample.disparity
    refined = details.refined._replace(
        disparity=truth + 1,
        half_disparity=((truth[:, ::2, ::2] + 1) / 2, (truth[:, ::2, ::2] - 1) / 2),
    )
    tokens = (truth[:, ::4, ::4] - 1) / 4
    details = details._replace(
        match=details.match._replace(disparity=tokens),
        adjusted=details.adjusted._replace(disparity=tokens),
        refined=refined,
    )
    losses = staged_losses(details, sample)
    assert losses.keys() == WEIGHTS.keys()
    for name in ("match", "adjusted", "half_start", "half", "full"):
        expected = torch.tensor(WEIGHTS[name] * (math.log(2) + 0.1))
        torch.testing.assert_close(losses[name], expected, rtol=1e-5, atol=1e-5)


def perfect():
    """A flat scene 8 px away: 2 tokens, the first two of which are occluded."""
    sample = nothing_known(1, 16, 32)
    sample.disparity[:], sample.valid[:], sample.occluded[..., :8] = 8.0, True, True
    sample.right_disparity[:], sample.right_valid[:] = 8.0, True
    sample.right_valid[..., 24:], sample.right_occluded[..., 24:] = False, True
    sample.right_disparity[..., 24:] = 0
    assignment = torch.zeros(1, 4, 9, 9)
    for i in range(8):
        assignment[..., i, i - 2 if i >= 2 else 8] = 1
    assignment[..., 8, 6:8] = 1
    disparity = torch.full((1, 4, 8), 2.0)
    half = (torch.full((1, 8, 16), 4.0),) * 2
    logits = (torch.where(sample.occluded, 20.0, -20.0), torch.full((1, 16, 32), 20.0))
    details = Details(
        assignment.log(),
        RawMatch(disparity, disparity, disparity),
        Adjusted(disparity, disparity[:, None]),
        Refined(sample.disparity.clone(), half, *logits),
        (16, 32),
    )
    return details, sample


def test_a_perfect_answer_costs_nothing():
    for name, loss in staged_losses(*perfect()).items():
        assert abs(loss) < 1e-5, name


def test_confidence_is_asked_whether_the_error_is_below_a_pixel():
    details, sample = perfect()
    for error, expected in ((0.9, 0.0), (1.1, WEIGHTS["confidence"] * 20)):
        refined = details.refined._replace(disparity=details.refined.disparity + error)
        loss = staged_losses(details._replace(refined=refined), sample)["confidence"]
        torch.testing.assert_close(loss, torch.tensor(expected), rtol=1e-5, atol=1e-5)


def test_a_batch_costs_the_mean_of_its_pairs():
    details, sample = some_details(3), some_sample(3)
    sample.valid[1, :, : W // 2] = False  # pairs with different numbers of pixels
    together = staged_losses(details, sample)
    single = [staged_losses(each(details, b), each(sample, b)) for b in range(3)]
    for name, loss in together.items():
        torch.testing.assert_close(loss, sum(losses[name] for losses in single) / 3)


def test_unknown_pixels_have_no_effect():
    details, sample = some_details(2), some_sample(2)
    noise = 50 * torch.rand(2, H, W)
    changed = sample._replace(
        disparity=torch.where(sample.valid, sample.disparity, noise),
        right_disparity=torch.where(sample.right_valid, sample.right_disparity, noise),
    )
    for name, loss in staged_losses(details, sample).items():
        assert loss == staged_losses(details, changed)[name], name


def test_nothing_known_costs_nothing():
    """Neither the loss nor a gradient is NaN."""
    details = some_details(2)
    leaves = (details.log_assignment, details.refined.disparity, details.adjusted.disparity)
    for leaf in leaves:
        leaf.requires_grad_()
    total = sum(staged_losses(details, nothing_known(2)).values())
    assert total == 0
    total.backward()
    assert all(torch.equal(leaf.grad, torch.zeros_like(leaf)) for leaf in leaves)


@pytest.mark.parametrize("view", ["left", "right"])
def test_both_views_are_asked(view):
    sample = nothing_known(1)
    prefix = "right_" if view == "right" else ""
    known = {f"{prefix}valid": sample.valid | True, f"{prefix}disparity": sample.disparity + 4}
    log_assignment = some_details(1).log_assignment.requires_grad_()
    relative_response(log_assignment, sample._replace(**known)).backward()
    assert log_assignment.grad[..., :-1, :-1].abs().sum() > 0
    assert log_assignment.grad[..., -1].abs().sum() == log_assignment.grad[..., -1, :].sum() == 0
