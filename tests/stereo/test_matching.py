import math

import pytest
import torch
from scipy.optimize import linprog

from stereo_tr.stereo.matching import optimal_transport, read_matches


def transport_by_scaling(scores, dustbin, iterations):
    """Sinkhorn's algorithm as published: rows and columns of exp(scores) are scaled in turn."""
    tokens, keys = scores.shape
    kernel = torch.full((tokens + 1, keys + 1), math.exp(dustbin), dtype=torch.float64)
    kernel[:-1, :-1] = scores.double().exp()
    row_mass = torch.tensor([1.0] * tokens + [keys]).double()
    column_mass = torch.tensor([1.0] * keys + [tokens]).double()
    rows = torch.ones(tokens + 1, dtype=torch.float64)
    for _ in range(iterations):
        columns = torch.stack(
            [m / (rows * c).sum() for m, c in zip(column_mass, kernel.T, strict=True)]
        )
        rows = torch.stack([m / (columns * r).sum() for m, r in zip(row_mass, kernel, strict=True)])
    return rows[:, None] * kernel * columns


@pytest.mark.parametrize("iterations", [1, 2, 10])
@pytest.mark.parametrize(("tokens", "keys"), [(5, 7), (6, 4), (1, 1)])
def test_transport_is_sinkhorns_scaling(tokens, keys, iterations):
    scores, dustbin = 3 * torch.randn(2, 3, tokens, keys), 0.7
    behind = torch.ones(tokens, keys, dtype=torch.bool).triu(1)
    for given in (scores, scores.masked_fill(behind, -torch.inf)):
        log_assignment = optimal_transport(given, torch.tensor(dustbin), iterations)
        assert log_assignment.shape == (2, 3, tokens + 1, keys + 1)
        for place in ((0, 1), (1, 2)):
            expected = transport_by_scaling(given[place], dustbin, iterations)
            torch.testing.assert_close(
                log_assignment[place].exp().double(), expected, rtol=1e-4, atol=1e-6
            )


