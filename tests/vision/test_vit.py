"""ViT against Hugging Face's, timm's golden output, and a loop over Google's arrays."""

import importlib.util
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hugging_face import hugging_face, run

from stereo_tr import create_model, load_weights
from stereo_tr.vision.vit import VisionTransformer

GOLDEN = Path(__file__).resolve().parents[2] / "../shared/golden/vision"
CHANNELS, DEPTH, HEADS, PATCH, CLASSES = 12, 2, 3, 8, 5


def small(image_size=(24, 24), **options):
    model = VisionTransformer(
        channels=CHANNELS,
        depth=DEPTH,
        heads=HEADS,
        patch=PATCH,
        image_size=image_size,
        num_classes=CLASSES,
        **options,
    )
    return model.eval()


@pytest.fixture(scope="module")
def theirs():
    return hugging_face(
        "vit",
        "ViT",
        hidden_size=CHANNELS,
        num_hidden_layers=DEPTH,
        num_attention_heads=HEADS,
        intermediate_size=4 * CHANNELS,
        patch_size=PATCH,
        image_size=24,
        num_labels=CLASSES,
        layer_norm_eps=1e-6,
    )


@pytest.mark.parametrize("size", [(24, 24), (16, 40), (48, 32)])
def test_it_is_hugging_faces_also_at_other_sizes(theirs, size):
    model, weights = theirs
    ours = small()
    load_weights(ours, weights)
    x = torch.rand(2, 3, *size)
    expected = run(model, (x - 0.5) / 0.5, interpolate_pos_encoding=True)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), expected.logits, rtol=1e-4, atol=1e-5)


def test_weights_of_older_releases_load(theirs):
    _, weights = theirs
    older = {}
    for name, value in weights.items():
        name = name.replace("vit.layers.", "vit.encoder.layer.")
        for letter, word in (("q", "query"), ("k", "key"), ("v", "value")):
            name = name.replace(f"attention.{letter}_proj", f"attention.attention.{word}")
        name = name.replace("attention.o_proj", "attention.output.dense")
        name = name.replace("mlp.fc1", "intermediate.dense").replace("mlp.fc2", "output.dense")
        older[name] = value
    first, second = small(), small()
    load_weights(first, weights)
    load_weights(second, older)
    for name, value in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], value), name


def test_it_is_timms():
    """The golden file was made from weights that follow from names and shapes alone."""
    if not (GOLDEN / "recipe.py").is_file():
        pytest.skip(f"needs {GOLDEN}")
    specification = importlib.util.spec_from_file_location("recipe", GOLDEN / "recipe.py")
    recipe = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(recipe)
    held = np.load(GOLDEN / "vit_tiny_patch16_224_recipe.npz")
    config = json.loads(str(held["config"]))
    names = config["names"].items()
    weights = {name: recipe.value(name, shape, config["seed"]) for name, shape in names}
    model = create_model("vit_tiny_patch16_224").eval()
    load_weights(model, weights)
    x = torch.from_numpy(recipe.data("vit_tiny_patch16_224", (1, 3, 224, 224)))
    with torch.no_grad():
        token, map_ = model.tokens(x * 0.5 + 0.5)
        logits = model.head(token)
    tokens = torch.cat((token[:, None], map_.flatten(1, 2)), 1)[:, :8]
    for ours, key in ((logits, "out/logits"), (tokens, "out/tokens_first8")):
        torch.testing.assert_close(ours, torch.from_numpy(held[key]), rtol=1e-4, atol=1e-4)


def google_arrays(size):
    """Arrays as in Google's files: inputs x outputs, heads apart."""
    head, places, wide = CHANNELS // HEADS, math.prod(size) // PATCH**2, 4 * CHANNELS
    shapes = {
        "cls": (1, 1, CHANNELS),
        "embedding/kernel": (PATCH, PATCH, 3, CHANNELS),
        "embedding/bias": (CHANNELS,),
        "Transformer/posembed_input/pos_embedding": (1, 1 + places, CHANNELS),
        "Transformer/encoder_norm/scale": (CHANNELS,),
        "Transformer/encoder_norm/bias": (CHANNELS,),
        "head/kernel": (CHANNELS, CLASSES),
        "head/bias": (CLASSES,),
    }
    for block in range(DEPTH):
        place = f"Transformer/encoderblock_{block}/"
        for norm in ("LayerNorm_0", "LayerNorm_2"):
            shapes |= {f"{place}{norm}/{part}": (CHANNELS,) for part in ("scale", "bias")}
        attention = f"{place}MultiHeadDotProductAttention_1/"
        for part in ("query", "key", "value"):
            shapes[f"{attention}{part}/kernel"] = (CHANNELS, HEADS, head)
            shapes[f"{attention}{part}/bias"] = (HEADS, head)
        shapes[f"{attention}out/kernel"] = (HEADS, head, CHANNELS)
        shapes[f"{attention}out/bias"] = (CHANNELS,)
        for index, (inputs, outputs) in enumerate(((CHANNELS, wide), (wide, CHANNELS))):
            shapes[f"{place}MlpBlock_3/Dense_{index}/kernel"] = (inputs, outputs)
            shapes[f"{place}MlpBlock_3/Dense_{index}/bias"] = (outputs,)
    random = np.random.default_rng(5)
    return {name: random.normal(size=shape) / 3 for name, shape in shapes.items()}


