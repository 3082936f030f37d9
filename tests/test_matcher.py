import warnings

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from stereo_tr.datasets.generated import GeneratedScenes
from stereo_tr.matcher import MisalignedRowsWarning, StereoMatcher, SwappedViewsWarning
from stereo_tr.stereo.metrics import bad_n
from stereo_tr.stereo.output import StereoOutput
from stereo_tr.stereo.scales import Scales


class BrightnessModel(nn.Module):
    """Answers with what it was shown, so that a test sees what reached the model."""

    def forward(self, left, right):
        return StereoOutput(left[:, 0], right[:, 1], left[:, 2], None)


@pytest.fixture
def matcher():
    return StereoMatcher(BrightnessModel())


def test_a_thorough_look_is_for_models_that_are_asked_more_than_once():
    model = BrightnessModel()
    with pytest.raises(ValueError, match="cstr_small"):
        StereoMatcher(model, thorough=True)
    model.scales = Scales(coarse=0.4)
    assert StereoMatcher(model, thorough=True).scales.finer > 1
    assert StereoMatcher(model).scales.finer is None


def views(dtype, channels=3, height=17, width=23):
    top = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1
    random = np.random.default_rng(channels).random((2, height, width, channels))
    return [(view * top).astype(dtype) for view in random]


@pytest.mark.parametrize(
    ("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1), (np.float64, 1)]
)
def test_every_type_is_scaled_by_its_own_range(matcher, dtype, top):
    left, right = views(dtype)
    result = matcher(left, right)
    for found, given in zip(result, (left[..., 0], right[..., 1], left[..., 2]), strict=True):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, given / top, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_grey_is_repeated_and_alpha_ignored(matcher, channels):
    left, right = views(np.uint8, channels)
    result = matcher(left, right)
    np.testing.assert_allclose(result.disparity, left[..., 0] / 255, atol=1e-6)
    np.testing.assert_allclose(result.confidence, left[..., min(2, channels - 1)] / 255, atol=1e-6)
    if channels == 1:
        flat = matcher(left[..., 0], right[..., 0])
        np.testing.assert_array_equal(flat.occlusion, result.occlusion)


def test_files_and_arrays_agree(matcher, tmp_path):
    left, right = views(np.uint16)
    cv2.imwrite(str(tmp_path / "left.png"), left[..., ::-1])
    cv2.imwrite(str(tmp_path / "right.tif"), right[..., ::-1])
    from_files = matcher(tmp_path / "left.png", str(tmp_path / "right.tif"))
    for found, expected in zip(from_files, matcher(left, right), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_matrix_is_an_array(matcher):
    left, right = views(np.uint8, channels=1)
    found = matcher(left[..., 0].view(np.matrix), right[..., 0].view(np.matrix))
    np.testing.assert_array_equal(found.disparity, matcher(left, right).disparity)


def test_views_that_cannot_be_written_to_stay_as_they_are(matcher):
    left, right = views(np.float32)
    before = left.copy()
    left.flags.writeable = False
    matcher(left, right)
    np.testing.assert_array_equal(left, before)


def test_views_that_are_seen_through_other_strides(matcher):
    left, right = views(np.float32)
    mirrored = matcher(left[:, ::-1], right[:, ::-1])
    np.testing.assert_array_equal(mirrored.disparity, matcher(left, right).disparity[:, ::-1])


@pytest.mark.parametrize(
    ("left", "right", "message"),
    [
        (views(np.uint8)[0], views(np.uint8, width=24)[1], "23x17 px and the right view 24x17"),
        (views(np.uint8, height=1, width=1)[0],) * 2 + ("1x1 px; at least 16x16 are needed",),
        (views(np.uint8, height=0)[0],) * 2 + ("23x0 px; at least",),
        (views(np.int32)[0],) * 2 + ("is int32; allowed are uint8, uint16 and float",),
        (views(np.float32)[0] * 255,) * 2 + (r"a float view spans \[0, 1\]",),
        (views(np.float32)[0] * np.nan,) * 2 + (r"a float view spans \[0, 1\]",),
        (views(np.uint8, channels=2)[0],) * 2 + (r"shape \(17, 23, 2\); allowed are",),
    ],
)
def test_bad_views_are_refused_with_what_is_allowed(matcher, left, right, message):
    with pytest.raises(ValueError, match=message):
        matcher(left, right)


@pytest.mark.parametrize("device", ["warp-drive", "meta", "cuda:99"])
def test_an_unusable_device_is_named(device):
    with pytest.raises(ValueError, match=f"device '{device}' can't be used; this machine has cpu"):
        StereoMatcher(BrightnessModel(), device)


def test_no_memory_says_what_to_do(monkeypatch):
    def full(*_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ...")

    monkeypatch.setattr(BrightnessModel, "forward", full)
    with pytest.raises(MemoryError, match="the left view: 23x17 px don't fit into the memory of"):
        StereoMatcher(BrightnessModel())(*views(np.uint8))


def test_global_state_stays(matcher):
    before = torch.get_num_threads(), torch.is_grad_enabled(), torch.get_rng_state()
    matcher(*views(np.uint8))
    assert (torch.get_num_threads(), torch.is_grad_enabled()) == before[:2]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_swapped_views_are_warned_of(matcher):
    texture = cv2.resize(np.random.default_rng(0).random((20, 40)), (400, 200))
    left, right = texture[:, 10:330], texture[:, 30:350]  # disparity 20
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        matcher(left, right)
    with pytest.warns(SwappedViewsWarning, match="the left view and the right view look swapped"):
        matcher(right, left)


def test_a_right_view_that_lies_too_low_is_moved_and_warned_of():
    """Matched as well as before it was lowered; without the move a third more would be wrong."""
    scene = GeneratedScenes(240, 320, seed=4, photographs=False, camera=False)[2]
    left, right = (view.permute(1, 2, 0).numpy() for view in (scene.left, scene.right))
    lower = np.concatenate((right[:1], right[:1], right[:-2]))
    matcher = StereoMatcher.from_pretrained()

    def wrong(result):
        seen = scene.valid & ~scene.occluded
        seen[-4:] = False  # rows that the lowered view lacks
        return bad_n(torch.from_numpy(result.disparity), scene.disparity, seen, 2).item()

    before = wrong(matcher(left, right))
    told = r"right view isn't aligned .* by \+(1\.9|2\.0) px in its centre"
    with pytest.warns(MisalignedRowsWarning, match=told):
        assert wrong(matcher(left, lower)) < before + 0.5
    matcher.scales = Scales(matcher.scales.least_pixels)
    assert wrong(matcher(left, lower)) > before + 25
