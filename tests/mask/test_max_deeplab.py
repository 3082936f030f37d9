import re
from functools import partial

import pytest
import torch
from authors import load, nchw, translate
from golden_vision import golden
from torch import nn

from stereo_tr.attention import recorded_weights
from stereo_tr.mask.max_deeplab import L_STEPS, MaXDeepLab, ResizedSum

CLOSE = {"rtol": 1e-4, "atol": 1e-4}
TINY = {
    "num_classes": 4,
    "num_queries": 6,
    "stem_widths": (8, 8, 16),
    "filters": (4, 8, 16, 32),
    "depths": (1, 1, 2, 1),
    "channels": 16,
    "layer_filters": 16,
    "feed_forward": 20,
    "global_channels": 12,
    "hidden": 10,
    "features": 6,
}
WIDE = TINY | {
    "filters": (4, 4, 8, 16, 16),
    "depths": (1, 1, 1, 2, 1),
    "convolution": "basic",
    "expansion": 4,
    "talk_from": 16,
    "extra": 0,
    "steps": [(stride, 1) for stride, _ in L_STEPS],
    "semantic_step": 1,
}


def test_the_sum_of_resized_maps_is_the_authors():
    config, weights, tensors = golden("resized_fuse")
    maps = [nchw(tensors[f"in/{name}"]) for name in "abc"]
    fuse = ResizedSum((20, 12, 6), (False, False, True), config["channels"], nn.GELU).eval()
    names = [
        (r"^fuse/(resized|strided)_conv_bn3/", "project.2/"),
        (r"^fuse/(resized|strided)_conv_bn1/", "project.0/"),
    ]
    load(fuse, translate(weights, names))
    out = fuse(maps, maps[1])
    torch.testing.assert_close(out, nchw(tensors["eval/out"]), rtol=2e-5, atol=2e-5)


def names_of_the_network():
    return (
        (r"^maxdeeplab_s_small_65/", ""),
        (r"^memory_feature$", "queries"),
        (r"^stem/conv(\d)_bn(_act)?/", lambda m: f"stem.{int(m[1]) - 1}/"),
        (
            r"^stage(\d)/block(\d)(_transformer)?/",
            lambda m: f"stages.{int(m[1]) - 2}.{KIND[m[3]]}.{int(m[2]) - 1}/",
        ),
        (r"^stage5_extra/block1(_transformer)?/", lambda m: f"extra.{KIND[m[1]]}.0/"),
        (r"^decoder_stage(\d)_extra/block1/", lambda m: f"decoder.{int(m[1]) - 1}.blocks.0/"),
        (
            r"^decoder_stage(\d)_extra_resized_fuse/resized_conv_bn1/",
            lambda m: f"sums.{int(m[1]) - 1}.project.0/",
        ),
        (r"^(class|mask)_feature_extra/", lambda m: f"of_{m[1]}{'e' * (m[1] == 'class')}s/"),
    )


KIND = {None: "blocks", "_transformer": "layers"}


@torch.no_grad()
def test_the_network_is_the_authors():
    _, weights, tensors = golden("maxdeeplab_s_small_65")
    model = MaXDeepLab(**TINY).eval()
    named = translate(weights, names_of_the_network())
    named["queries"] = named["queries"][0].T
    head = {name: value for name, value in model.state_dict().items() if name.startswith("head.")}
    load(model, named | head)  # the file has no head
    state, stages = model.encoded(nchw(tensors["in/x"]) / 2 + 0.5)
    assert len(stages) == 4
    for index, map_ in enumerate(stages):
        torch.testing.assert_close(map_, nchw(tensors[f"eval/stage{index + 2}"]), **CLOSE)
    state, finest = model.decoded(state, stages)
    torch.testing.assert_close(finest[-1].relu(), nchw(tensors["eval/feature_panoptic"]), **CLOSE)
    semantic = nchw(tensors["eval/feature_semantic"])
    torch.testing.assert_close(stages[-1].relu(), semantic, **CLOSE)
    for name in ("class", "mask"):
        project = getattr(model, {"class": "of_classes", "mask": "of_masks"}[name])
        theirs = tensors[f"eval/transformer_{name}_feature"]
        ours = project(state.queries)[:, :, 0].transpose(1, 2)
        torch.testing.assert_close(ours, theirs, **CLOSE)


@pytest.mark.parametrize("settings", [TINY, WIDE], ids=["s", "l"])
@pytest.mark.parametrize("size", [(66, 35), (5, 3)])
def test_any_size_and_a_batch_gives_what_its_images_give_alone(settings, size):
    model = MaXDeepLab(**settings).eval()
    images = torch.rand(2, 3, *size)
    with torch.no_grad():
        out = model(images)
        alone = torch.cat([model(image[None]).final.mask_logits for image in images])
    height, width = (-(-side // 4) for side in size)
    assert out.final.class_logits.shape == (2, 6, 5)
    assert out.final.mask_logits.shape == (2, 6, height, width)
    torch.testing.assert_close(out.final.mask_logits, alone, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("settings", [TINY, WIDE], ids=["s", "l"])
def test_it_trains_with_the_semantic_branch(settings):
    model = MaXDeepLab(**settings, semantic=True)
    with recorded_weights(model) as weights:
        out = model(torch.rand(2, 3, 64, 48))
    assert out.semantic_logits.shape == (2, 5, 16, 12)
    layers = [name for name in weights if re.search(r"layers\.\d+\.attention$", name)]
    assert len(layers) == len(out.assignments) == (2 if settings is TINY else 5)
    sum(x.mean() for x in (*out.final, out.semantic_logits)).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"interaction": "clustering"}, "'clustering'; known are cross, dual_cross, kmeans"),
        ({"num_classes": 0}, "num_classes=0, num_queries=6: at least 1"),
    ],
)
def test_bad_settings_say_so(wrong, message):
    with pytest.raises(ValueError, match=message):
        partial(MaXDeepLab, **TINY)(**wrong)
