import itertools

import golden_mask
import pytest
import torch
import torch.nn.functional as F

from stereo_tr.datasets.panoptic_sample import PanopticSample
from stereo_tr.mask.assignment import (
    MaskTargets,
    QueryTargets,
    dice,
    mask_targets,
    match,
    void_share,
)
from stereo_tr.mask.losses import (
    MaskLosses,
    draw_pixels,
    instance_discrimination,
    losses_of_targets,
    mask_losses,
)
from stereo_tr.mask.output import MaskOutput, MaskPrediction

KMAX = {
    "class": ("loss_ce", 3.0),
    "mask": ("loss_dice", 3.0),
    "mask_id": ("loss_mask", 0.3),
    "contrast": ("loss_pixel_insdis", 1.0),
    "semantic": ("loss_aux_semantic", 1.0),
}
MAX = {
    "class": "pq_style_loss_class_term",
    "mask": "pq_style_loss_mask_dice_term",
    "mask_id": "mask_id_cross_entropy_loss",
    "contrast": "instance_discrimination_loss",
    "semantic": "semantic_loss",
}


def kmax():
    """The published PyTorch port's criterion: predictions that learn, and targets."""
    _, tensors = golden_mask.read("kmax_criterion")
    names = ("pred_logits", "pred_masks", "pixel_feature", "aux_semantic_pred")
    learned = {name: tensors[f"in/{name}"].requires_grad_() for name in names}
    output = MaskOutput(
        MaskPrediction(learned["pred_logits"], learned["pred_masks"]),
        (MaskPrediction(tensors["in/aux0/pred_logits"], tensors["in/aux0/pred_masks"]),),
        learned["aux_semantic_pred"],
        learned["pixel_feature"],
        (),
        (tensors["in/aux0/pixel_feature"],),
    )
    masks = torch.zeros(2, 5, 12, 14)
    classes = torch.full((2, 5), -1)
    for b in range(2):
        there = len(tensors[f"in/b{b}/labels"])
        masks[b, :there] = tensors[f"in/b{b}/masks"]
        classes[b, :there] = tensors[f"in/b{b}/labels"]
    semantic = torch.stack([tensors["in/b0/semantic"], tensors["in/b1/semantic"]])
    return tensors, learned, output, MaskTargets(masks, classes), semantic


@pytest.mark.parametrize(("kind", "sampled"), [("all", None), ("k40", 40)])
def test_losses_and_gradients_are_those_of_kmax(monkeypatch, kind, sampled):
    tensors, learned, output, targets, semantic = kmax()
    noise = iter([tensors[f"noise/call{call}"] for call in range(3)])
    monkeypatch.setattr(torch, "rand", lambda *_, **__: next(noise))
    losses = losses_of_targets(output, targets, semantic, MaskLosses(sampled_pixels=sampled))
    for name, (published, weight) in KMAX.items():
        torch.testing.assert_close(losses[name], weight * tensors[f"loss_{kind}/{published}"])
        if name != "semantic":
            expected = weight * tensors[f"loss_{kind}/{published}_0"]
            torch.testing.assert_close(losses[f"layers_{name}"], expected)
    total = sum(losses.values())
    torch.testing.assert_close(total, tensors[f"loss_{kind}/TOTAL_weighted"])
    total.backward()
    for name, tensor in learned.items():
        expected = tensors[f"grad_{kind}/{name}"]
        torch.testing.assert_close(tensor.grad, expected, rtol=1e-4, atol=1e-7)


def test_matching_and_what_queries_are_asked_for_are_those_of_kmax():
    tensors, _, output, targets, _ = kmax()
    asked = match(output.final, targets)
    assert torch.equal(asked.classes, tensors["processed/labels"])
    weight = tensors["processed/pq_loss_class_weight"]
    torch.testing.assert_close(asked.class_weight, weight)
    torch.testing.assert_close(asked.mask_weight, tensors["processed/pq_loss_mask_weight"])
    assert torch.equal(asked.void, tensors["processed/pixel_gt_void_mask"])
    area = asked.area.clamp(min=1)
    torch.testing.assert_close(12 * 14 / area, tensors["processed/inverse_gt_mask_area"])
    for b in range(2):
        pairs = torch.stack([tensors[f"match/b{b}/pred"], tensors[f"match/b{b}/gt"]], 1)
        for query, truth in pairs.tolist():
            assert torch.equal(asked.masks[b, query], targets.masks[b, truth])


