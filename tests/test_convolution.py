import pytest
import torch
from torch import nn

from stereo_tr.convolution import (
    GROUP,
    ChannelNorm,
    PaddedConvolution,
    ResidualBlock,
    average_pool,
    convolution,
    same_padding,
)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (1, 2), (5, 3)])
def test_size_is_divided_by_the_stride_and_rounded_up(kernel, stride):
    out = convolution(3, 16, kernel, stride=stride)(torch.randn(2, 3, 7, 10))
    assert out.shape == (2, 16, -(-7 // stride), -(-10 // stride))


def test_statistics_are_those_of_a_group_of_channels_of_one_sample():
    x = 5 * torch.randn(2, 3, 6, 9) + 2
    layer = convolution(3, 2 * GROUP, activation=False)
    assert [type(part) for part in layer] == [nn.Conv2d, nn.GroupNorm]
    raw = layer[0](x)
    assert layer[0].bias is None  # the norm would take it away again
    for sample in range(2):
        for group in (slice(0, GROUP), slice(GROUP, 2 * GROUP)):
            part = raw[sample, group].double()
            expected = (part - part.mean()) / (part.var(correction=0) + 1e-5).sqrt()
            torch.testing.assert_close(
                layer(x)[sample, group].double(), expected, rtol=1e-4, atol=1e-4
            )


def test_the_activation_can_be_left_out():
    x, layer = torch.randn(1, 3, 4, 5), convolution(3, 8)
    without = layer[:2](x)
    assert without.min() < 0
    assert torch.equal(layer(x), without.clamp(min=0))


def test_channels_come_in_groups():
    with pytest.raises(ValueError, match="12 output channels are not a multiple of 8"):
        convolution(3, 12)


@pytest.mark.parametrize(("inputs", "outputs", "stride"), [(8, 8, 1), (8, 16, 1), (8, 8, 2)])
def test_a_residual_block_whose_branch_is_silent_is_its_shortcut(inputs, outputs, stride):
    block = ResidualBlock(inputs, outputs, stride=stride)
    nn.init.zeros_(block.branch[1][1].weight)  # the last norm's factor
    x = torch.randn(2, inputs, 5, 6)
    out = block(x)
    assert out.shape == (2, outputs, -(-5 // stride), -(-6 // stride))
    if (inputs, stride) == (outputs, 1):
        assert torch.equal(out, x.clamp(min=0))
    else:
        assert torch.equal(out, block.shortcut(x).clamp(min=0))
        assert block.shortcut[0].kernel_size == (1, 1)


def test_samples_keep_to_themselves_and_training_is_inference():
    block, x = ResidualBlock(8, 16, stride=2), torch.randn(3, 8, 6, 7)
    together = block.train()(x)
    torch.testing.assert_close(together, torch.cat([block(each[None]) for each in x]))
    assert torch.equal(together, block.eval()(x))


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [(8, 3, 2, (0, 1)), (9, 3, 2, (1, 1)), (7, 3, 1, (1, 1)), (6, 2, 2, (0, 0)), (5, 2, 2, (0, 1))],
)
def test_same_padding_is_tensorflows(size, kernel, stride, padding):
    assert same_padding(size, kernel, stride) == padding


def test_a_same_convolution_starts_at_the_first_place_of_an_even_size():
    layer = PaddedConvolution(1, 1, stride=2, same=True, bias=False)
    nn.init.ones_(layer.weight)
    x = torch.zeros(1, 1, 6, 8)
    x[0, 0, 0, 0] = 1
    assert layer(x)[0, 0].tolist() == [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    x = x.roll((1, 1), (2, 3))  # seen by the first window only, whose middle it is
    assert layer(x)[0, 0].tolist() == [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize(("window", "same"), [(2, True), (3, True), (3, False)])
def test_an_average_counts_what_is_in_the_map(window, same):
    x = torch.randn(2, 3, 5, 8)
    pooled = average_pool(x, window, 2, same=same)
    assert pooled.shape == (2, 3, 3, 4)
    torch.testing.assert_close(
        average_pool(torch.ones_like(x), window, 2, same=same), torch.ones(2, 3, 3, 4)
    )
    before = [same_padding(size, window, 2)[0] if same else window // 2 for size in (5, 8)]
    for row in range(3):
        for column in range(4):
            top, left = 2 * row - before[0], 2 * column - before[1]
            seen = x[:, :, max(top, 0) : top + window, max(left, 0) : left + window]
            torch.testing.assert_close(pooled[:, :, row, column], seen.mean((2, 3)))


def test_channels_are_normalised_at_every_place():
    x = torch.randn(2, 6, 3, 4)
    out = ChannelNorm(6)(x)
    for row in range(3):
        for column in range(4):
            expected = nn.functional.layer_norm(x[:, :, row, column], (6,))
            torch.testing.assert_close(out[:, :, row, column], expected)
