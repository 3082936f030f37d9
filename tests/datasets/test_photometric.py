"""Tones against kornia and a float64 formula; noise by its statistics."""

from functools import partial

import numpy as np
import pytest
import torch
from slanted import slanted_pair

from stereo_tr.datasets.photometric import (
    GREY,
    Tone,
    add_noise,
    brightness_and_contrast,
    jitter,
    recolour,
    shift_channels,
)

NEUTRAL = np.array([0.5, 0.5, 0.5])


@pytest.fixture
def view():
    """Far enough from black and white that nothing is clipped."""
    torch.manual_seed(5)
    return 0.4 + 0.2 * torch.rand(3, 13, 21)


def mean_of(view):
    return view.mean((1, 2)).double().numpy()


def drawn(view, **settings):
    return jitter(np.random.default_rng(1), mean_of(view), **settings)(view)


def test_each_change_is_kornias(view):
    enhance = pytest.importorskip("kornia.enhance")
    factor = 1.3
    bounds = (factor, factor)
    pairs = (
        (drawn(view, brightness=bounds), enhance.adjust_brightness_accumulative(view, factor)),
        (
            drawn(view, contrast=bounds),
            enhance.adjust_contrast_with_mean_subtraction(view, factor),
        ),
        (
            drawn(view, saturation=bounds),
            enhance.adjust_saturation_with_gray_subtraction(view, factor),
        ),
        (drawn(view, gamma=bounds), enhance.adjust_gamma(view, factor)),
    )
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=0)  # kornia's greys have 3 digits


def test_hue_keeps_the_brightness_and_comes_round(view):
    turned = drawn(view, hue=0.5)
    grey = torch.from_numpy(GREY).float()
    own = torch.einsum("c,chw->hw", grey, view)
    torch.testing.assert_close(torch.einsum("c,chw->hw", grey, turned), own, atol=1e-5, rtol=0)
    assert (turned - view).abs().max() > 0.02
    greys = view[:1].expand(3, -1, -1)
    torch.testing.assert_close(drawn(greys, hue=0.5), greys, atol=1e-5, rtol=0)


def test_changes_in_a_row_are_one_map(view):
    """Contrast is about the mean of what the changes before it have made."""
    settings = {"brightness": (0.8, 0.9), "contrast": (1.1, 1.3), "saturation": (0.3, 0.5)}
    rng, again = np.random.default_rng(7), np.random.default_rng(7)
    ours = jitter(rng, mean_of(view), **settings)(view).double()
    by, spread, colourful = (again.uniform(*settings[name]) for name in settings)
    again.uniform(0, 0)
    pixels = view.double().numpy()
    for index in again.permutation(4):
        grey = np.einsum("c,chw->hw", GREY, pixels)
        pixels = [
            lambda p, g: by * p,
            lambda p, g: spread * p + (1 - spread) * g.mean(),
            lambda p, g: colourful * p + (1 - colourful) * g,
            lambda p, g: p,
        ][index](pixels, grey)
    np.testing.assert_allclose(ours.numpy(), pixels, atol=1e-5)


def test_published_shifts_stay_within_their_bounds():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        tone = shift_channels(rng, NEUTRAL, largest=20 / 255)
        assert np.abs(tone.offset).max() <= 20 / 255
        assert len(set(tone.offset)) == 3
        tone = brightness_and_contrast(rng, NEUTRAL, largest=0.1)
        assert 0.9 <= tone.matrix[0, 0] <= 1.1
        assert np.abs(tone.offset).max() <= 0.1


def test_a_tone_clips(view):
    assert float(Tone(9 * np.eye(3))(view).max()) == 1
    assert float(Tone(offset=np.full(3, -0.9))(view).min()) == 0


@pytest.mark.parametrize(("asymmetric", "alike"), [(0.0, True), (1.0, False)])
def test_views_change_alike_or_each_in_its_own_way(asymmetric, alike):
    sample = slanted_pair(9, 31)._replace(left=slanted_pair(9, 31).right)
    draw = partial(shift_channels, largest=0.2)
    changed = recolour(sample, np.random.default_rng(2), draw=draw, asymmetric=asymmetric)
    assert torch.equal(changed.left, changed.right) == alike
    assert not torch.equal(changed.left, sample.left)
    assert torch.equal(changed.disparity, sample.disparity)


def test_noise_has_the_variance_asked_for_and_differs_between_views():
    sample = slanted_pair(200, 301)
    grey = sample._replace(
        left=torch.full((3, 200, 301), 0.5), right=torch.full((3, 200, 301), 0.5)
    )
    noisy = add_noise(grey, np.random.default_rng(0), variance=(30.0, 30.0))
    for view in (noisy.left, noisy.right):
        added = 255 * (view.double() - 0.5)
        assert abs(float(added.mean())) < 0.1
        assert float(added.var()) == pytest.approx(30, rel=0.02)
    both = torch.stack([noisy.left.flatten(), noisy.right.flatten()])
    assert abs(float(torch.corrcoef(both)[0, 1])) < 0.02
