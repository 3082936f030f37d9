import pytest
import torch
import torch.nn.functional as F

from stereo_tr.attention.normalised import BatchNorm
from stereo_tr.mask.decoder import MaskDecoder
from stereo_tr.mask.dual_path import INTERACTIONS
from stereo_tr.mask.seeds import GAIN, NEW, SHARPNESS, SeededQueries, farthest_first

SIZE = (8, 12)


def patches():
    """Four regions of 4x6 pixels, each with a feature of its own, orthogonal to the others'."""
    numbers = torch.zeros(SIZE, dtype=torch.int64)
    numbers[:4, 6:], numbers[4:, :6], numbers[4:, 6:] = 1, 2, 3
    return numbers, F.one_hot(numbers, 5).permute(2, 0, 1).float()


def test_no_region_gets_a_second_seed_before_each_has_one():
    numbers, features = patches()
    turned = features.flip(2)
    chosen, novelty = farthest_first(torch.stack((features, turned)), 5)
    for image, places in enumerate(chosen[:, :4]):
        of_pixel = (numbers, numbers.flip(1))[image].flatten()
        assert sorted(of_pixel[places].tolist()) == [0, 1, 2, 3]
    assert novelty[:, :4].min() > novelty[:, 4].max()


def test_it_is_the_walk_written_out():
    """A search over all pixels with cosines in float64, after means over the pixels around each."""
    features = F.normalize(
        torch.randn(3, 7, 5, 9, generator=torch.Generator().manual_seed(1)), dim=1
    )
    walked = zip(features.double(), *farthest_first(features, 6), strict=True)
    for image, places, novelty in walked:
        around = [
            image[:, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].mean((1, 2))
            for y in range(5)
            for x in range(9)
        ]
        smooth = torch.stack([vector / vector.norm() for vector in around])
        cosines = smooth @ smooth.T
        expected = [int((smooth @ smooth.mean(0)).argmax())]
        new = [1.0]
        for _ in range(5):
            nearest = cosines[:, expected].amax(1)
            expected.append(int(nearest.argmin()))
            new.append(1 - nearest.min().item())
        assert places.tolist() == expected
        assert novelty.tolist() == pytest.approx(new, abs=1e-5)


def test_masks_of_seeds_are_the_regions_and_gradients_reach_the_features():
    numbers, features = patches()
    features = features[None].requires_grad_()
    start = SeededQueries(5, 10).eval()
    queries, logits = start(features, torch.zeros(1, 10, 1, 6))
    assert queries.shape == (1, 10, 1, 6) and logits.shape == (1, 6, *SIZE)
    # Four regions: the two seeds after those are less new, and get no pixel.
    assert logits.max().item() == pytest.approx(SHARPNESS * (1 + GAIN * NEW))
    of_query = logits[0].argmax(0)
    assert of_query.max() == 3
    for number in range(4):
        assert len(of_query[numbers == number].unique()) == 1
    (queries.square().sum() + logits[0, 0].sum()).backward()
    assert features.grad.isfinite().all() and (features.grad != 0).any()
    assert start.project.weight.grad.abs().sum() > 0


def test_more_queries_than_pixels():
    features = F.normalize(torch.rand(2, 3, 1, 2), dim=1)
    chosen, novelty = farthest_first(features, 5)
    assert novelty.isfinite().all() and (novelty[:, 2:] < 1e-5).all()
    assert chosen.shape == (2, 5) and set(chosen.flatten().tolist()) <= {0, 1}


@pytest.mark.parametrize("interaction", [*INTERACTIONS, "clustering"])
def test_every_interaction_starts_from_seeds(interaction):
    """All masks, of layers and final, hold the seeds' logits; an image is what it is alone."""
    torch.manual_seed(0)
    decoder = MaskDecoder(
        (8, 12, 16, 20),
        num_classes=3,
        num_queries=5,
        interaction=interaction,
        depths=(0, 1, 2),
        channels=24,
        filters=8,
        feed_forward=16,
        predicts=True,
        seeds=True,
        head_sizes={"hidden": 10, "features": 6},
    )
    sizes = ((2, 3), (3, 5), (6, 9), (12, 17))
    maps = [torch.randn(2, c, *size) for c, size in zip((8, 12, 16, 20), sizes, strict=True)]
    decoder(maps)  # norms that have seen something
    decoder.eval()
    with torch.no_grad():
        whole, alone = decoder(maps), decoder([each[1:] for each in maps])
    torch.testing.assert_close(
        whole.final.mask_logits[1:], alone.final.mask_logits, rtol=1e-4, atol=1e-4
    )
    assert len(whole.auxiliary) == 3

    for module in decoder.modules():  # what is left of the masks without their norms' scales
        if isinstance(module, type(BatchNorm(1))) and module.num_features == 1:
            torch.nn.init.zeros_(module.weight)
            torch.nn.init.zeros_(module.bias)
    with torch.no_grad():
        silent = decoder(maps)
    features = silent.pixel_features.flatten(2)
    places, novelty = farthest_first(silent.pixel_features, 5)
    seeds = features.gather(2, places[:, None].expand(-1, 6, -1))
    preferred = GAIN * novelty.clamp(max=NEW)[..., None]
    expected = SHARPNESS * (seeds.mT @ features + preferred).unflatten(2, (12, 17))
    torch.testing.assert_close(silent.final.mask_logits, expected, rtol=1e-4, atol=1e-4)
    coarse = F.interpolate(expected, (3, 5), mode="bilinear", align_corners=True)
    torch.testing.assert_close(silent.auxiliary[0].mask_logits, coarse, rtol=1e-4, atol=1e-4)
