"""Generated scenes: the truth warps right to left, both views agree, only the seed counts."""

import pickle
import random
import sys

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from stereo_tr.datasets import generated
from stereo_tr.datasets.generated import CLASSES, GeneratedScene, GeneratedScenes
from stereo_tr.datasets.scene_layout import WIDE

HEIGHT, WIDTH = 93, 187
SCENES = range(8)


@pytest.fixture
def few_textures(monkeypatch):
    """Paint everything with 6 of the 96 colour tiles: it is making them that takes time."""
    monkeypatch.setattr(generated, "COLOUR_TILES", 6)


@pytest.fixture(scope="module")
def scenes() -> list[GeneratedScene]:
    """Without camera differences; odd sizes."""
    clean = GeneratedScenes(HEIGHT, WIDTH, photographs=False, camera=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generated, "COLOUR_TILES", 6)
        return [clean.scene(index) for index in SCENES]


def columns_and_rows():
    return np.meshgrid(np.arange(WIDTH, dtype=np.float32), np.arange(HEIGHT, dtype=np.float32))


def sampled(values: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Linear interpolation along rows, in float64."""
    before = np.clip(np.floor(x).astype(int), 0, WIDTH - 2)
    rows = np.arange(HEIGHT)[:, None]
    share = np.clip(x - before, 0, 1)
    return values[rows, before] * (1 - share) + values[rows, before + 1] * share


def agreement(values: np.ndarray, own: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Whether both pixels beside x hold the pixel's own value: away from edges."""
    before = np.clip(np.floor(x).astype(int), 0, WIDTH - 2)
    rows = np.arange(HEIGHT)[:, None]
    return (values[rows, before] == own) & (values[rows, before + 1] == own)


def test_the_truth_warps_the_right_view_onto_the_left(scenes):
    x, y = columns_and_rows()
    error, off_by_one = [], []
    for scene in scenes:
        right = scene.clean_right.permute(1, 2, 0).numpy() * 255
        left = scene.clean_left.permute(1, 2, 0).numpy() * 255
        visible = ~scene.sample.occluded.numpy()
        for errors, extra in ((error, 0), (off_by_one, 1)):
            where = x - scene.sample.disparity.numpy() - extra
            warped = cv2.remap(right, where, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
            errors.append(np.abs(warped - left).mean(2)[visible])
    # textures are as fine as a pixel, so even exact truth leaves what interpolation loses
    assert np.median(np.concatenate(error)) < 0.5  # of 255
    assert np.median(np.concatenate(off_by_one)) > 4 * np.median(np.concatenate(error))


def test_both_disparities_agree_where_both_cameras_see(scenes):
    x, _ = columns_and_rows()
    for scene in scenes:
        s = scene.sample
        left, right = s.disparity.double().numpy(), s.right_disparity.double().numpy()
        views = (
            (left, right, s.occluded, -1, scene.objects, scene.classes, scene.right_objects),
            (
                right,
                left,
                s.right_occluded,
                1,
                scene.right_objects,
                scene.right_classes,
                scene.objects,
            ),
        )
        for own, other, hidden, sign, number, kind, other_number in views:
            occluded = hidden.numpy()
            partner = x + sign * own
            inside = (partner >= 0) & (partner <= WIDTH - 1)
            assert occluded[~inside].all()
            away = agreement(other_number.numpy(), number.numpy(), partner) & ~occluded
            away &= (kind != CLASSES.index("box")).numpy()  # whose faces meet within an object
            difference = np.abs(sampled(other, partner) - own)[away]
            assert away.sum() > 0.2 * away.size
            assert np.quantile(difference, 0.99) < 0.02  # curves bend between pixels
            # nothing nearer stands in between where a pixel says that it is seen
            assert (sampled(other, partner)[away] - own[away] < 2).all()


def test_occluded_pixels_have_something_nearer_before_them(scenes):
    x, _ = columns_and_rows()
    total = unexplained = 0
    for scene in scenes:
        s = scene.sample
        partner = x - s.disparity.numpy()
        hidden = s.occluded.numpy() & (partner >= 0) & (partner <= WIDTH - 1)
        before = np.clip(np.floor(partner).astype(int), 0, WIDTH - 2)
        rows = np.arange(HEIGHT)[:, None]
        right = s.right_disparity.numpy()
        nearest = np.maximum(right[rows, before], right[rows, before + 1])
        total += hidden.sum()
        unexplained += (hidden & (nearest <= s.disparity.numpy())).sum()
    assert total > 1000
    assert unexplained == 0


def test_maps_of_objects_and_classes_agree_with_the_disparity(scenes):
    for scene in scenes:
        for objects, classes, disparity in (
            (scene.objects, scene.classes, scene.sample.disparity),
            (scene.right_objects, scene.right_classes, scene.sample.right_disparity),
        ):
            assert classes.min() >= 0
            assert classes.max() < len(CLASSES)
            assert ((objects == 0) == (classes == CLASSES.index("background"))).all()
            for number in objects.unique():
                assert classes[objects == number].unique().numel() == 1
            # a jump of disparity between neighbours is where an object ends, but for a box's faces
            jump = (disparity[:, 1:] - disparity[:, :-1]).abs() > 2
            within = objects[:, 1:] == objects[:, :-1]
            box = classes[:, 1:] == CLASSES.index("box")
            assert not (jump & within & ~box).any()


def test_disparity_is_positive_and_within_the_range(few_textures):
    low, high = 9.0, 21.0
    data = GeneratedScenes(64, 130, disparity_range=(low, high), photographs=False)
    largest = []
    for index in range(15):
        sample = data[index]
        assert sample.disparity.min() > 0
        assert sample.right_disparity.min() > 0
        assert max(sample.disparity.max(), sample.right_disparity.max()) < high + 1e-3
        assert sample.valid.all()
        assert sample.right_valid.all()
        largest.append(float(sample.disparity.max()))
    assert max(largest) > 0.8 * high
    assert min(largest) < 2 * low


def test_narrow_images_cut_the_range(few_textures):
    data = GeneratedScenes(31, 48, photographs=False)
    assert max(float(data[i].disparity.max()) for i in range(6)) <= WIDE * 48 + 1e-3


def same(one, two) -> bool:
    return all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
        for a, b in zip(one, two, strict=True)
    )


def test_only_seed_and_index_count():
    data = GeneratedScenes(40, 66, photographs=False)
    third = data[3]
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)
    torch.manual_seed(1)
    data[7]
    assert same(third, data[3])
    assert same(third, pickle.loads(pickle.dumps(data))[3])
    assert not same(third, data[4])
    assert not torch.equal(third.left, GeneratedScenes(40, 66, seed=5, photographs=False)[3].left)
    context = "spawn"  # as a forked worker would inherit the textures, and the threads of OpenCV
    loader = DataLoader(data, 2, sampler=[3, 4], num_workers=1, multiprocessing_context=context)
    (batch,) = loader
    assert torch.equal(batch.left[0], third.left)
    assert list(batch.name) == ["generated/0/3", "generated/0/4"]


