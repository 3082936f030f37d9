"""Models by name and weights from files, good and bad."""

import json
import os
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from stereo_tr import create_model, list_models, load_weights, pretrained

NAME = "sttr_light"


@pytest.fixture(scope="module")
def weights():
    torch.manual_seed(1)
    model = create_model(NAME, layers=1)
    for value in model.parameters():
        torch.nn.init.normal_(value)
    return model.state_dict()


def same(model, weights, **tolerance):
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, weights[key], **tolerance)


def test_every_listed_model_can_be_made():
    assert {"cstr", "cstr_small", "sttr", "sttr_light"} <= set(list_models())
    for name in list_models():
        with torch.device("meta"):
            model = create_model(name)
        assert isinstance(model, torch.nn.Module)


def test_an_unknown_name_gets_its_near_matches():
    with pytest.raises(ValueError, match="mean cstr_small"):
        create_model("cstr_smal")
    with pytest.raises(ValueError, match=r"no model is called 'xyz'; known: .*, cstr, "):
        create_model("xyz")


def test_an_unknown_override_gets_the_allowed_ones():
    with pytest.raises(ValueError, match="no head; what can be overridden: layers, heads"):
        create_model("cstr", head=2)
    assert len(create_model("cstr", layers=2).transformer.within) == 2


@pytest.mark.parametrize("override", [{"layers": "two"}, {"heads": 0}, {"widths": 3}])
def test_an_override_that_the_model_cannot_use_is_named(override):
    [(key, value)] = override.items()
    with pytest.raises(ValueError, match=f"cstr_small can't be made with {key}={value!r}: "):
        create_model("cstr_small", **override)


@pytest.mark.parametrize("value", ["no", "0", 0, None])
def test_what_is_true_or_false_takes_nothing_else(value):
    with pytest.raises(ValueError, match=f"adjusts is {value!r}; cstr_small takes true or false"):
        create_model("cstr_small", adjusts=value)
    assert create_model("cstr_small", adjusts=False, layers=0)


def test_models_that_take_one_picture_are_no_stereo_models(tmp_path):
    assert pretrained.stereo_models() == ["cstr", "cstr_small", "sttr", "sttr_light"]
    path = tmp_path / "picture.safetensors"
    save_file({"weight": torch.zeros(3)}, path, {"model": "tiny_moat_1", "overrides": "{}"})
    with pytest.raises(ValueError, match="tiny_moat_1 is no stereo model; stereo models: cstr, "):
        pretrained.model_from_weights(path, stereo=True)
    for name in (NAME, "xyz"):  # an unknown name has its own error
        pretrained.require_stereo(name)


@pytest.mark.parametrize(
    ("name", "overrides", "said"),
    [
        (NAME, "{layers", r"overrides is '\{layers'; it holds JSON such as \{"),
        (NAME, "[1]", r"overrides is '\[1\]'"),
        (NAME, '{"head": 2}', "takes no head"),
        (NAME, '{"layers": "two"}', "can't be made with layers='two'"),
        ("xyz", "{}", "no model is called 'xyz'"),
    ],
)
def test_metadata_that_describe_no_model_name_the_file(tmp_path, name, overrides, said):
    path = tmp_path / "odd.safetensors"
    save_file({"weight": torch.zeros(3)}, path, {"model": name, "overrides": overrides})
    with pytest.raises(ValueError, match=rf"odd\.safetensors has bad metadata: .*{said}"):
        pretrained.model_from_weights(path)


@pytest.mark.parametrize("ending", [".safetensors", ".pth", ".pth.tar", ".pt", ".ckpt", ".npz"])
def test_all_kinds_of_files_load(tmp_path, weights, ending):
    path = tmp_path / f"weights{ending}"
    if ending == ".safetensors":
        save_file(weights, path)
    elif ending == ".npz":
        np.savez(path, **{key: value.numpy() for key, value in weights.items()})
    else:
        torch.save(weights, path)
    model = create_model(NAME, layers=1)
    load_weights(model, path)
    same(model, weights)
    load_weights(model, str(path))


