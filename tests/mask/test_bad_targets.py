"""Images that are hard or wrong: each trains, or fails with a sentence; no NaN, ever."""

import pytest
import torch
import torch.nn.functional as F

from stereo_tr.datasets.panoptic_sample import PanopticSample
from stereo_tr.mask.assignment import MaskTargets
from stereo_tr.mask.losses import MaskLosses, losses_of_targets, mask_losses
from stereo_tr.mask.output import MaskOutput, MaskPrediction

SIZE, QUERIES, CLASSES = (6, 8), 3, 4


def output(batch=1, scale=1.0):
    torch.manual_seed(1)
    learned = [
        scale * torch.randn(batch, QUERIES, CLASSES + 1),
        scale * torch.randn(batch, QUERIES, *SIZE),
        torch.randn(batch, CLASSES, *SIZE),
        torch.randn(batch, 5, *SIZE),
    ]
    learned = [x.requires_grad_() for x in learned]
    classes, masks, semantic, features = learned
    smaller = F.avg_pool2d(masks, 2)
    features = F.normalize(features, dim=1)
    return learned, MaskOutput(
        MaskPrediction(classes, masks),
        (MaskPrediction(classes, smaller),),
        semantic,
        features,
        (),
        (F.avg_pool2d(features, 2),),
    )


def sample(segment_map, classes):
    segment_map = torch.as_tensor(segment_map, dtype=torch.int32)
    classes = torch.as_tensor(classes, dtype=torch.int64)
    return PanopticSample(torch.zeros(1, 3, *SIZE), segment_map[None], classes[None], ["street_7"])


def one_pixel():
    numbers = torch.zeros(SIZE)
    numbers[2, 3] = 1
    return numbers


HARD = {
    "no object": (torch.zeros(SIZE), []),
    "all void, with a list": (torch.zeros(SIZE), [-1, -1]),
    "more objects than queries": (torch.arange(48).view(SIZE) // 6 + 1, [0, 1, 2, 3, 0, 1, 2, 3]),
    "one pixel": (one_pixel(), [2]),
    "one object everywhere": (torch.ones(SIZE), [1]),
    "an object that nobody sees": (torch.ones(SIZE), [1, 3]),
}


def check_finite(losses, learned):
    assert all(bool(x.isfinite() & (x >= 0)) for x in losses.values())
    sum(losses.values()).backward()
    assert all(bool(x.grad.isfinite().all()) for x in learned)


@pytest.mark.parametrize("contrast", ["pixels", "masks"])
@pytest.mark.parametrize("sampled", [None, 7])
@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("case", HARD)
def test_hard_images_train(case, contrast, sampled, scale):
    """With logits of 10,000 too, where probabilities are exactly 0 and 1."""
    learned, predicted = output(scale=scale)
    settings = MaskLosses(contrast=contrast, sampled_pixels=sampled, things=frozenset({0, 2}))
    check_finite(mask_losses(predicted, sample(*HARD[case]), settings), learned)


def test_an_image_without_objects_asks_for_no_object_alone():
    _, predicted = output()
    losses = mask_losses(predicted, sample(torch.zeros(SIZE), []))
    assert {name for name, value in losses.items() if value != 0} == {"class", "layers_class"}


def test_masks_that_overlap_share_their_pixels():
    learned, predicted = output()
    masks = torch.zeros(1, 2, *SIZE)
    masks[0, 0, :, :5] = 1
    masks[0, 1, :, 3:] = 1
    semantic = torch.zeros(1, *SIZE, dtype=torch.int64)
    targets = MaskTargets(masks, torch.tensor([[0, 2]]))
    check_finite(losses_of_targets(predicted, targets, semantic), learned)


@pytest.mark.parametrize(
    ("numbers", "classes", "says"),
    [
        (
            torch.ones(SIZE),
            [4],
            "street_7: class 4 is out of range; this model has 4 classes, 0 to 3",
        ),
        (torch.ones(SIZE), [-2], "street_7: class -2 is out of range"),
        (torch.full(SIZE, 2), [1], "segment numbers run from 2 to 2, but 1 segments have a class"),
        (torch.full(SIZE, -1), [1], "segment numbers run from -1 to -1"),
        (torch.ones(SIZE), [-1], "street_7: segment 1 has no class"),
    ],
)
def test_wrong_targets_are_named(numbers, classes, says):
    _, predicted = output()
    with pytest.raises(ValueError, match=says):
        mask_losses(predicted, sample(numbers, classes))


def test_half_precision_around_the_losses_changes_nothing():
    _, predicted = output()
    case, settings = sample(*HARD["one pixel"]), MaskLosses(sampled_pixels=None)
    expected = mask_losses(predicted, case, settings)
    with torch.autocast("cpu", torch.bfloat16):
        found = mask_losses(predicted, case, settings)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_prediction_that_is_not_finite_shows_in_the_loss_not_in_the_matching():
    _, predicted = output()
    broken = predicted.final.mask_logits * torch.inf
    predicted = predicted._replace(final=MaskPrediction(predicted.final.class_logits, broken))
    losses = mask_losses(predicted, sample(*HARD["one object everywhere"]))
    assert not sum(losses.values()).isfinite()
