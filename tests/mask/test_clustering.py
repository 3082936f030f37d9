import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stereo_tr import create_model
from stereo_tr.attention import gather
from stereo_tr.datasets.panoptic_sample import PanopticSample
from stereo_tr.mask.assignment import QueryTargets
from stereo_tr.mask.clustering import (
    ClusteringLayer,
    coordinates,
    moments,
    reference_loss,
)
from stereo_tr.mask.kmax_deeplab import KMaxDeepLab

QUERIES, PIXELS, CHANNELS = 5, 21, 4


def scores_and_values():
    scores = torch.randn(2, QUERIES, PIXELS, dtype=torch.float64)
    return scores, torch.randn(2, PIXELS, CHANNELS, dtype=torch.float64)


def test_over_the_keys_it_is_attention():
    queries, keys = (torch.randn(2, n, 3, dtype=torch.float64) for n in (QUERIES, PIXELS))
    _, values = scores_and_values()
    tokens, weights = gather(queries @ keys.transpose(1, 2), values, "over keys")
    expected = F.scaled_dot_product_attention(queries, keys, values, scale=1.0)
    torch.testing.assert_close(tokens, expected)
    torch.testing.assert_close(weights.sum(2), torch.ones(2, QUERIES, dtype=torch.float64))


@pytest.mark.parametrize("assignment", ["over queries", "nearest query"])
def test_over_the_queries_every_pixel_is_shared_out(assignment):
    scores, values = scores_and_values()
    tokens, weights = gather(scores, values, assignment)
    torch.testing.assert_close(weights.sum(1), torch.ones(2, PIXELS, dtype=torch.float64))
    torch.testing.assert_close(tokens.sum(1), values.sum(1))  # nothing is lost


def test_as_the_temperature_falls_it_becomes_kmeans():
    """The mean of the pixels that fit a centre best; zeros where none does."""
    torch.manual_seed(0)  # no two centres fit a pixel alike
    scores, values = scores_and_values()
    scores[:, 2] -= 100  # nobody's
    tokens, _ = gather(scores, values, "over queries", temperature=1e-5, mean=True)
    for image in range(2):
        best = scores[image].argmax(0)
        for query in range(QUERIES):
            mine = values[image, best == query]
            expected = mine.mean(0) if len(mine) else torch.zeros(CHANNELS, dtype=torch.float64)
            torch.testing.assert_close(tokens[image, query], expected)


def layer(**settings):
    sizes = {"num_classes": 3, "filters": 8, "feed_forward": 14}
    return ClusteringLayer(12, 10, **(sizes | settings)).eval()


def stirred(module):
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module.double()


def maps(dtype=torch.float64):
    return torch.randn(2, 12, 6, 7, dtype=dtype), torch.randn(2, 10, 1, QUERIES, dtype=dtype)


def test_a_fresh_layer_is_its_residual():
    pixels, queries = maps(torch.float32)
    out = layer()(pixels, queries)
    assert torch.equal(out.pixels, pixels)
    assert torch.equal(out.queries, F.gelu(F.gelu(queries)))


def test_the_assignment_adds_up_from_layer_to_layer():
    """Same size or not; with an affinity of nothing, what came in goes on."""
    pixels, queries = maps()
    module = stirred(layer())
    alone = module(pixels, queries)
    before = torch.randn(2, QUERIES, 6, 7, dtype=torch.float64)
    after = module(pixels, queries, before)
    torch.testing.assert_close(after.logits, alone.logits + before)
    coarse = torch.randn(2, QUERIES, 3, 4, dtype=torch.float64)
    nn.init.zeros_(module.head.mask_norm.weight)
    nn.init.zeros_(module.head.mask_norm.bias)
    enlarged = F.interpolate(coarse, (6, 7), mode="bilinear")
    torch.testing.assert_close(module(pixels, queries, coarse).logits, enlarged)


def test_pixels_are_shared_out_by_the_masks_that_are_supervised():
    module = stirred(layer())
    out = module(*maps())
    torch.testing.assert_close(out.prediction.masks.mask_logits, out.logits)
    torch.testing.assert_close(out.assignment, out.logits.softmax(1))
    assert not out.assignment.requires_grad and out.logits.requires_grad


