"""The published transformers against float64 loops over the pairs of tokens.

The loops build the position of every pair (i, j) on its own, as the papers write it: nothing is
skewed, no table is shared. They see what the golden files can't: odd widths, scales that aren't 3.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from stereo_tr.stereo.matching import optimal_transport
from stereo_tr.stereo.published.transformer import PublishedTransformer

C = 128


def sine(distance):
    m = np.arange(C // 2)
    encoding = np.empty(C)
    encoding[0::2] = np.sin(distance / 10000 ** (2 * m / C))
    encoding[1::2] = np.cos(distance / 10000 ** (2 * m / C))
    return encoding


class Loops:
    """Sections 4 to 6 of the facts in float64, one row, one head, one query at a time."""

    def __init__(self, model, heads):
        self.weights = {k: v.double().numpy() for k, v in model.state_dict().items()}
        self.heads = heads

    def linear(self, name, x):
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def norm(self, name, x):
        standard = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return standard * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def attention(self, name, x, y, distance, masked=False):
        """Attend from a row x to a row y; return the update and the scores summed over heads."""
        D = C // self.heads
        queries, keys, values = (
            self.linear(f"{name}.to_{part}", z)
            for part, z in (("query", x), ("key", y), ("value", y))
        )
        found, total = np.zeros((len(x), C)), np.zeros((len(x), len(y)))
        for i in range(len(x)):
            places = np.stack([sine(distance(i, j)) for j in range(len(y))])
            place_queries = self.linear(f"{name}.to_query", places)
            place_keys = self.linear(f"{name}.to_key", places)
            for e in range(self.heads):
                part = slice(e * D, (e + 1) * D)
                scores = np.empty(len(y))
                for j in range(len(y)):
                    scores[j] = (
                        queries[i, part] @ keys[j, part]
                        + queries[i, part] @ place_keys[j, part]
                        + keys[j, part] @ place_queries[j, part]
                    ) / np.sqrt(D)
                    if masked and j > i:
                        scores[j] = -np.inf
                total[i] += scores
                weights = np.exp(scores - scores.max())
                found[i, part] = weights / weights.sum() @ values[:, part]
        return self.linear(f"{name}.to_out", found), total

    def within(self, name, x, distance):
        """Self-attention of one view [h, n, C]."""
        y = self.norm(f"{name}.norm", x)
        if f"{name}.columns.to_query.weight" in self.weights:
            columns = [
                self.attention(f"{name}.columns", z, z, lambda i, j: i - j)[0]
                for z in y.transpose(1, 0, 2)
            ]
            y = np.stack(columns, axis=1)
        return x + np.stack([self.attention(f"{name}.rows", z, z, distance)[0] for z in y])

    def across(self, name, left, right, distance, in_turn, masked=False):
        attend, seen_left = f"{name}.attention", self.norm(f"{name}.norm", left)
        before = self.norm(f"{name}.norm", right)
        back = lambda i, j: -distance(i, j)  # noqa: E731
        pairs = zip(before, seen_left, strict=True)
        right = right + np.stack([self.attention(attend, b, a, back)[0] for b, a in pairs])
        updated = f"{name}.updated_norm"
        after = self.norm(updated if f"{updated}.weight" in self.weights else f"{name}.norm", right)
        pairs = zip(seen_left, after if in_turn else before, strict=True)
        results = [self.attention(attend, a, b, distance, masked) for a, b in pairs]
        return left + np.stack([r[0] for r in results]), right, np.stack([r[1] for r in results])

    def merge(self, name, main, context):
        width, n = main.shape[1], context.shape[1]
        place = ((np.arange(width) + 0.5) * n / width - 0.5).clip(0, n - 1)
        low = np.floor(place).astype(int)
        high, part = np.minimum(low + 1, n - 1), (place - low)[:, None]
        context = context[:, low] * (1 - part) + context[:, high] * part
        x = torch.from_numpy(np.concatenate([context, main], -1)).permute(2, 0, 1)[None]
        for step, padding in ((0, 0), (1, 1)):
            tensors = (
                torch.from_numpy(self.weights[f"{name}.{step}.{kind}"])
                for kind in ("weight", "bias")
            )
            x = F.conv2d(x, *tensors, padding=padding)
        return x[0].permute(1, 2, 0).numpy()

    def scores(self, left, right, layers, scale, context):
        def main_distance(i, j):
            return scale * (i - j)

        odd = left.shape[1] % 2

        def context_distance(i, j):
            return i - j + odd

        paths = []
        if context:
            n = left.shape[1] // 2
            paths = [(v[:, 0 : 2 * n : 2] + v[:, 1 : 2 * n : 2]) / 2 for v in (left, right)]
        for layer in range(layers):
            within, across = f"within.{layer}", f"across.{layer}"
            left, right = (self.within(f"{within}.main", v, main_distance) for v in (left, right))
            last = layer == layers - 1
            main = left, right, main_distance, True, last
            left, right, scores = self.across(f"{across}.main", *main)
            if context and not last:
                paths = [self.within(f"{within}.context", v, context_distance) for v in paths]
                told = self.across(f"{across}.context", *paths, context_distance, False)[:2]
                stacked = np.concatenate([left, right]), np.concatenate(told)
                left, right = np.split(self.merge(f"{across}.merge", *stacked), 2)
        return scores


@pytest.mark.parametrize(
    ("width", "scale", "context"),
    [(7, 1.0, True), (6, 1.0, True), (7, 320 / 107, False), (5, 1.0, False)],
)
def test_the_scores_are_the_definition(width, scale, context):
    layers, heads, height = 3, 4, 2
    torch.manual_seed(5)
    model = PublishedTransformer(layers, heads, context=context)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.05 * torch.randn_like(value))
    tokens = torch.randn(4, C, height, width)  # two pairs: lefts, then rights
    with torch.no_grad():
        scores = model(tokens, scale)

    loops = Loops(model, heads)
    maps = tokens.double().permute(0, 2, 3, 1).numpy()
    for b in range(2):
        expected = loops.scores(maps[b], maps[2 + b], layers, scale, context)
        torch.testing.assert_close(
            scores[b].double(), torch.from_numpy(expected), rtol=1e-4, atol=1e-4
        )


def test_the_transport_is_the_definition():
    """Section 7 in the exponential domain, float64."""
    torch.manual_seed(0)
    width, phi, iterations = 7, -0.7, 10
    scores = 3 * torch.randn(2, 3, width, width)
    scores = scores.masked_fill(~torch.ones(width, width, dtype=torch.bool).tril(), -torch.inf)
    result = optimal_transport(scores, torch.tensor(phi), iterations)
    for row, plan in zip(scores.flatten(0, 1), result.flatten(0, 1), strict=True):
        extended = np.full((width + 1, width + 1), phi)
        extended[:-1, :-1] = row.double()
        kernel = np.exp(extended)
        mass = np.full(width + 1, 1 / (2 * width))
        mass[-1] = 0.5
        a = np.ones(width + 1)
        for _ in range(iterations):
            b = mass / (a @ kernel)
            a = mass / (kernel @ b)
        expected = torch.from_numpy(2 * width * a[:, None] * kernel * b)
        torch.testing.assert_close(plan.exp().double(), expected, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(plan[:-1].exp().sum(-1), torch.ones(width))