def test_without_iterations_it_is_a_softmax():
    scores, dustbin = 3 * torch.randn(2, 4, 6), 0.4
    assignment = optimal_transport(scores, torch.tensor(dustbin), 0).exp()
    given = scores.double().exp()
    share = given / (given.sum(-1, keepdim=True) + math.exp(dustbin))
    torch.testing.assert_close(assignment[:, :-1, :-1].double(), share, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(assignment[:, :-1, -1].double(), 1 - share.sum(-1))


def test_rows_sum_to_one_and_columns_come_near():
    scores, dustbin = 3 * torch.randn(4, 5, 7), torch.tensor(-0.5)
    rough = optimal_transport(scores, dustbin, 2).exp()
    fine = optimal_transport(scores, dustbin, 200).exp()
    for assignment in (rough, fine):
        torch.testing.assert_close(assignment[:, :-1].sum(-1), torch.ones(4, 5))
        torch.testing.assert_close(assignment[:, -1].sum(-1), torch.full((4,), 7.0))
    torch.testing.assert_close(fine[..., :-1].sum(-2), torch.ones(4, 7), rtol=0, atol=1e-3)
    torch.testing.assert_close(fine[..., -1].sum(-1), torch.full((4,), 5.0), rtol=0, atol=1e-3)


def test_sharp_scores_give_the_best_plan():
    """In the limit it is the linear programme of transport with the highest total score."""
    tokens, keys, dustbin = 4, 5, 0.3
    scores = torch.full((tokens, keys), -0.5)
    scores[0, :2] = torch.tensor([1.0, 0.9])  # the best for itself, but token 1 has no other
    scores[1, 0] = 0.8
    scores[3, 3:] = torch.tensor([0.5, 0.7])  # token 2 goes to the dustbin
    table = torch.full((tokens + 1, keys + 1), dustbin)
    table[:-1, :-1] = scores
    constraints, masses = [], []
    for i in range(tokens + 1):
        one = torch.zeros_like(table)
        one[i] = 1
        constraints.append(one.flatten())
        masses.append(1 if i < tokens else keys)
    for j in range(keys + 1):
        one = torch.zeros_like(table)
        one[:, j] = 1
        constraints.append(one.flatten())
        masses.append(1 if j < keys else tokens)
    best = linprog(-table.flatten().numpy(), A_eq=torch.stack(constraints).numpy(), b_eq=masses)
    plan = torch.tensor(best.x).reshape(tokens + 1, keys + 1)
    assert plan[[0, 1, 2, 3], [1, 0, 5, 4]].tolist() == [1, 1, 1, 1]
    sharp = optimal_transport(50 * scores, torch.tensor(50 * dustbin), 1000).exp().double()
    torch.testing.assert_close(sharp, plan, rtol=0, atol=0.02)


def test_gradients_pass_masked_scores():
    scores = torch.randn(1, 4, 4, requires_grad=True)
    dustbin = torch.tensor(0.0, requires_grad=True)
    behind = torch.ones(4, 4, dtype=torch.bool).triu(1)
    log_assignment = optimal_transport(scores.masked_fill(behind, -torch.inf), dustbin, 3)
    log_assignment.exp().square().sum().backward()
    assert torch.equal(scores.grad[0] != 0, ~behind)
    assert dustbin.grad.isfinite() and dustbin.grad != 0
    with pytest.raises(ValueError, match="iterations=-1"):
        optimal_transport(scores, dustbin, -1)


def assignment_of(*rows):
    """Rows of left tokens, dustbin last; the dustbin's own row doesn't matter."""
    return torch.tensor([*rows, [9.0] * len(rows[0])])


def test_reading_by_hand():
    assignment = assignment_of(
        [0.6, 0.1, 0.0, 0.0, 0.0, 0.3],  # token 0 at the left border
        [0.2, 0.5, 0.1, 0.0, 0.0, 0.2],  # token 1; the share at column 2 counts as disparity 0
        [0.0, 0.0, 0.0, 0.0, 0.0, 1.0],  # token 2 has no partner at all
        [0.3, 0.2, 0.0, 0.0, 0.4, 0.1],  # token 3 at the right border
        [0.1, 0.4, 0.2, 0.0, 0.2, 0.1],  # token 4; column 4 is a second match elsewhere
    )
    match = read_matches(assignment, radius=1)
    expected = torch.tensor([0.0, 0.2 / 0.8, 0.0, 0.0, (0.1 * 4 + 0.4 * 3 + 0.2 * 2) / 0.7])
    torch.testing.assert_close(match.disparity, expected)
    torch.testing.assert_close(match.confidence, torch.tensor([0.7, 0.8, 0.0, 0.4, 0.7]))
    torch.testing.assert_close(match.unmatched, torch.tensor([0.3, 0.2, 1.0, 0.1, 0.1]))


def test_reading_a_wider_and_a_narrower_window():
    assignment = assignment_of(
        *[[0.0] * 6] * 4, [0.1, 0.2, 0.3, 0.25, 0.05, 0.1]
    )  # token 4 of a left row of 5, right row of 5
    narrow, wide = (read_matches(assignment, radius) for radius in (0, 2))
    assert narrow.disparity[4] == 2
    torch.testing.assert_close(narrow.confidence[4], torch.tensor(0.3))
    mean = (0.1 * 4 + 0.2 * 3 + 0.3 * 2 + 0.25 * 1) / 0.9
    torch.testing.assert_close(wide.disparity[4], torch.tensor(mean))


def test_reading_is_sub_token_exact():
    """A match between two tokens, shared out linearly, is read back as it was."""
    rows = []
    for i, disparity in enumerate([0.0, 0.25, 1.5, 2.0, 2.75, 4.1]):
        place = i - disparity
        rows.append([max(1 - abs(j - place), 0.0) for j in range(6)] + [0.0])
    match = read_matches(assignment_of(*rows), radius=1)
    torch.testing.assert_close(match.disparity, torch.tensor([0.0, 0.25, 1.5, 2.0, 2.75, 4.1]))


def test_batches_are_read_one_by_one():
    assignment = torch.rand(2, 3, 5, 8).softmax(-1)
    together = read_matches(assignment, 1)
    for b in range(2):
        for h in range(3):
            for whole, single in zip(together, read_matches(assignment[b, h], 1), strict=True):
                assert torch.equal(whole[b, h], single)


def transport_of_logarithms(scores, dustbin, iterations):
    """Sinkhorn in the log domain, float64, one row and one column after the other."""
    tokens, keys = scores.shape
    table = torch.full((tokens + 1, keys + 1), dustbin, dtype=torch.float64)
    table[:-1, :-1] = scores.double()
    row_mass = torch.tensor([1.0] * tokens + [keys]).double().log()
    column_mass = torch.tensor([1.0] * keys + [tokens]).double().log()
    rows, columns = torch.zeros(tokens + 1).double(), torch.zeros(keys + 1).double()
    for _ in range(iterations):
        for j in range(keys + 1):
            columns[j] = column_mass[j] - (table[:, j] + rows).logsumexp(0)
        for i in range(tokens + 1):
            rows[i] = row_mass[i] - (table[i] + columns).logsumexp(0)
    return table + rows[:, None] + columns


@pytest.mark.parametrize("spread", [0.1, 5.0, 20.0, 59.0, 61.0, 400.0, 1e4])
def test_extreme_scores_neither_overflow_nor_vanish(spread):
    """On both sides of where exponentials give way to logarithms."""
    tokens, keys, dustbin = 6, 8, -0.4
    scores = torch.randn(tokens, keys)
    scores = scores / scores.abs().max() * spread + dustbin
    scores[2, 3] = scores[4, 3] = spread + dustbin  # two rows want one column most
    scores[1, 5:] = -torch.inf
    scores.requires_grad_()
    found = optimal_transport(scores[None], torch.tensor(dustbin), 10)[0]
    expected = transport_of_logarithms(scores.detach(), dustbin, 10)
    assert torch.equal(found == -torch.inf, expected == -torch.inf)
    rtol = max(1e-4, 1e-6 * spread)  # what float32 can tell of a sum of such scores
    torch.testing.assert_close(found.detach().exp().double(), expected.exp(), rtol=rtol, atol=1e-6)
    found[:-1, :-1].exp().square().sum().backward()
    assert scores.grad.isfinite().all()


def test_both_ways_of_scaling_have_the_same_gradients():
    from stereo_tr.stereo import matching

    results = []
    for limit in (60.0, -1.0):  # exponentials, logarithms
        torch.manual_seed(4)
        scores = (3 * torch.randn(2, 5, 7)).requires_grad_()
        dustbin = torch.tensor(0.3, requires_grad=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(matching, "SAFE_SPREAD", limit)
            plan = optimal_transport(scores, dustbin, 4)
        plan.exp().square().sum().backward()
        results.append((plan.detach(), scores.grad, dustbin.grad))
    for fast, safe in zip(*results, strict=True):
        torch.testing.assert_close(fast, safe, rtol=1e-4, atol=1e-5)
