import golden_mask
import pytest
import torch
from torchmetrics.detection import PanopticQuality

from stereo_tr.mask.panoptic_quality import panoptic_counts, panoptic_quality, summary


def numbered(labels, divisor, ignored):
    """Segment map and classes of a map of class * divisor + instance."""
    found, place = labels.unique(return_inverse=True)
    classes = found.div(divisor, rounding_mode="floor")
    kept = classes != ignored
    numbers = torch.where(kept, kept.cumsum(0), 0)
    return numbers[place].int(), classes[kept].long()


def test_counts_are_those_of_deeplab2():
    config, tensors = golden_mask.read("panoptic_quality")
    ignored, divisor = config["ignored_label"], config["divisor"]
    counts = torch.zeros(4, 5, dtype=torch.float64)
    for image in range(3):
        guess = numbered(tensors[f"in/pred{image}"], divisor, ignored)
        truth = numbered(tensors[f"in/gt{image}"], divisor, ignored)
        counts += panoptic_counts(*guess, *truth, num_classes=5)
    for row, name in zip(counts, ("tp", "fp", "fn", "iou"), strict=True):
        torch.testing.assert_close(row, tensors[f"out/{name}"].double(), rtol=1e-6, atol=1e-6)
    scores = summary(counts, {0, 1})
    pq, sq, rq = tensors["out/result"][:3].tolist()
    assert scores["pq"] == pytest.approx(pq, rel=1e-6)
    assert scores["sq"] == pytest.approx(sq, rel=1e-6)
    assert scores["rq"] == pytest.approx(rq, rel=1e-6)


def test_scores_are_those_of_torchmetrics():
    """Random maps of three things and two stuff classes; a part of the truth is void.

    Every pixel is guessed: torchmetrics takes guessed void out of the union as well, which neither
    the paper nor COCO's own tool does.
    """
    torch.manual_seed(5)
    things, stuff, void = {0, 1, 3}, {2, 4}, 9
    metric = PanopticQuality(
        things,
        stuff,
        allow_unknown_preds_category=True,
        return_sq_and_rq=True,
        return_per_class=True,
    )
    counts = torch.zeros(4, 5, dtype=torch.float64)
    for _ in range(4):
        truth = torch.stack([torch.randint(0, 6, (6, 5)), torch.randint(0, 3, (6, 5))], -1)
        truth = truth.repeat_interleave(7, 0).repeat_interleave(9, 1)
        guess = truth.roll((2, 1), (0, 1)).clone()
        wrong = torch.rand(6, 5).repeat_interleave(7, 0).repeat_interleave(9, 1) < 0.3
        guess[wrong] = torch.tensor([1, 7])
        guess[guess[..., 0] == 5] = torch.tensor([3, 8])
        truth[truth[..., 0] == 5] = torch.tensor([void, 0])
        for labels in (truth, guess):  # all there is of a stuff class is one segment
            labels[..., 1][(labels[..., 0] == 2) | (labels[..., 0] == 4)] = 0
        metric.update(guess[None], truth[None])
        maps = [
            numbered(labels[..., 0] * 10 + labels[..., 1], 10, void) for labels in (guess, truth)
        ]
        counts += panoptic_counts(*maps[0], *maps[1], num_classes=5)
    order = [*sorted(things), *sorted(stuff)]
    ours = torch.stack(panoptic_quality(counts), -1)[order]
    torch.testing.assert_close(ours, metric.compute().double(), rtol=1e-6, atol=1e-6)
    assert 0.1 < summary(counts, things)["pq"] < 0.9


def test_worked_out_by_hand():
    """A thing found with IoU 3/4, one missed, one guess on void, one wrong; stuff found whole."""
    truth = torch.tensor([[1, 1, 1, 1, 2, 2, 0, 0, 3, 3]], dtype=torch.int32)
    guess = torch.tensor([[1, 1, 1, 0, 0, 4, 2, 2, 3, 3]], dtype=torch.int32)
    counts = panoptic_counts(
        guess, torch.tensor([0, 0, 2, 1]), truth, torch.tensor([0, 0, 2, -1]), num_classes=4
    )
    assert counts.tolist() == [[1, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0.75, 0, 1, 0]]
    quality = panoptic_quality(counts)
    expected = torch.tensor([0.75 / 1.5, 0, 1, torch.nan], dtype=torch.float64)
    torch.testing.assert_close(quality.pq, expected, equal_nan=True)
    scores = summary(counts, {0, 1, 3})
    assert scores["pq"] == pytest.approx((0.5 + 0 + 1) / 3)
    assert scores["pq_things"] == pytest.approx(0.25)
    assert scores["sq_stuff"] == 1


def test_an_image_without_segments_counts_nothing():
    nothing, none = torch.zeros(3, 4, dtype=torch.int32), torch.zeros(0, dtype=torch.int64)
    counts = panoptic_counts(nothing, none, nothing, none, num_classes=2)
    assert not counts.any()
    assert all(value != value for value in summary(counts, {0}).values())
