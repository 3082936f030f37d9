import numpy as np

from stereo_tr.pictures import (
    UNKNOWN,
    Span,
    colour_disparity,
    disparity_picture,
    probability_picture,
    span_of,
)

RAMP = np.linspace(3, 63, 7 * 331, dtype=np.float32).reshape(7, 331)


def test_lightness_grows_with_disparity():
    """What makes a map perceptual: a reader sees near and far without a legend."""
    colours = colour_disparity(np.arange(256, dtype=np.float32)[None], span=Span(0, 255))[0]
    lightness = colours @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(lightness) > -0.5).all()  # 8 bits round
    assert lightness[-1] - lightness[0] > 200


def test_a_shared_span_gives_equal_colours_to_equal_disparities():
    span = Span(0.0, 70.0)
    np.testing.assert_array_equal(
        colour_disparity(RAMP, span=span)[:, 100:], colour_disparity(RAMP[:, 100:], span=span)
    )


def test_unknown_is_grey_and_has_no_say_in_the_span():
    holed = RAMP.copy()
    holed[2, 5] = np.inf
    assert tuple(colour_disparity(holed)[2, 5]) == UNKNOWN
    valid = np.ones(RAMP.shape, bool)
    valid[2, 5] = False
    wild = np.where(valid, RAMP, np.float32(-1e6))
    np.testing.assert_array_equal(colour_disparity(wild, valid), colour_disparity(holed))
    assert colour_disparity(np.full((3, 4), np.nan, np.float32)).shape == (3, 4, 3)


def test_outliers_cost_no_contrast():
    spiked = RAMP.copy()
    spiked[0, 0] = 1e5
    low, high = span_of(spiked)
    assert 3 <= low < 5
    assert 61 < high <= 63.1
    flat = span_of(np.full((5, 6), 20, np.float32))
    assert (flat.low, flat.high) == (19.5, 20.5)


def test_the_scale_bar_leaves_the_picture_alone():
    for width in (20, 331):  # narrower than the bar, and wider
        disparity = RAMP[:, :width]
        picture = disparity_picture(disparity)
        np.testing.assert_array_equal(picture[:7, :width], colour_disparity(disparity))
        strip = picture[7:]
        assert (strip == 255).all(-1).any()  # paper
        assert (strip == 30).all(-1).any()  # ink
    with_metres = disparity_picture(RAMP, focal_times_baseline=100.0)
    assert with_metres.shape[0] > picture.shape[0]
    assert with_metres.shape[1] == picture.shape[1] == 331


def test_probability():
    np.testing.assert_array_equal(
        probability_picture(np.float32([[0, 0.5, 1]])), np.uint8([[0, 128, 255]])
    )
