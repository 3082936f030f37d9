"""Stages beside the model's own output, and places worked out by hand."""

import pytest
import torch

from stereo_tr import create_model
from stereo_tr.matcher import StereoMatcher
from stereo_tr.scripts.evaluate import Evaluate, evaluate, main
from stereo_tr.scripts.stages import STAGES, StageRecorder
from stereo_tr.stereo.scales import Scales

SMALL = {"data": "generated", "count": 1, "height": 44, "width": 70}


@pytest.fixture(scope="module")
def seen():
    """A recorder and what a small model said of one pair, 45x71 px, looked at once."""
    torch.manual_seed(0)
    model = create_model("cstr_small", layers=1).eval()
    recorder = StageRecorder(model)
    with torch.inference_mode():
        output = model(*torch.rand(2, 1, 3, 45, 71))
    return recorder, output


def test_a_place_lies_on_its_pixel(seen):
    recorder, output = seen
    found = recorder.stages((45, 71))
    assert tuple(found) == STAGES
    details = output.details
    for name, map_, stride in (
        ("matched", details.match.disparity, 4),
        ("adjusted", details.adjusted.disparity, 4),
        ("half size", details.refined.half_disparity[0], 2),
        ("refined", details.refined.half_disparity[1], 2),
        ("full size", output.disparity, 1),
    ):
        own = found[name].disparity[::stride, ::stride]
        assert torch.equal(own, stride * map_[0, : own.shape[0], : own.shape[1]])
    # between two tokens, 4 px apart, the nearer one counts
    assert torch.equal(found["matched"].disparity[41], found["matched"].disparity[40])
    assert torch.equal(found["matched"].disparity[43], found["matched"].disparity[44])
    unmatched = details.match.unmatched[0, :12, :18]  # without the padding
    assert torch.equal(found["matched"].occluded[::4, ::4], unmatched > 0.5)


def test_disparities_grow_with_the_view(seen):
    """A look at half of the width has half of the disparities."""
    recorder, _ = seen
    large = recorder.stages((90, 142))
    for name, stage in recorder.stages((45, 71)).items():
        assert torch.equal(large[name].disparity[::2, ::2], 2 * stage.disparity)


def test_every_stage_is_scored():
    """The last one is what the model says where it is asked once."""
    scores = evaluate(Evaluate(**SMALL, stages=True, one_scale=True))
    rows = {row.method: row for row in scores.images}
    assert list(rows) == ["cstr_small", *(f"cstr_small: {stage}" for stage in STAGES)]
    whole = rows.pop("cstr_small")
    assert rows["cstr_small: full size"].all == whole.all
    assert rows["cstr_small: coarse look"].all == whole.all  # the only look is the first
    assert rows["cstr_small: matched"].all != whole.all


def test_the_first_look_and_the_last_one_differ():
    matcher = StereoMatcher.from_pretrained()
    assert matcher.scales != Scales()
    recorder = StageRecorder(matcher.model)
    left, right = (view.numpy() for view in torch.rand(2, 40, 60, 3))
    for _ in range(2):
        recorder.clear()
        matcher(left, right)
        assert len(recorder.looks) == 2
        first, last = recorder.looks
        assert first.disparity.shape[-1] < last.disparity.shape[-1]


def test_other_models_have_other_stages(capsys):
    with pytest.raises(ValueError, match="cstr_small"):
        StageRecorder(torch.nn.Identity())
    with pytest.raises(SystemExit) as stop:
        main(["--data", "generated", "--peer", "sgbm", "--peer-only", "--stages"])
    assert stop.value.code == 2
    assert "--stages" in capsys.readouterr().err