@pytest.mark.parametrize("nesting", ["state_dict", "model"])
def test_checkpoints_are_unwrapped(tmp_path, weights, nesting):
    """Published checkpoints carry a NumPy score and other plain data beside their weights."""
    held = {f"module.{key}": value for key, value in weights.items()}
    path = tmp_path / "checkpoint.pth.tar"
    torch.save({"epoch": 3, "best_pred": np.float64(1.5), nesting: held, "optimizer": {}}, path)
    model = create_model(NAME, layers=1)
    load_weights(model, path)
    same(model, weights)


def test_the_average_of_a_training_run_goes_before_its_last_step(weights):
    average = {f"module.{key}": value for key, value in weights.items()}
    average["n_averaged"] = torch.tensor(5)
    last = {key: torch.zeros_like(value) for key, value in weights.items()}
    model = create_model(NAME, layers=1)
    load_weights(model, {"step": 5, "model": last, "average": average})
    same(model, weights)


def test_a_saved_file_makes_its_model_again_in_half_precision(tmp_path, weights):
    path = tmp_path / "mine.safetensors"
    model = create_model(NAME, layers=1)
    load_weights(model, weights)
    model.dustbin.data.fill_(1e6)  # beyond half precision
    pretrained.save_weights(model, path, NAME, {"layers": 1})
    assert path.stat().st_size < 2.2 * sum(v.numel() for v in weights.values())
    assert json.loads(pretrained.read_metadata(path)["overrides"]) == {"layers": 1}
    again = pretrained.model_from_weights(path)
    same(again, model.state_dict(), rtol=1e-3, atol=1e-6)
    assert all(value.dtype == torch.float32 for value in again.parameters())
    assert os.listdir(tmp_path) == ["mine.safetensors"]


def test_a_name_beside_weights_that_tell_theirs_changes_nothing(tmp_path):
    path = tmp_path / "mine.safetensors"
    pretrained.save_weights(create_model(NAME, layers=1), path, NAME, {"layers": 1})
    named = pretrained.model_from_weights(path, name=NAME)
    same(named, pretrained.model_from_weights(path).state_dict(), rtol=0, atol=0)
    with pytest.raises(ValueError, match=f"holds weights of {NAME}, not of sttr; leave out one"):
        pretrained.model_from_weights(path, name="sttr")
    silent = create_model("sttr").state_dict()
    same(pretrained.model_from_weights(silent, name="sttr"), silent)


@pytest.mark.parametrize("keep", ["head", ["head"]])
def test_parts_that_are_kept(keep):
    model = create_model("vit_tiny_patch16_224", depth=1)
    before = model.head.weight.detach().clone()
    zeros = {key: torch.zeros_like(value) for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"no part 'haed' to keep; .*head"):
        load_weights(model, zeros, keep=["haed"])
    load_weights(model, zeros, keep=keep)
    assert torch.equal(model.head.weight, before)
    assert not model.norm.weight.any()


def test_counters_of_batches_may_lack(tmp_path):
    weights = create_model("resnet50").state_dict()
    without = {k: v for k, v in weights.items() if not k.endswith("num_batches_tracked")}
    assert len(without) < len(weights)
    model = create_model("resnet50")
    load_weights(model, without)
    same(model, weights)


def test_an_entry_that_is_no_array_of_numbers_is_named(tmp_path):
    np.savez(tmp_path / "odd.npz", note=np.array("hi"))
    with pytest.raises(ValueError, match=r"odd\.npz holds no weights: 'note' holds no numbers"):
        load_weights(create_model(NAME), tmp_path / "odd.npz")


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("vit_tiny_patch16_224", {"image_size": -16}),
        ("swin_tiny_patch4_window7_224", {"heads": (3, 6)}),
        ("max_deeplab_s", {"steps": ((8, 1), (3, 1))}),
    ],
)
def test_overrides_that_cannot_be_used_are_named(name, overrides):
    with pytest.raises(ValueError, match=f"{name} can't be made with {next(iter(overrides))}="):
        create_model(name, **overrides)


