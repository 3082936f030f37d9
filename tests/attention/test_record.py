import pytest
import torch
from torch import nn

from stereo_tr.attention import (
    Attention,
    EpipolarLine,
    Everything,
    LayoutAttention,
    Residual,
    Rows,
    recorded_weights,
)

C, HEADS = 8, 2


def test_weights_of_every_layer_average_the_values():
    model = nn.Sequential(
        Residual(LayoutAttention(Everything(), Attention(C, HEADS)), C),
        Residual(LayoutAttention(Rows(), Attention(C, HEADS)), C),
    ).eval()
    x = torch.randn(3, 4, 5, C)
    with torch.no_grad():
        expected = model(x)
        with recorded_weights(model) as weights:
            torch.testing.assert_close(model(x), expected)
        assert list(weights) == ["0.branch.attention", "1.branch.attention"]
        assert weights["0.branch.attention"].shape == (3, HEADS, 20, 20)
        assert weights["1.branch.attention"].shape == (3 * 4, HEADS, 5, 5)
        attention, tokens = model[0].branch.attention, model[0].norm(x).flatten(1, 2)
        value = attention.split_heads(attention.to_value(tokens))
        mixed = weights["0.branch.attention"] @ value
        out = attention.to_out(mixed.transpose(1, 2).flatten(-2)).reshape_as(x)
        torch.testing.assert_close(model[0](x), x + out)
        # Outside the block nothing is recorded.
        before = dict(weights)
        model(torch.randn(1, 2, 2, C))
        assert all(weights[name] is value for name, value in before.items())


def test_masked_pairs_have_no_weight():
    layer = LayoutAttention(EpipolarLine(), Attention(C, HEADS))
    with recorded_weights(layer) as weights:
        layer(torch.randn(2, 3, 4, C))
    (weight,) = weights.values()
    assert torch.equal(weight, weight.tril())
    torch.testing.assert_close(weight.sum(-1), torch.ones(weight.shape[:-1]))
    assert not weight.requires_grad


def test_the_switch_is_off_after_an_error():
    layer = LayoutAttention(EpipolarLine(), Attention(C, HEADS))
    with recorded_weights(layer) as weights, pytest.raises(ValueError, match="in pairs"):
        layer(torch.randn(3, 3, 4, C))
    assert not weights
    assert not layer.attention._forward_hooks and not layer.attention._forward_pre_hooks