def test_losses_and_gradients_are_those_of_max_deeplab():
    _, tensors = golden_mask.read("maxdeeplab_loss_contrastive_allpixels")
    names = {
        "pixel_space_normalized_feature": (0, 3, 1, 2),
        "pixel_space_mask_logits": (0, 3, 1, 2),
        "transformer_class_logits": (0, 1, 2),
        "semantic_logits": (0, 3, 1, 2),
    }
    learned = {name: tensors[f"in/{name}"].requires_grad_() for name in names}
    features, masks, classes, semantic = (x.permute(names[n]) for n, x in learned.items())
    # Things are numbered already; stuff classes follow as segments of their own.
    things, labels = tensors["in/thing_id"], tensors["in/semantic"]
    segment_map = torch.where(things >= 0, things + 1, 0)
    for number, stuff in ((5, 3), (6, 4)):
        segment_map[labels == stuff] = number
    of_thing = tensors["in/thing_class"].long()
    listed = torch.cat([of_thing, torch.tensor([[3, 4]] * 2)], dim=1)
    for image in range(2):
        sample = PanopticSample(
            torch.zeros(1, 3, 9, 13), segment_map[[image]].int(), listed[[image]], ["golden"]
        )
        output = MaskOutput(
            MaskPrediction(classes[[image]], masks[[image]]),
            (),
            semantic[[image]],
            features[[image]],
        )
        losses = mask_losses(output, sample, MaskLosses(sampled_pixels=None))
        for name, published in MAX.items():
            torch.testing.assert_close(losses[name], tensors[f"out/{published}"][image])
        # TensorFlow takes for granted that what softmax is compared with sums to one: in void,
        # where the loss is zero, its gradient is softmax nevertheless. Ours is the loss's own.
        alike = torch.einsum("bchw,bcyx->bhwyx", *[features[[image]]] * 2).reshape(9 * 13, -1) / 0.3
        void = labels[image].flatten() == 255
        extra = alike[void].logsumexp(-1).sum() / (~void).sum()
        ((sum(losses.values()) + extra) / 2).backward()
    for name, tensor in learned.items():
        torch.testing.assert_close(tensor.grad, tensors[f"grad/{name}"], rtol=1e-4, atol=1e-6)


def test_dice_and_the_share_on_void_are_those_of_max_deeplab():
    _, tensors = golden_mask.read("mask_similarity")
    truth, guess = tensors["in/gt"].mT, tensors["in/pred"].mT
    torch.testing.assert_close(dice(guess, truth).mT, tensors["out/dice"])
    expected = tensors["out/intersection_over_prediction"]
    for number in range(4):
        void = truth[:, number].view(2, 5, 6) > 0
        share = void_share(guess.view(2, 6, 5, 6), void)
        torch.testing.assert_close(share, expected[:, number])


def random_scene(queries=6, masks=3, classes=4, size=(5, 7)):
    torch.manual_seed(3)
    segment_map = torch.randint(0, masks + 1, (2, *size), dtype=torch.int32)
    sample = PanopticSample(
        torch.rand(2, 3, *size), segment_map, torch.randint(0, classes, (2, masks)), ["a", "b"]
    )
    prediction = MaskPrediction(
        torch.randn(2, queries, classes + 1), torch.randn(2, queries, *size)
    )
    return sample, prediction


@pytest.mark.parametrize("queries", [6, 2])
def test_no_other_pairing_has_a_larger_sum(queries):
    """Also with fewer queries than masks."""
    sample, prediction = random_scene(queries)
    targets = mask_targets(sample, (5, 7), 4)
    asked = match(prediction, targets)
    probability = prediction.class_logits.double().softmax(-1)
    for b in range(2):
        labelled = sample.segment_map[b] > 0
        guess = prediction.mask_logits[b].double().softmax(0) * labelled
        score = torch.zeros(queries, 3, dtype=torch.float64)
        for q in range(queries):
            for n in range(3):
                truth = sample.segment_map[b] == n + 1
                shared = float(guess[q][truth].sum())
                overlap = 2 * shared / float(guess[q].sum() + truth.sum() + 2e-5)
                score[q, n] = overlap * probability[b, q, sample.classes[b, n]]
        few = min(queries, 3)
        best = max(
            sum(float(score[q, n]) for q, n in zip(some, chosen, strict=True))
            for some in itertools.permutations(range(queries), few)
            for chosen in itertools.combinations(range(3), few)
        )
        found = sum(
            float(score[q, n])
            for q in range(queries)
            for n in range(3)
            if torch.equal(asked.masks[b, q], targets.masks[b, n])
        )
        assert found == pytest.approx(best, rel=1e-6)


