"""Camera differences: small on average, reproducible, and each what its name says."""

import numpy as np

from stereo_tr.datasets import camera

POOL = np.random.default_rng(0).standard_normal(1 << 16, np.float32)


def views(height=37, width=53):
    y, x = np.mgrid[:height, :width].astype(np.float32)
    left = np.stack([100 + 60 * np.sin(x / 5), 90 + 50 * np.cos(y / 6), 120 + x], 2)
    return left, np.roll(left, -4, 1), (np.zeros((height, width), bool),) * 2


def recorded(seed):
    return camera.photograph(*views(), POOL, np.random.default_rng(seed))


def test_a_seed_gives_the_same_pictures_and_the_clean_ones_stay():
    left, right, _ = views()
    before = left.copy(), right.copy()
    one = camera.photograph(left, right, views()[2], POOL, np.random.default_rng(7))
    np.testing.assert_array_equal(one, recorded(7))
    assert one[0].dtype == np.uint8
    assert one[0].shape == left.shape
    np.testing.assert_array_equal(left, before[0])
    np.testing.assert_array_equal(right, before[1])


def test_some_pairs_are_nearly_alike_and_some_are_not():
    medians = []
    for seed in range(60):
        left, right = (np.float32(view) for view in recorded(seed))
        medians.append(np.median(np.abs(left - np.roll(right, 4, 1))))
    assert np.quantile(medians, 0.25) < 6
    assert np.quantile(medians, 0.9) > 10


def test_misaligned_moves_down_by_the_shift():
    left = views()[0]
    moved = camera._misaligned(left, 2.0, 0.0)
    np.testing.assert_allclose(moved[5:-5], left[3:-7], atol=1e-2)


def test_the_tone_curve_is_its_formula():
    left = views()[0]
    toned = camera._toned(left, 1.3, np.array([0.9, 1.0, 1.1]), 4.0)
    expected = 255 * (left.astype(np.float64) / 255) ** 1.3 * [0.9, 1.0, 1.1] + 4
    np.testing.assert_allclose(toned, expected, atol=0.1)


def test_noise_has_its_level():
    grey = np.full((80, 90, 3), 128, np.float32)
    noisy = camera._noisy(grey, 5.0, False, False, POOL, np.random.default_rng(3))
    assert abs((noisy - grey).std() - 5) < 0.3
    assert camera._noisy(grey, 0.0, False, False, POOL, np.random.default_rng(3)) is grey


def test_a_glint_moves_against_its_surface_and_stays_on_its_object():
    black = np.zeros((40, 60, 3), np.float32)
    on = np.zeros((40, 60), bool)
    on[10:30, 20:45] = True
    left, right = black.copy(), black.copy()
    camera.highlight(left, right, (on, np.roll(on, -8, 1)), (30, 20), 8.0, np.random.default_rng(1))
    assert left[~on].max() == 0
    assert right[~np.roll(on, -8, 1)].max() == 0
    assert left[20, 30].min() > 0
    assert left[..., 0].sum() > 0
    assert right[..., 0].sum() > 0


def test_other_lamps_change_brightness_alone_softly_but_for_surfaces():
    left = views()[0]
    surface = np.zeros(left.shape[:2], np.uint8)
    surface[:, 20:] = 5
    before = left.copy()
    factors = camera.relit(left, surface, np.random.default_rng(2)) / left
    np.testing.assert_array_equal(left, before)
    np.testing.assert_allclose(factors, factors[..., :1].repeat(3, 2), rtol=1e-5)  # no colour
    assert 0.4 < factors.min() < factors.max() < 2.5
    steps = np.abs(np.diff(np.log(factors[..., 0]), axis=1)).max(0)
    assert steps.argmax() == 19  # between columns 19 and 20
    assert np.sort(steps)[-2] < steps[19] / 2
