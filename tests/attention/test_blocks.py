import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stereo_tr.attention import (
    Attention,
    Everything,
    FeedForward,
    LayoutAttention,
    Residual,
    Rows,
    Windows,
    drop_path,
)

C, HIDDEN, HEADS = 8, 20, 2


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU])
def test_a_block_is_torchs_encoder_layer(norm, activation):
    """Rows as sequences: B * H sequences of W tokens."""
    ours = nn.Sequential(
        Residual(LayoutAttention(Rows(), Attention(C, HEADS)), C, norm=norm),
        Residual(FeedForward(C, HIDDEN, activation), C, norm=norm),
    )
    theirs = nn.TransformerEncoderLayer(
        C,
        HEADS,
        HIDDEN,
        dropout=0.0,
        activation=F.relu if activation is nn.ReLU else F.gelu,
        batch_first=True,
        norm_first=norm == "pre",
    )
    attention, feed_forward = ours[0].branch.attention, ours[1].branch
    projections = (attention.to_query, attention.to_key, attention.to_value)
    with torch.no_grad():
        for x in ours.parameters():
            x.copy_(torch.randn_like(x) * 0.3)
        theirs.self_attn.in_proj_weight.copy_(torch.cat([x.weight for x in projections]))
        theirs.self_attn.in_proj_bias.copy_(torch.cat([x.bias for x in projections]))
    theirs.self_attn.out_proj.load_state_dict(attention.to_out.state_dict())
    theirs.linear1.load_state_dict(feed_forward.widen.state_dict())
    theirs.linear2.load_state_dict(feed_forward.narrow.state_dict())
    theirs.norm1.load_state_dict(ours[0].norm.state_dict())
    theirs.norm2.load_state_dict(ours[1].norm.state_dict())
    x = torch.randn(2, 3, 5, C)
    expected = theirs(x.flatten(0, 1)).unflatten(0, (2, 3))
    torch.testing.assert_close(ours(x), expected, rtol=1e-5, atol=1e-5)


def test_windows_of_several_maps_each_get_their_own_mask():
    """Attention in shifted, padded windows gives every map of a batch what it gets alone."""
    layer = LayoutAttention(Windows(2, 3, shift=(1, 1)), Attention(C, HEADS))
    x = torch.randn(3, 5, 7, C)
    alone = torch.cat([layer(each[None]) for each in x])
    torch.testing.assert_close(layer(x), alone)
    # One window over everything is everything.
    whole = LayoutAttention(Windows(5, 7), layer.attention)
    everything = LayoutAttention(Everything(), layer.attention)
    torch.testing.assert_close(whole(x), everything(x))


def test_the_norm_can_stand_on_the_branch():
    x, branch = torch.randn(2, 3, C), nn.Linear(C, C)
    block = Residual(branch, C, norm="branch")
    y = branch(x)
    spread = (y.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(block(x), x + (y - y.mean(-1, keepdim=True)) / spread)
    # Another norm can be given: here none.
    plain = Residual(branch, C, make_norm=lambda channels: nn.Identity())
    torch.testing.assert_close(plain(x), x + y)


@pytest.mark.parametrize("start", [0.25, 1])
def test_layer_scale_is_a_learned_factor_a_channel(start):
    x = torch.randn(2, 3, C)
    scaled, plain = Residual(nn.Linear(C, C), C, layer_scale=start), Residual(nn.Linear(C, C), C)
    plain.load_state_dict({k: v for k, v in scaled.state_dict().items() if k != "scale"})
    torch.testing.assert_close(scaled(x) - x, (plain(x) - x) * start)
    with torch.no_grad():
        scaled.scale[3] = 0
    assert torch.equal(scaled(x)[..., 3], x[..., 3])


def test_drop_path_drops_samples_and_keeps_the_mean():
    """A branch that is 1 everywhere becomes 0 or 1 / (1 - p), for a sample as a whole."""
    ones = nn.Linear(C, C)
    nn.init.zeros_(ones.weight)
    nn.init.ones_(ones.bias)
    block = Residual(ones, C, drop_path=0.2)
    x = torch.zeros(4000, 2, C)
    torch.manual_seed(0)
    out = block.train()(x)
    each = out[:, 0, 0]
    assert torch.equal(out, each[:, None, None].expand_as(out))
    assert each.unique().tolist() == [0.0, 1.25]
    # the standard deviation of the mean is 1.25 * sqrt(0.2 * 0.8 / 4000) = 0.008
    assert abs(each.mean().item() - 1) < 0.04
    assert torch.equal(block.eval()(x), torch.ones_like(x))


@pytest.mark.parametrize("probability", [1.0, -0.1, float("nan")])
def test_drop_path_leaves_some_samples(probability):
    message = f"drop_path={probability} must be at least 0 and below 1"
    with pytest.raises(ValueError, match=message):
        Residual(nn.Identity(), C, drop_path=probability)
    with pytest.raises(ValueError, match=message):
        drop_path(torch.ones(2, C), probability)


def test_a_gate_multiplies_the_activated_half():
    layer = FeedForward(C, HIDDEN, nn.GELU, gated=True)
    x = torch.randn(2, 3, C)
    wide = x @ layer.widen.weight.T + layer.widen.bias
    gated = F.gelu(wide[..., :HIDDEN]) * wide[..., HIDDEN:]
    torch.testing.assert_close(layer(x), gated @ layer.narrow.weight.T + layer.narrow.bias)


def test_mixing_is_a_depthwise_convolution():
    height, width = 4, 5
    layer = FeedForward(C, HIDDEN, nn.ReLU, mixing=3)
    x = torch.randn(2, height, width, C)
    wide = layer.widen(x).double()
    mixed = torch.zeros_like(wide) + layer.mix.bias.double()
    for y in range(height):
        for x_ in range(width):
            for a in range(3):
                for b in range(3):
                    v, u = y + a - 1, x_ + b - 1
                    if 0 <= v < height and 0 <= u < width:
                        mixed[:, y, x_] += layer.mix.weight[:, 0, a, b].double() * wide[:, v, u]
    expected = layer.narrow(mixed.float().relu())
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="mixing=4 must be odd"):
        FeedForward(C, HIDDEN, mixing=4)
