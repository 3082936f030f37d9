"""The published names of the weights, one by one, as the facts list them."""

import re
from pathlib import Path

import pytest
import torch

from stereo_tr import create_model, load_weights

FACTS = Path(__file__).resolve().parents[2] / "../shared/facts/stereo.md"


def published_shapes(name):
    """Read the table of keys and shapes of one model from the facts."""
    if not FACTS.is_file():
        pytest.skip(f"needs {FACTS}")
    text = FACTS.read_text()
    table = re.split(r"^### ", text.split("## 14.")[1], flags=re.M)
    section = next(part for part in table if part.startswith((f"{name}:", name.replace("_", "-"))))
    shapes = {}
    for key, shape in re.findall(r"^\| `(\S+)` \| \[(.*?)\]", section, flags=re.M):
        sizes = [int(size) for size in shape.split(",") if size.strip()]
        repeated = re.search(r"\{0\.\.(\d)\}", key)
        for i in range(int(repeated[1]) + 1 if repeated else 1):
            shapes[re.sub(r"\{.*?\}", str(i), key)] = sizes
    return shapes


@pytest.mark.parametrize(("name", "keys"), [("cstr", 563), ("sttr", 351), ("sttr_light", 339)])
def test_published_checkpoints_load_strictly(name, keys):
    shapes = published_shapes(name)
    if name != "sttr_light":  # the facts give a number of keys for the other two
        assert len(shapes) == keys
    torch.manual_seed(0)
    weights = {key: torch.rand(shape) for key, shape in shapes.items()}
    model = create_model(name)
    load_weights(model, {f"module.{key}": value for key, value in weights.items()})

    own = model.state_dict()
    first = weights["backbone.resblock_2.0.downsample.0.weight"]
    torch.testing.assert_close(own["backbone.eighth.0.shortcut.convolution.weight"], first)
    fused = weights["transformer.cross_attn_layers.4.cross_attn.in_proj_weight"]
    torch.testing.assert_close(
        own["transformer.across.4.main.attention.to_key.weight"], fused[128:256]
    )
    total = sum(v.double().sum() for k, v in weights.items() if "num_batches" not in k)
    ours = sum(v.double().sum() for k, v in own.items() if "num_batches" not in k)
    torch.testing.assert_close(ours, total)  # every number arrived somewhere, once


def test_the_new_spelling_of_weight_norm_loads_too():
    weights = {key: torch.rand(shape) for key, shape in published_shapes("sttr_light").items()}
    new = {
        key.replace("weight_g", "parametrizations.weight.original0").replace(
            "weight_v", "parametrizations.weight.original1"
        ): value
        for key, value in weights.items()
    }
    assert new.keys() != weights.keys()
    old_model, new_model = create_model("sttr_light"), create_model("sttr_light")
    load_weights(old_model, weights)
    load_weights(new_model, new)
    for old, other in zip(old_model.parameters(), new_model.parameters(), strict=True):
        assert torch.equal(old, other)


def test_statistics_left_in_sttr_checkpoints_are_ignored():
    shapes = published_shapes("sttr_light")
    weights = {key: torch.rand(shape) for key, shape in shapes.items()}
    for key in shapes:
        if key.endswith("num_batches_tracked"):
            place = key.removesuffix("num_batches_tracked")
            weights[f"{place}running_mean"] = torch.rand(shapes[f"{place}weight"])
            weights[f"{place}running_var"] = torch.rand(shapes[f"{place}weight"])
    load_weights(create_model("sttr_light"), weights)
    del weights["backbone.in_conv.1.weight"]
    with pytest.raises(ValueError, match=r"stem\.0\.norm\.weight is missing.*sttr_light"):
        load_weights(create_model("sttr_light"), weights)