def google_forward(w, x):
    """ViT from those arrays, image by image, in float64."""

    def norm(x, place):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
        return x * w[f"{place}/scale"] + w[f"{place}/bias"]

    tokens = [w["cls"][0, 0]]
    for top in range(0, x.shape[1], PATCH):
        for left in range(0, x.shape[2], PATCH):
            patch = x[:, top : top + PATCH, left : left + PATCH]
            tokens.append(np.einsum("cij,ijcd", patch, w["embedding/kernel"]))
            tokens[-1] += w["embedding/bias"]
    x = np.stack(tokens) + w["Transformer/posembed_input/pos_embedding"][0]
    for block in range(DEPTH):
        place = f"Transformer/encoderblock_{block}"
        a = f"{place}/MultiHeadDotProductAttention_1"
        y = norm(x, f"{place}/LayerNorm_0")
        query, key, value = (
            np.einsum("nc,chd->hnd", y, w[f"{a}/{part}/kernel"]) + w[f"{a}/{part}/bias"][:, None]
            for part in ("query", "key", "value")
        )
        scores = np.exp(query @ key.transpose(0, 2, 1) / math.sqrt(CHANNELS // HEADS))
        mixed = scores / scores.sum(-1, keepdims=True) @ value
        x = x + np.einsum("hnd,hdc->nc", mixed, w[f"{a}/out/kernel"]) + w[f"{a}/out/bias"]
        m = f"{place}/MlpBlock_3"
        y = norm(x, f"{place}/LayerNorm_2") @ w[f"{m}/Dense_0/kernel"] + w[f"{m}/Dense_0/bias"]
        y = y * (1 + np.vectorize(math.erf)(y / math.sqrt(2))) / 2
        x = x + y @ w[f"{m}/Dense_1/kernel"] + w[f"{m}/Dense_1/bias"]
    return norm(x, "Transformer/encoder_norm")[0] @ w["head/kernel"] + w["head/bias"]


def test_googles_files_load(tmp_path):
    size = (16, 32)
    arrays = google_arrays(size)
    path = tmp_path / "ViT-Ti_16.npz"
    np.savez(path, **{name: array.astype(np.float32) for name, array in arrays.items()})
    model = small(size)
    load_weights(model, path)
    x = torch.rand(2, 3, *size)
    expected = [google_forward(arrays, (image - 0.5) / 0.5) for image in x.double().numpy()]
    with torch.no_grad():
        torch.testing.assert_close(
            model(x).double(), torch.from_numpy(np.stack(expected)), rtol=1e-4, atol=1e-4
        )


def test_sides_that_patches_do_not_divide_are_padded_with_the_mean_colour():
    model, x = small(), torch.rand(2, 3, 19, 30)
    padded = torch.full((2, 3, 24, 32), 0.5)
    padded[..., :19, :30] = x
    with torch.no_grad():
        torch.testing.assert_close(model(x), model(padded))
        maps = model.features(x)
    assert maps[4].shape[2:] == (5, 8)


@pytest.mark.parametrize("layout", ["ours", "timm"])
def test_position_tables_are_resized_on_loading(layout):
    """A model for other images gets the table that the first one would have resized in the call."""
    first, second = small((24, 24)), small((16, 40))
    weights = dict(first.state_dict())
    if layout == "timm":
        table = weights.pop("position.table").flatten(0, 1)
        weights["pos_embed"] = torch.cat((weights.pop("class_position")[None], table))[None]
        weights["cls_token"] = weights.pop("class_token")[None, None]
    load_weights(second, weights)
    x = torch.rand(1, 3, 16, 40)
    with torch.no_grad():
        torch.testing.assert_close(second(x), first(x))


def test_weights_for_other_classes_are_refused():
    model = small()
    other = VisionTransformer(channels=CHANNELS, depth=DEPTH, heads=HEADS, patch=PATCH)
    with pytest.raises(ValueError, match=re.escape("head.weight is [1000, 12] instead of [5, 12]")):
        load_weights(model, other.state_dict())
