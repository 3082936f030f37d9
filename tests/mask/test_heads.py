import importlib.util

import pytest
import torch
from authors import load, memory, nchw, translate
from golden_vision import FOLDER, golden
from torch import nn

from stereo_tr.mask.heads import MaskHead, SemanticBranch
from stereo_tr.mask.translation import SEMANTIC, renamed


def recipe():
    spec = importlib.util.spec_from_file_location("recipe", FOLDER / "recipe.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_mask_head_is_the_authors():
    _, weights, tensors = golden("maxdeeplab_head")
    head = MaskHead(20, 12, 6, activation=nn.ReLU, hidden=24, features=16).eval()
    load(head, translate(weights, [("^MaXDeepLab/", "")]))
    (classes, masks), features = head(
        nchw(tensors["in/feature_panoptic"]),
        memory(tensors["in/transformer_mask_feature"]),
        memory(tensors["in/transformer_class_feature"]),
    )
    close = {"rtol": 2e-5, "atol": 2e-5}
    torch.testing.assert_close(classes, tensors["eval/transformer_class_logits"], **close)
    torch.testing.assert_close(masks, nchw(tensors["eval/pixel_space_mask_logits"]), **close)
    normalised = nchw(tensors["eval/pixel_space_normalized_feature"])
    torch.testing.assert_close(features, normalised, **close)


def test_the_semantic_branch_is_the_authors():
    config, _, tensors = golden("kmax_aux_semantic_recipe")
    value = recipe().value
    weights = {
        name: torch.from_numpy(value(name, shape, config["seed"])).reshape(shape)
        for name, shape in config["names"].items()
    }
    branch = SemanticBranch((24, 12, 8), config["num_classes"]).eval()
    branch.load_state_dict(renamed(weights, SEMANTIC))
    out = branch(tensors["in/os32"], tensors["in/os8"], tensors["in/os4"])
    torch.testing.assert_close(out, tensors["eval/out"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(32, 48), (13, 27)])
def test_the_semantic_branch_takes_any_size(size):
    maps = [
        torch.rand(2, channels, *(-(-side // stride) for side in size))
        for channels, stride in ((6, 32), (5, 8), (4, 4))
    ]
    out = SemanticBranch((6, 5, 4), 7, hidden=8, low_level=(3, 2))(*maps)
    assert out.shape == (2, 7, *maps[-1].shape[2:])


def test_a_fresh_head_says_void():
    """With the prior's probability, whatever the number of classes."""
    classes = (
        MaskHead(4, 6, 19, hidden=8, features=5)
        .eval()(torch.rand(2, 4, 3, 7), torch.rand(2, 6, 1, 9), torch.zeros(2, 6, 1, 9))[0]
        .class_logits
    )
    void = classes.softmax(-1)[..., -1]
    assert void.flatten().tolist() == pytest.approx([0.9] * 18)
