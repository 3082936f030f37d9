import pytest
import torch
import torch.nn.functional as F

from stereo_tr.attention.memory import working_memory
from stereo_tr.stereo.strips import in_strips


@pytest.mark.parametrize("budget", [1, 3000, 10**6])
@pytest.mark.parametrize("height", [1, 3, 11])
def test_strips_give_what_the_whole_gives(budget, height):
    first, second = torch.randn(2, 4, 3, 3), torch.randn(5, 2, 3, 3)
    x, shift = torch.randn(2, 3, height, 7), torch.randn(2, 1, height, 7)
    seen = []

    def function(x, shift):
        seen.append(x.shape[-2])
        inner = F.conv2d(torch.cat([shift, x], 1), first, padding=1)
        return F.conv2d(inner.relu(), second, padding=1) + shift

    with torch.no_grad(), working_memory(budget):
        found = in_strips(function, x, shift, halo=2, row_bytes=1000)
    strips = len(seen)
    torch.testing.assert_close(found, function(x, shift))
    assert strips == {1: height, 3000: -(-height // 3), 10**6: 1}[budget]
