"""What a user can get wrong: one line on standard error, exit code 2, nothing half-written."""

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image

from stereo_tr.datasets.files import write_png
from stereo_tr.matcher import StereoMatcher
from stereo_tr.pretrained import create_model, save_weights
from stereo_tr.scripts.estimate import main


@pytest.fixture
def views(tmp_path):
    return tiny.write_views(tmp_path)


@pytest.fixture
def refused(tmp_path, capfd, monkeypatch):
    """Run the command; return its one line. Nothing may be left behind."""

    def run(*arguments, out=None, real_weights=False):
        if not real_weights:
            tiny.use_it(monkeypatch)
        out = tmp_path / "out" if out is None else out
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(SystemExit) as stop:
            main([*map(str, arguments), "--out", str(out)])
        assert stop.value.code == 2
        assert sorted(tmp_path.rglob("*")) == before
        printed = capfd.readouterr()
        assert printed.out == ""
        assert printed.err.count("\n") == 1
        assert printed.err.startswith("stereo-tr estimate: ")
        return printed.err

    return run


def test_missing_file(refused, views, tmp_path):
    assert "gone.png: no such file" in refused(tmp_path / "gone.png", views[1])
    assert "gone.png: no such file" in refused(views[0], tmp_path / "gone.png")


def test_folder_in_place_of_a_file_and_unequal_counts(refused, tmp_path):
    for scene in "abc":
        tiny.write_views(tmp_path, f"l/{scene}.png", f"r/{scene}.png")
    (tmp_path / "r" / "c.png").unlink()
    line = refused(tmp_path / "l", tmp_path / "r")
    assert "l has 3 picture(s) and" in line
    assert "r 2" in line
    assert "has 1 picture(s)" in refused(tmp_path / "l" / "a.png", tmp_path / "r")


def test_text_file_named_png(refused, views, tmp_path):
    (tmp_path / "text.png").write_text("hello")
    assert "text.png: not a picture" in refused(tmp_path / "text.png", views[1])


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_truncated_image(refused, views, tmp_path, suffix):
    path = tmp_path / f"half{suffix}"
    Image.open(views[0]).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert path.name in refused(path, views[1])


def test_unreadable_file(refused, views, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    Path(views[0]).chmod(0)
    assert "left.png: cannot be read: Permission denied" in refused(*views)


def test_one_bad_pair_among_good_ones_stops_before_the_first(refused, tmp_path):
    for scene in "abc":
        tiny.write_views(tmp_path, f"l/{scene}.png", f"r/{scene}.png")
    (tmp_path / "r" / "c.png").write_bytes(b"")
    assert "c.png: not a picture" in refused(tmp_path / "l", tmp_path / "r")


def test_views_of_different_size(refused, views, tmp_path):
    tiny.write_views(tmp_path, "l2.png", "r2.png", height=44)
    line = refused(views[0], tmp_path / "r2.png")
    assert "left.png has 56x40 px and" in line
    assert "r2.png 56x44" in line


def test_one_pixel(refused, tmp_path):
    write_png(tmp_path / "dot.png", np.zeros((1, 1, 3), np.uint8))
    line = refused(tmp_path / "dot.png", tmp_path / "dot.png")
    assert "dot.png has 1x1 px; at least 16x16 are needed" in line


@pytest.mark.parametrize("place", ["file", "file/under", "/proc/new"])
def test_unwritable_output_folder(refused, views, tmp_path, place):
    (tmp_path / "file").touch()
    out = tmp_path / place  # an absolute place stays as it is
    assert f"cannot write to folder {out}" in refused(*views, out=out)


def test_a_full_disk_leaves_no_half_pair(refused, views, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    write = Path.write_bytes

    def full(path, data):
        write(path, data[:10])
        if path.name.endswith("_color.png"):
            raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    assert "left_color.png: No space left on device" in refused(*views)


def test_a_result_may_not_overwrite_a_view(refused, views, tmp_path):
    assert "left.png: a result would overwrite this view" in refused(*views, out=tmp_path)


def test_results_that_share_a_name(refused, tmp_path):
    tiny.write_views(tmp_path, "l/a.png", "r/1.png")
    tiny.write_views(tmp_path, "l/a_color.png", "r/2.png")
    assert "a_color.png: two results" in refused(tmp_path / "l", tmp_path / "r")


def test_no_views(refused, views):
    assert "give a left and a right view" in refused()
    assert "give a left and a right view" in refused(views[0])
    assert f"leave out {views[0]}, or --example" in refused(*views, "--example")


def test_unknown_device(refused, views):
    assert "device 'warp' can't be used; this machine has cpu" in refused(
        *views, "--device", "warp"
    )


METRES = ["--focal-length", "100", "--baseline", "0.1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--depth"], "metres need --focal-length (pixels) and --baseline"),
        (["--ply", "--baseline", "0.1"], "metres need --focal-length"),
        (["--principal-offset", "3"], "metres need --focal-length"),
        (["--depth", "--focal-length", "0", "--baseline", "0.1"], "must be positive"),
        (["--focal-length", "inf", "--baseline", "0.1"], "--focal-length (pixels), --baseline"),
        ([*METRES, "--principal-offset", "nan"], "--principal-offset (pixels) must be finite"),
        (["--baseline", "inf", "--calibration", "gone.txt"], "must be finite; give plain numbers"),
        (["--depth", "--calibration", "gone.txt"], "gone.txt: no such calibration file"),
    ],
)
def test_metres_without_what_they_need(refused, views, arguments, message):
    assert message in refused(*views, *arguments)