def test_the_camera_changes_pictures_but_not_the_truth():
    with_camera = GeneratedScenes(45, 71, photographs=False).scene(1)
    without = GeneratedScenes(45, 71, photographs=False, camera=False).scene(1)
    assert torch.equal(with_camera.clean_left, without.clean_left)
    assert torch.equal(without.sample.left, without.clean_left)
    assert torch.equal(with_camera.sample.disparity, without.sample.disparity)
    assert not torch.equal(with_camera.sample.right, without.sample.right)
    for image in (with_camera.sample.left, with_camera.sample.right):
        assert image.dtype == torch.float32
        assert 0 <= image.min() <= image.max() <= 1


def test_photographs_need_scikit_image_and_nothing_else_does(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(ValueError, match=r"pip install 'stereo-tr\[train\]'; .* --no-photo"):
        GeneratedScenes(32, 64)
    assert GeneratedScenes(32, 64, photographs=False)[0].left.shape == (3, 32, 64)


def test_with_photographs():
    pytest.importorskip("skimage")
    sample = GeneratedScenes(33, 57)[2]
    assert sample.left.shape == sample.right.shape == (3, 33, 57)
    assert sample.disparity.shape == sample.right_occluded.shape == (33, 57)


@pytest.mark.parametrize("size", [(16, 16), (17, 300), (120, 19)])
def test_odd_sizes(size):
    scene = GeneratedScenes(*size, photographs=False).scene(5)
    assert scene.sample.left.shape == (3, *size)
    assert scene.objects.dtype == scene.classes.dtype == torch.int32
    assert scene.objects.shape == scene.right_classes.shape == size


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"height": 8, "width": 64}, "16x16"),
        ({"height": 32, "width": 64, "disparity_range": (9.0, 3.0)}, "low <= high"),
        ({"height": 32, "width": 64, "disparity_range": (0.0, 3.0)}, "1 <= low"),
        ({"height": 32, "width": 64, "seed": -1}, "seed must be >= 0"),
    ],
)
def test_what_cannot_be_made_is_refused(arguments, says):
    with pytest.raises(ValueError, match=says):
        GeneratedScenes(**arguments, photographs=False)


def test_it_has_a_length_and_ends_there():
    data = GeneratedScenes(32, 64, photographs=False, length=2)
    assert len(data) == 2
    assert len([*data]) == 2
    with pytest.raises(IndexError):
        data[-1]
