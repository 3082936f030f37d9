import json
import subprocess
import sys
from pathlib import Path

import graphs
import numpy as np
import pytest
import torch

from stereo_tr.datasets.files import read_disparity, write_png
from stereo_tr.exported import ExportedStereo
from stereo_tr.exporting import FORMATS, write_graph
from stereo_tr.matcher import StereoMatcher
from stereo_tr.pretrained import save_weights
from stereo_tr.scripts.export import main
from stereo_tr.stereo.scales import Scales

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def stereo(tmp_path_factory):
    """Weights of a tiny stereo model, and the same model in ONNX, checked by the command."""
    folder = tmp_path_factory.mktemp("exported")
    weights, path = folder / "tiny.safetensors", folder / "tiny.onnx"
    save_weights(graphs.tiny("cstr_small"), weights, "cstr_small", graphs.STEREO)
    with graphs.shapes_unchecked():
        main(["--weights", str(weights), "--out", str(path)])
    return weights, path


def test_a_file_is_the_model_at_any_scale(stereo):
    weights, path = stereo
    views = np.random.default_rng(0).random((2, 70, 90, 3), np.float32)
    matcher = StereoMatcher.from_pretrained(path)
    assert matcher.scales == Scales(least_pixels=580_000, coarse=0.4, guided=True)
    matcher.scales = Scales(least_pixels=9000, coarse=0.6, guided=True)
    same = StereoMatcher.from_pretrained(weights)
    same.scales = matcher.scales
    expected, found = same(*views), matcher(*views)
    for one, other in zip(expected, found, strict=True):
        assert (np.abs(one - other) > 1e-3).mean() < 0.01  # draws are decided by rounding


def test_a_file_of_before_has_no_candidates(stereo, tmp_path):
    import onnx

    weights, path = stereo
    whole = onnx.load(path)
    assert [each.name for each in whole.graph.output[3:]] == ["matched", "match_confidence"]
    del whole.graph.output[3:]
    onnx.save(whole, tmp_path / "before.onnx")
    views = np.random.default_rng(0).random((2, 70, 90, 3), np.float32)
    scales = Scales(least_pixels=9000, coarse=0.6, guided=True)
    before, same = (
        StereoMatcher.from_pretrained(each) for each in (tmp_path / "before.onnx", weights)
    )
    before.scales = same.scales = scales
    with_candidates = same(*views)
    same.model.register_forward_hook(lambda *called: called[-1]._replace(candidates=None))
    expected, found = same(*views), before(*views)
    assert not np.array_equal(expected.disparity, with_candidates.disparity)
    for one, other in zip(expected, found, strict=True):
        assert (np.abs(one - other) > 1e-3).mean() < 0.01  # draws are decided by rounding


def test_estimate_needs_no_model_code(stereo, tmp_path):
    """In a process of its own: this one has the models already."""
    views = [str(tmp_path / name) for name in ("left.png", "right.png")]
    for path, view in zip(views, np.random.default_rng(0).random((2, 40, 56, 3)), strict=True):
        write_png(path, (255 * view).astype(np.uint8))
    program = (
        "import sys; from stereo_tr.scripts.estimate import main; main(sys.argv[1:]); "
        "print([n for n in sys.modules if n.startswith(('stereo_tr.convolution', "
        "'stereo_tr.stereo.model', 'stereo_tr.stereo.published', 'stereo_tr.vision'))])"
    )
    arguments = [*views, "--out", str(tmp_path / "out"), "--weights", str(stereo[1])]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    found, _ = read_disparity(tmp_path / "out" / "left.pfm")
    expected = StereoMatcher.from_pretrained(stereo[0])(*views).disparity
    assert (np.abs(found - expected) > 1e-3).mean() < 0.01


@pytest.mark.parametrize("name", graphs.VISION)
def test_every_family_in_onnx(name, tmp_path):
    import onnxruntime

    model, path = graphs.tiny(name), tmp_path / "tiny.onnx"
    with graphs.shapes_unchecked():
        write_graph(model, name, path)
    session = onnxruntime.InferenceSession(path)
    call = getattr(model, "encode_images", model)
    for size in ((1, 3, 128, 96), (3, 3, 151, 203)):  # the graph was recorded for 2x141x174
        images = torch.rand(size)
        with torch.inference_mode():
            expected = call(images)
        (found,) = session.run(None, {"images": images.numpy()})
        close = 1e-4 * expected.abs().max().item()
        torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=close)
    assert session.get_modelmeta().custom_metadata_map["model"] == name


