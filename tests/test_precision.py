import graphs
import pytest
import torch
import torch.nn.functional as F

from stereo_tr.devices import autocast
from stereo_tr.matcher import StereoMatcher
from stereo_tr.stereo import model as model_file
from stereo_tr.stereo.scales import Scales


def test_what_needs_float32_keeps_it(monkeypatch):
    """Seen from inside: scores of the transport, places that are sampled, disparities averaged."""
    seen = {}

    def spy(owner, name):
        original = getattr(owner, name)

        def watched(first, second, *rest, **keywords):
            seen.setdefault(name, set()).update((first.dtype, second.dtype))
            return original(first, second, *rest, **keywords)

        monkeypatch.setattr(owner, name, watched)

    spy(model_file, "optimal_transport")
    spy(F, "embedding")  # picks the columns that are compared
    matcher = StereoMatcher(graphs.tiny("cstr_small"), scales=Scales(), precision="bf16")
    inside = []
    matcher.model.features.register_forward_hook(lambda *call: inside.append(call[2].half.dtype))
    views = torch.rand(2, 33, 47, 3).numpy()
    result = matcher(*views)
    assert inside == [torch.bfloat16] * 2  # one view after the other
    assert seen == {"optimal_transport": {torch.float32}, "embedding": {torch.int64, torch.float32}}
    # Parts of a pixel survive: bfloat16 has 8 bits for all of it.
    disparity = torch.from_numpy(result.disparity)
    assert (disparity != disparity.bfloat16().float()).float().mean() > 0.5


def test_float32_is_untouched():
    model = graphs.tiny("cstr_small")
    views = torch.rand(2, 33, 47, 3).numpy()
    plain = StereoMatcher(model, scales=Scales())(*views)
    with torch.inference_mode():
        expected = model(*(torch.from_numpy(view).permute(2, 0, 1)[None] for view in views))
    assert (plain.disparity == expected.disparity[0].numpy()).all()


@pytest.mark.parametrize(
    ("precision", "message"),
    [("fp16", "fp16 is for CUDA, not for cpu"), ("half", "allowed are float32, bf16, fp16")],
)
def test_precisions_that_cannot_be_had(precision, message):
    with pytest.raises(ValueError, match=message):
        autocast(torch.device("cpu"), precision)
    with pytest.raises(ValueError, match=message):
        StereoMatcher.from_pretrained(precision=precision)
