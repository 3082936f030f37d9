import pytest
import torch
from authors import load, memory, nchw, translate
from golden_vision import golden
from torch import nn

from stereo_tr.attention import recorded_weights
from stereo_tr.mask.dual_path import INTERACTIONS, DualPathLayer, Interaction
from stereo_tr.mask.translation import LAYER, renamed

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU}
CLOSE = {"rtol": 2e-5, "atol": 2e-5}


@pytest.mark.parametrize(
    ("name", "interaction"),
    [
        ("dualpath_max_full_relu", INTERACTIONS["dual_cross"]),
        ("dualpath_max_full_gelu", INTERACTIONS["dual_cross"]),
        ("dualpath_m2p_only_noffn", Interaction(("over keys",), False, self_attention=False)),
        ("dualpath_kmeans", INTERACTIONS["kmeans"]),
        ("dualpath_kmeans_m2p", Interaction(("over keys", "nearest query"), False)),
    ],
)
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_layers_are_the_authors(name, interaction, mode):
    config, weights, tensors = golden(name)
    layer = DualPathLayer(
        24,
        20,
        interaction,
        num_classes=6,
        filters=config["filters"],
        heads=config["num_heads"],
        feed_forward=config["ffn"],
        activation=ACTIVATIONS[config["activation"]],
        head_sizes={"hidden": 24, "features": 16},
    )
    load(layer, translate(weights, [("^dual_path_transformer_layer/", "")]))
    out = layer.train(mode == "train")(nchw(tensors["in/pixel"]), memory(tensors["in/memory"]))
    torch.testing.assert_close(out.pixels, nchw(tensors[f"{mode}/pixel"]), **CLOSE)
    torch.testing.assert_close(out.queries, memory(tensors[f"{mode}/memory"]), **CLOSE)
    if f"{mode}/mask_logits" in tensors:
        masks = out.prediction.masks.mask_logits
        torch.testing.assert_close(masks, nchw(tensors[f"{mode}/mask_logits"]), **CLOSE)
    if f"{mode}/class_logits" in tensors:
        classes = out.prediction.masks.class_logits
        torch.testing.assert_close(classes, tensors[f"{mode}/class_logits"], **CLOSE)
        features = nchw(tensors[f"{mode}/pixel_feature"])
        torch.testing.assert_close(out.prediction.features, features, **CLOSE)


@pytest.fixture(scope="module")
def kmax():
    return golden("kmax_layer")


def kmax_layer(weights):
    layer = DualPathLayer(32, 256, INTERACTIONS["kmeans"], num_classes=5)
    layer.load_state_dict(renamed(weights, LAYER))
    return layer


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_the_kmeans_layer_is_the_pytorch_port(kmax, mode):
    _, weights, tensors = kmax
    layer = kmax_layer(weights).train(mode == "train")
    out = layer(tensors["in/pixel"], tensors["in/query"][:, :, None])
    torch.testing.assert_close(out.queries[:, :, 0], tensors[f"{mode}/query"], **CLOSE)
    classes, masks = out.prediction.masks
    torch.testing.assert_close(classes, tensors[f"{mode}/class_logits"], **CLOSE)
    torch.testing.assert_close(masks, tensors[f"{mode}/mask_logits"], **CLOSE)
    torch.testing.assert_close(out.prediction.features, tensors[f"{mode}/pixel_feature"], **CLOSE)
    if mode == "eval":
        assigned = out.assignment.flatten(2)
        assert torch.equal(assigned.argmax(1), tensors["eval/assignment"].long())
        assert torch.equal(assigned.sum(1), torch.ones(2, 99))


def test_gradients_of_the_kmeans_layer(kmax):
    """The authors' gradients; none reaches the layer's head through the queries."""
    config, weights, tensors = kmax
    layer = kmax_layer(weights).eval()
    pixels = tensors["in/pixel"].clone().requires_grad_()
    queries = tensors["in/query"].clone().requires_grad_()
    out = layer(pixels, queries[:, :, None]).queries[:, :, 0]
    out.backward(tensors["in/grad_out"])
    torch.testing.assert_close(pixels.grad, tensors["eval/grad_pixel"], **CLOSE)
    torch.testing.assert_close(queries.grad, tensors["eval/grad_query"], **CLOSE)
    theirs = {name[11:]: value for name, value in tensors.items() if "/gradw/" in name}
    for name, value in renamed(theirs, LAYER).items():
        torch.testing.assert_close(layer.get_parameter(name).grad, value, rtol=1e-4, atol=1e-4)
    without = {name for name, value in layer.named_parameters() if value.grad is None}
    assert without == set(renamed(dict.fromkeys(config["no_grad_params"], torch.zeros(1)), LAYER))


@pytest.mark.parametrize("name", INTERACTIONS)
def test_every_interaction(name):
    """Shapes, and every pixel is shared out between the queries."""
    layer = DualPathLayer(12, 10, INTERACTIONS[name], num_classes=3, filters=8, feed_forward=14)
    pixels, queries = torch.randn(2, 12, 5, 7), torch.randn(2, 10, 1, 6)
    with recorded_weights(layer) as weights:
        out = layer(pixels, queries)
    assert out.pixels.shape == pixels.shape and out.queries.shape == queries.shape
    assert torch.equal(out.pixels, pixels)  # the residual starts as the identity
    torch.testing.assert_close(out.assignment.sum(1), torch.ones(2, 5, 7))
    keys = 6 if "kmeans" in name else 5 * 7 + 6
    assert weights["attention"].shape == (2, 8, 6, keys)
    assert ("pixel_attention" in weights) == ("dual" in name)
    assert (out.prediction is not None) == ("kmeans" in name)


@pytest.mark.parametrize("name", INTERACTIONS)
def test_queries_may_stand_in_any_order(name):
    layer = DualPathLayer(12, 10, INTERACTIONS[name], num_classes=3, filters=8, feed_forward=14)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.3)
    layer = layer.double().eval()
    pixels = torch.randn(2, 12, 5, 7, dtype=torch.float64)
    queries = torch.randn(2, 10, 1, 6, dtype=torch.float64)
    order = torch.randperm(6)
    straight, shuffled = layer(pixels, queries), layer(pixels, queries[..., order])
    torch.testing.assert_close(shuffled.queries, straight.queries[..., order])
    torch.testing.assert_close(shuffled.pixels, straight.pixels)
    torch.testing.assert_close(shuffled.assignment, straight.assignment[:, order])


def test_an_unknown_assignment_names_the_known():
    with pytest.raises(ValueError, match="'farthest'; known are over keys, over queries, nearest"):
        DualPathLayer(12, 10, Interaction(("farthest",), False), num_classes=3)