def test_calibrations_that_do_not_do(refused, views, tmp_path):
    path = tmp_path / "calib.txt"
    path.write_text("cam0=[100 0 30; 0 100 20; 0 0 1]\n")
    line = refused(*views, "--depth", "--calibration", path)
    assert "calib.txt: no baseline; pass the distance between the cameras" in line
    path.write_text("cam0=[9 0 3; 0 9 2; 0 0 1]\nbaseline=50\nwidth=112\nheight=80\n")
    line = refused(*views, "--depth", "--calibration", path)
    assert "left.png has 56x40 px, but" in line
    assert "made for 112x80" in line
    line = refused(*views, "--depth", "--calibration", path, "--focal-length", "90")
    assert "already holds the focal length" in line


def test_unknown_model(refused, views):
    assert "cstr_smal" in refused(*views, "--model", "cstr_smal", real_weights=True)


def test_a_model_of_one_picture(refused, views, tmp_path):
    line = refused(*views, "--model", "tiny_moat_1", real_weights=True)
    assert "tiny_moat_1 is no stereo model; stereo models: cstr, cstr_small, sttr" in line
    weights = tmp_path / "picture.safetensors"
    save_weights(create_model("tiny_moat_1"), weights, "tiny_moat_1")
    line = refused(*views, "--weights", weights, real_weights=True)
    assert "tiny_moat_1 is no stereo model" in line


def test_missing_weights(refused, views, tmp_path):
    line = refused(*views, "--weights", tmp_path / "gone.safetensors", real_weights=True)
    assert f"estimate: there is no file {tmp_path / 'gone.safetensors'}; give " in line


def test_weights_of_another_model(refused, views, tmp_path):
    weights = tmp_path / "light.safetensors"
    save_weights(create_model("sttr_light"), weights, "sttr_light")
    line = refused(*views, "--weights", weights, "--model", "cstr_small", real_weights=True)
    assert "light.safetensors holds weights of sttr_light, not of cstr_small" in line


class Trap:
    """Unpickling it would leave a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("suffix", [".pth", ".pth.tar", ".ckpt"])
def test_pickle_with_code(refused, views, tmp_path, suffix):
    weights = tmp_path / f"evil{suffix}"
    weights.write_bytes(pickle.dumps({"state_dict": Trap(tmp_path / "ran")}))
    arguments = (*views, "--weights", weights, "--model", "sttr_light")
    assert f"evil{suffix}" in refused(*arguments, real_weights=True)


def test_no_memory(refused, views, monkeypatch):
    def full(*_):
        raise MemoryError("left.png: too large")

    monkeypatch.setattr(StereoMatcher, "__call__", full)
    out = Path(views[0]).parent / "out"
    out.mkdir()
    assert refused(*views).endswith("too large\n")


INTERRUPTED = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
sys.path[:0] = [{root!r}, {here!r}]
import tiny
from stereo_tr.matcher import StereoMatcher
from stereo_tr.scripts.estimate import main

def slow(weights=None, model=None, device="cpu", *settings):
    matcher = StereoMatcher(tiny.RampModel(), device)
    forward = matcher.model.forward
    def forever(*views):
        print("matching", flush=True)
        time.sleep(300)
    matcher.model.forward = forever
    return matcher

StereoMatcher.from_pretrained = slow
main(sys.argv[1:])
"""


def test_interrupt_is_one_line_and_leaves_nothing(views, tmp_path):
    here = Path(__file__).parent
    code = INTERRUPTED.format(root=str(here.parents[1]), here=str(here))
    out = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-c", code, *views, "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "matching\n"
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error == "stereo-tr estimate: stopped\n"
    assert not list(out.iterdir())