def test_centres_may_stand_in_any_order():
    pixels, queries = maps()
    module, order = stirred(layer()), torch.randperm(QUERIES)
    straight, shuffled = module(pixels, queries), module(pixels, queries[..., order])
    torch.testing.assert_close(shuffled.queries, straight.queries[..., order])
    torch.testing.assert_close(shuffled.pixels, straight.pixels)
    torch.testing.assert_close(shuffled.logits, straight.logits[:, order])
    torch.testing.assert_close(shuffled.reference, straight.reference[:, order])


def test_a_cold_layer_moves_centres_as_kmeans_does():
    pixels, queries = maps()
    cold = stirred(layer(assignments=("over queries",), temperature=1e-9))
    hard = layer(assignments=("nearest query",)).double()
    hard.load_state_dict(cold.state_dict())
    torch.testing.assert_close(cold(pixels, queries).queries, hard(pixels, queries).queries)


def test_without_clustering_it_is_cross_attention():
    """The update of the centres, computed by torch's attention from the layer's own parts."""
    pixels, queries = maps()
    module, seen = stirred(layer(assignments=("over keys",))), []
    module.leave_gathered[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    scores = module(pixels, queries).logits.flatten(2)
    values = module.pixel_values(module.enter_pixels(F.gelu(pixels))).flatten(2).transpose(1, 2)
    units = torch.eye(42, dtype=torch.float64).expand(2, -1, -1)  # keys that leave scores alone
    attended = F.scaled_dot_product_attention(scores, units, values, scale=1.0)
    expected = F.gelu(module.gathered_norm[0](attended.transpose(1, 2)[:, :, None]))
    torch.testing.assert_close(seen[0], expected)


def test_coordinates_and_moments_by_hand():
    grid = coordinates(torch.zeros(1, 1, 2, 4))[0]
    assert grid[0, 0].tolist() == [-0.75, -0.25, 0.25, 0.75]
    assert grid[1, :, 0].tolist() == [-0.5, 0.5]
    masks = torch.zeros(1, 3, 2, 4)
    masks[0, 0, 1, 2:] = 1  # two places
    masks[0, 1] = 1  # everything
    found = moments(masks)[0]
    torch.testing.assert_close(found[0], torch.tensor([0.5, 0.5, 0.25, 0.0]))
    torch.testing.assert_close(found[1], torch.tensor([0, 0, 0.3125**0.5, 0.5]))
    assert torch.equal(found[2], torch.zeros(4))  # empty


def test_the_reference_loss():
    masks = torch.zeros(1, 3, 2, 4)
    masks[0, 1, 0, 0] = 1
    blank = torch.zeros(1, 3)
    asked = QueryTargets(
        masks, torch.tensor([[7, 2, 7]]), blank, blank, masks[:, 0] > 0, masks[:, 0]
    )
    right = moments(masks)
    assert reference_loss((right, right), asked, 7) == 0
    wrong = right + torch.tensor([0.1, 0.2, 0.3, 0.4])
    torch.testing.assert_close(reference_loss((wrong, right), asked, 7), torch.tensor(0.125))
    nobody = asked._replace(classes=torch.full((1, 3), 7))
    assert reference_loss((wrong,), nobody, 7) == 0


def test_the_model_learns_where_to_look():
    """Made by name (the size is kMaX's MaX-S), and a small one trains on a sample."""
    with torch.device("meta"):
        full = create_model("cmt_deeplab_max_s")
    assert isinstance(full, KMaxDeepLab)
    assert isinstance(full.decoder.layers[2][1], ClusteringLayer)
    model = KMaxDeepLab(
        interaction="clustering",
        encoder={"widths": (8, 12, 16, 20), "depths": (1, 1, 1, 1)},
        num_classes=3,
        num_queries=QUERIES,
        layers=(1, 1, 1),
        decoder_widths=(16, 8, 8, 4),
        decoder_depths=(1, 1, 1, 1),
        channels=12,
        filters=8,
        feed_forward=20,
        semantic=True,
    )
    segments = torch.zeros(2, 64, 48, dtype=torch.int32)
    segments[:, 5:40, 8:30] = 1
    segments[0, 44:, :] = 2
    classes = torch.tensor([[2, 0], [1, -1]])
    sample = PanopticSample(torch.rand(2, 3, 64, 48), segments, classes, ["a", "b"])
    losses = model.training_losses(sample)
    assert "reference" in losses and "layers_class" in losses
    sum(losses.values()).backward()
    assert model.decoder.layers[0][0].reference.weight.grad.abs().sum() > 0