@pytest.mark.parametrize("name", graphs.PUBLISHED)
def test_published_models_in_onnx(name, tmp_path):
    model, path = graphs.tiny(name), tmp_path / "tiny.onnx"
    with graphs.shapes_unchecked():
        write_graph(model, name, path)
    exported = ExportedStereo(path)
    # Recorded for 2x141x174. Smaller than the largest pooled cell (8 x 16 px), and larger.
    for size in ((3, 3, 67, 90), (1, 3, 145, 203)):
        views = torch.rand(2, *size)
        with torch.inference_mode():
            expected, found = model(*views), exported(*views)
        # Disparities of random weights span 100 px.
        torch.testing.assert_close(found.disparity, expected.disparity, rtol=0, atol=0.01)
        for one, other in zip(found[1:3], expected[1:3], strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def assert_gives_the_same(loaded, model, size):
    images = torch.rand(size)
    with torch.inference_mode():
        expected = model(images)
        (found,) = loaded(images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.torch.jit.load. is deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "moat_0"])
def test_windows_in_torchscript(name, tmp_path):
    model, path = graphs.tiny(name), tmp_path / f"tiny{FORMATS['torchscript']}"
    with graphs.shapes_unchecked():
        write_graph(model, name, path, "torchscript")
    extra = {"model": ""}
    loaded = torch.jit.load(path, _extra_files=extra)
    assert extra["model"] == name.encode()
    for size in ((1, 3, 128, 96), (3, 3, 151, 203)):  # windows of one part, and shifted ones
        assert_gives_the_same(loaded, model, size)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "convnext_tiny"])
def test_vision_models_in_pt2(name, tmp_path):
    model, path = graphs.tiny(name), tmp_path / f"tiny{FORMATS['pt2']}"
    with graphs.shapes_unchecked():
        write_graph(model, name, path, "pt2")
    extra = {"model": ""}
    loaded = torch.export.load(path, extra_files=extra).module()
    assert extra["model"] == name
    for size in ((1, 3, 128, 96), (1, 3, 151, 203)):  # the graph was recorded for 1x141x174
        assert_gives_the_same(loaded, model, size)


def test_a_stereo_model_in_pt2(stereo, tmp_path, capsys):
    """The command itself checks it at two sizes, of which one is a multiple of 16."""
    path = tmp_path / "tiny.pt2"
    arguments = ["--weights", str(stereo[0]), "--format", "pt2", "--out", str(path)]
    with graphs.shapes_unchecked():
        main(arguments)
    out = capsys.readouterr().out
    assert out.startswith("recording cstr_small for ")
    assert "checked at 1x128x144 and 1x165x203" in out
    assert path.exists()


def test_what_torch_export_cannot_follow_is_told(tmp_path, capsys, monkeypatch):
    def lost(*given, **settings):
        raise RuntimeError("size 7\nand more")

    monkeypatch.setattr(torch.export, "export", lost)
    arguments = ["--model", "moat_0", "--format", "pt2", "--out", str(tmp_path / "a.pt2")]
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "moat_0 can't be written as .pt2" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported_is_told(tmp_path, capsys):
    for arguments, words in (
        (["--out", "a.bin"], "a.bin: a file of --format onnx ends .onnx"),
        (["--out", "a.onnx", "--model", "cstr_smal"], "cstr_small"),
        (["--out", "a.onnx", "--model", "kmax_resnet50"], "stereo and vision models can"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1


@pytest.mark.parametrize("suffix", [".pt2", ".torchscript"])
def test_files_that_can_hold_code_are_not_loaded(suffix):
    with pytest.raises(ValueError, match=r"can hold code .* --format onnx"):
        StereoMatcher.from_pretrained(f"model{suffix}")


def test_wrong_files(stereo, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"no file .*none\.onnx"):
        StereoMatcher.from_pretrained(tmp_path / "none.onnx")
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(stereo[1].read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"damaged\.onnx can't be read"):
        StereoMatcher.from_pretrained(damaged)
    with graphs.shapes_unchecked():
        write_graph(graphs.tiny("resnet50"), "resnet50", tmp_path / "resnet50.onnx")
    with pytest.raises(ValueError, match="takes images and gives scores; a stereo model takes"):
        ExportedStereo(tmp_path / "resnet50.onnx")
    with pytest.raises(ValueError, match="is a whole model; leave out cstr"):
        StereoMatcher.from_pretrained(stereo[1], "cstr")
    with pytest.raises(ValueError, match="computes in float32, not in bf16"):
        StereoMatcher.from_pretrained(stereo[1], precision="bf16")
    with pytest.raises(ValueError, match="takes what onnxruntime takes, 2GB can't bound it"):
        StereoMatcher.from_pretrained(stereo[1], max_memory="2GB")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match=r"pip install 'stereo-tr\[export\]'"):
        StereoMatcher.from_pretrained(stereo[1])


def test_metadata_say_what_the_file_is(stereo):
    metadata = ExportedStereo(stereo[1]).session.get_modelmeta().custom_metadata_map
    assert metadata["model"] == "cstr_small"
    assert json.loads(metadata["scales"]) == [580_000, 0.4, None, True]
