import json

import golden_mask
import pytest
import torch

from stereo_tr.mask.output import MaskOutput, MaskPrediction
from stereo_tr.mask.panoptic import RULES, Rules, merge, rules_for, segment, semantic_probabilities

KMAX = [
    Rules("masks", 0.7, 0.5, 0.4, 0.8),
    Rules("masks", 0.5, 0.3, 0.4, 0.9, 1, 0),
    Rules("masks", 0.2, 0.2, 0.3, 0.5),
    Rules("masks", 0.99, 0.99, 0.4, 0.8),
]
MAX_DEEPLAB = [
    Rules("pixels", 0.3, 0.3, 0.4),
    Rules("pixels", 0.5, 0.5, 0.4, smallest_thing=30, smallest_stuff=60),
    Rules("masks", 0.5, 0.3, 0.4, 0.8),
    Rules("masks", 0.2, 0.2, 0.3, 0.5, 1, 0, smallest_thing=30, smallest_stuff=60),
]


@pytest.mark.parametrize("case", range(4))
def test_merging_by_masks_is_that_of_kmax(case):
    config, tensors = golden_mask.read("kmax_panoptic_inference")
    prediction = MaskPrediction(tensors["in/cls"], tensors["in/mask"])
    result = merge(prediction, (24, 30), config["thing_classes"], KMAX[case])
    assert torch.equal(result.segment_map, tensors[f"out/case{case}/seg"])
    expected = json.loads(config[f"out/case{case}/info"])
    found = [
        {"id": s.number, "isthing": s.thing, "category_id": s.category} for s in result.segments
    ]
    assert found == expected
    for s in result.segments:
        assert s.area == int((result.segment_map == s.number).sum())


def test_semantic_probabilities_are_those_of_kmax():
    _, tensors = golden_mask.read("kmax_panoptic_inference")
    prediction = MaskPrediction(tensors["in/cls"], tensors["in/mask"])
    torch.testing.assert_close(
        semantic_probabilities(prediction, (24, 30)), tensors["out/semantic"]
    )


@pytest.mark.parametrize("case", range(4))
def test_merging_is_that_of_max_deeplab(case):
    """Their thing segments are class * 1000 + number, with the numbers of the queries."""
    config, tensors = golden_mask.read("maxdeeplab_postprocess")
    classes, masks = tensors["in/class_logits"], tensors["in/mask_logits"].permute(0, 3, 1, 2)
    output = MaskOutput(MaskPrediction(classes, masks))
    (result,) = segment(output, tuple(config["image"]), config["thing"], MAX_DEEPLAB[case])
    expected = tensors[f"out/case{case}/panoptic"][0, 0]
    void = config["void"] * config["divisor"]
    assert torch.equal(result.segment_map == 0, expected == void)
    named = {int(label) for label in expected.unique()} - {void}
    assert len(result.segments) == len(named)
    for s in result.segments:
        (label,) = expected[result.segment_map == s.number].unique().tolist()
        assert label // config["divisor"] == s.category
        assert (label % config["divisor"] > 0) == s.thing == (s.category in config["thing"])


def test_every_rule_has_a_name_and_an_unknown_one_gets_a_hint():
    assert rules_for("coco") is RULES["coco"]
    with pytest.raises(ValueError, match="did you mean cityscapes"):
        rules_for("cityscape")


@pytest.mark.parametrize("name", RULES)
def test_nothing_that_is_sure_leaves_everything_void(name):
    prediction = MaskPrediction(torch.zeros(3, 5), torch.zeros(3, 2, 4))
    result = merge(prediction, (9, 7), {0}, rules_for(name))
    assert not result.segment_map.any() and not result.segments