def test_broken_weights_are_not_written(tmp_path):
    model = create_model(NAME, layers=1)
    model.dustbin.data.fill_(torch.nan)
    with pytest.raises(ValueError, match="dustbin isn't finite"):
        pretrained.save_weights(model, tmp_path / "mine.safetensors", NAME)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["cstr", "cstr_small", "sttr", "sttr_light"])
def test_weights_without_metadata_are_recognised(name):
    weights = create_model(name).state_dict()
    same(pretrained.model_from_weights(weights), weights)


def test_weights_of_no_model_are_refused():
    with pytest.raises(ValueError, match="none of our models"):
        pretrained.model_from_weights({"layer.weight": np.zeros((3, 4))})


def test_weights_of_another_model_are_named_and_change_nothing(weights):
    model = create_model(NAME)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(
        ValueError, match=r"mapping doesn't fit.* is .* looks like weights of cstr$"
    ):
        load_weights(model, create_model("cstr").state_dict())
    with pytest.raises(ValueError, match=r"within\.1\..* is missing; .* and \d+ more"):
        load_weights(model, weights)
    same(model, before, rtol=0, atol=0)


class Intruder:
    def __reduce__(self):
        return os.mkdir, ("ran",)


@pytest.mark.parametrize("write", [torch.save, lambda held, path: path.write_bytes(held)])
def test_code_in_a_pickle_is_never_run(tmp_path, monkeypatch, write):
    monkeypatch.chdir(tmp_path)
    held = {"state_dict": Intruder()}
    path = tmp_path / "evil.pth.tar"
    write(held if write is torch.save else pickle.dumps(held), path)
    with pytest.raises(ValueError, match=r"evil\.pth\.tar .*nothing was run") as caught:
        load_weights(create_model(NAME, layers=1), path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("ending", [".safetensors", ".pth", ".ckpt", ".npz"])
@pytest.mark.parametrize(
    "content", [b"", b"these are only words", b"\x80\x02nothing", b"PK\x03\x04"]
)
def test_files_that_hold_no_weights_are_named(tmp_path, ending, content):
    path = tmp_path / f"bad{ending}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.") as caught:
        load_weights(create_model(NAME, layers=1), path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", [".safetensors", ".pth", ".npz"])
def test_files_that_are_cut_short_are_named(tmp_path, weights, ending):
    path = tmp_path / f"cut{ending}"
    if ending == ".safetensors":
        save_file(weights, path)
    elif ending == ".npz":
        np.savez(path, **{key: value.numpy() for key, value in weights.items()})
    else:
        torch.save(weights, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"cut\."):
        load_weights(create_model(NAME, layers=1), path)


@pytest.mark.parametrize(
    ("held", "said"),
    [([1, 2], "a list"), ({}, "empty"), ({"a": "text"}, "'a' is no array")],
)
def test_files_that_hold_something_else_are_refused(tmp_path, held, said):
    path = tmp_path / "other.pth"
    torch.save(held, path)
    with pytest.raises(ValueError, match=rf"other\.pth holds.*{said}"):
        load_weights(create_model(NAME, layers=1), path)


def test_missing_files_and_unknown_sources(tmp_path):
    model = create_model(NAME, layers=1)
    with pytest.raises(FileNotFoundError, match=r"^there is no file .*gone\.pth; give"):
        load_weights(model, tmp_path / "gone.pth")
    with pytest.raises(ValueError, match=r"neither a file .* nor one of our models; known: "):
        load_weights(model, "nonsense")
    with pytest.raises(ValueError, match="no weights of sttr_light come with the package"):
        load_weights(model, "sttr_light")
    (tmp_path / "picture.png").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"picture\.png is no weights file"):
        load_weights(model, tmp_path / "picture.png")