def test_instance_discrimination_is_the_definition():
    sample, prediction = random_scene()
    sample = sample._replace(classes=torch.tensor([[0, 2, 1], [2, 0, 3]]))
    asked = match(prediction, mask_targets(sample, (5, 7), 4))
    features = F.normalize(torch.randn(2, 8, 5, 7), dim=1)
    losses = MaskLosses(contrast="masks", things=frozenset({0, 1}))
    found = instance_discrimination(features, asked, losses)
    for b in range(2):
        numbers, terms = sample.segment_map[b], []
        means = [features[b][:, numbers == n].mean(1) for n in (1, 2, 3)]
        means = torch.stack([mean / mean.norm() for mean in means]).double()
        for y, x in itertools.product(range(5), range(7)):
            n = int(numbers[y, x])
            if n and int(sample.classes[b, n - 1]) in (0, 1):
                alike = means @ features[b, :, y, x].double() / 0.3
                terms.append(alike.exp().sum().log() - alike[n - 1])
        torch.testing.assert_close(found[b].double(), torch.stack(terms).mean())


def test_queries_without_a_partner_learn_to_be_no_object_where_nothing_is_void():
    """Written out: with `idle_weight` they count, as published they count for next to nothing."""
    masks = torch.zeros(1, 2, 4, 6)
    masks[0, 0, :, :2], masks[0, 1, :, 2:] = 1, 1
    targets = MaskTargets(masks, torch.tensor([[2, 0]]))
    mask_logits = torch.full((1, 5, 4, 6), -9.0)
    mask_logits[0, 1, :, :2], mask_logits[0, 3, :, 2:] = 9, 9  # partners: queries 1 and 3
    class_logits = torch.randn(1, 5, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    output = MaskOutput(MaskPrediction(class_logits, mask_logits))
    surprise = -class_logits[0].log_softmax(1)
    with_partner = 0.75 * (surprise[1, 2] + surprise[3, 0])  # their Dice is 1
    without = 0.25 * surprise[[0, 2, 4], 3].sum()
    for weight in (1e-5, 0.3):
        losses = losses_of_targets(output, targets, None, MaskLosses(idle_weight=weight))
        expected = 3 * (with_partner + weight * without) / 5
        torch.testing.assert_close(losses["class"], expected, rtol=1e-4, atol=1e-6)
    balanced = MaskLosses(idle_weight=0.3, class_balance=(2.0, 1.0, 5.0))
    expected = 3 * (0.75 * (5 * surprise[1, 2] + 2 * surprise[3, 0]) + 0.3 * without) / 5
    losses = losses_of_targets(output, targets, None, balanced)
    torch.testing.assert_close(losses["class"], expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="class_balance has 2 numbers for 3 classes"):
        losses_of_targets(output, targets, None, MaskLosses(class_balance=(2.0, 1.0)))


def test_small_masks_are_drawn_more_often():
    """With all pixels of one mask of 4 among 32: weights 8 ** 1.5 to (32 / 28) ** 1.5."""
    segment_map = torch.full((1, 4, 8), 1, dtype=torch.int32)
    segment_map[0, 0, :4] = 2
    sample = PanopticSample(torch.zeros(1, 3, 4, 8), segment_map, torch.tensor([[0, 1]]), ["a"])
    _, prediction = random_scene(queries=2, size=(4, 8))
    asked = match(
        MaskPrediction(prediction.class_logits[:1], prediction.mask_logits[:1]),
        mask_targets(sample, (4, 8), 4),
    )
    torch.manual_seed(0)
    many = QueryTargets(*(x.expand(4000, *x.shape[1:]) for x in asked))
    drawn = draw_pixels(many, (4, 8), 1.5, MaskLosses(sampled_pixels=1))
    share = float((drawn < 4).float().mean())
    small, large = 4 * 8**1.5, 28 * (32 / 28) ** 1.5
    assert share == pytest.approx(small / (small + large), abs=0.03)


def test_targets_are_taken_where_the_features_lie():
    """Even widths: blocks; odd widths: corner on corner. A segment nobody sees is left out."""
    even = torch.arange(1, 17, dtype=torch.int32).view(1, 2, 8)
    sample = PanopticSample(torch.zeros(1, 3, 2, 8), even, torch.arange(16)[None] % 3, ["a"])
    targets = mask_targets(sample, (1, 2), 3)
    assert (targets.classes >= 0).nonzero()[:, 1].tolist() == [8 + 2, 8 + 6]
    odd = torch.arange(1, 46, dtype=torch.int32).view(1, 5, 9)
    sample = PanopticSample(torch.zeros(1, 3, 5, 9), odd, torch.arange(45)[None] % 3, ["a"])
    targets = mask_targets(sample, (2, 3), 3)
    assert (targets.classes >= 0).nonzero()[:, 1].tolist() == [0, 4, 8, 36, 40, 44]
