import pytest
import torch

from stereo_tr.mask.appearance import MIDDLE, PLACE, SPREAD, STRENGTH, Appearance
from stereo_tr.pretrained import create_model

NEW = {"layers": (0, 0, 2), "seeds": True, "appearance": True}


def test_it_adds_mean_colour_and_place():
    """Written out for blocks of 4x4 pixels, with a projection that hands them through."""
    torch.manual_seed(0)
    images, pixels = torch.rand(2, 3, 12, 20), torch.randn(2, 5, 3, 5)
    appearance = Appearance(5).eval()  # fresh norms divide by the root of 1 and epsilon
    appearance.project.weight.data = torch.eye(5)[..., None, None]
    added = (appearance(images, pixels) - pixels) * (1 + appearance.norm.eps) ** 0.5 / STRENGTH
    for row, column in ((0, 0), (1, 4), (2, 2)):
        block = images[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        expected = (block.mean((2, 3)) - MIDDLE) / SPREAD
        torch.testing.assert_close(added[:, :3, row, column], expected)
        place = PLACE * torch.tensor([(column + 0.5) / 5 * 2 - 1, (row + 0.5) / 3 * 2 - 1])
        torch.testing.assert_close(added[:, 3:, row, column], place.expand(2, -1))


@pytest.mark.parametrize("size", [(64, 96), (37, 51), (16, 16)])
def test_any_size_and_batch(size):
    torch.manual_seed(0)
    model = create_model("kmax_small", **NEW).double().eval()
    images = torch.rand(2, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        both, alone = model(images), model(images[1:])
    assert both.final.mask_logits.shape[2:] == tuple(-(-side // 4) for side in size)
    torch.testing.assert_close(
        both.final.mask_logits[1:], alone.final.mask_logits, rtol=1e-3, atol=1e-3
    )
    assert len(both.assignments) == 2


def test_the_last_stage_has_no_stride():
    maps = create_model("kmax_small", **NEW).encoder.features(torch.rand(1, 3, 96, 128))
    assert [tuple(each.shape[2:]) for each in maps.values()] == [
        (24, 32),
        (12, 16),
        (6, 8),
        (6, 8),
    ]
