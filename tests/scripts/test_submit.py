"""What benchmark servers ask for: names, folders, formats; from trees in the published layouts."""

import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import save_file
from torch import nn

from stereo_tr.datasets.files import read_disparity
from stereo_tr.pretrained import save_weights
from stereo_tr.scripts.submit import main

VIEWS = {
    "kitti2012": "testing/colored_{}/{}_10.png",
    "kitti2015": "testing/image_{}/{}_10.png",
}


@pytest.fixture(autouse=True)
def model(monkeypatch):
    tiny.use_it(monkeypatch)


def write_scenes(root, *scenes):
    for scene in scenes:
        tiny.write_views(root, f"{scene}/im0.png", f"{scene}/im1.png")


def archive(path):
    """Names and contents, as a server unpacks them."""
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None
        return {name: file.read(name) for name in file.namelist()}


def disparity(tmp_path, name, content):
    file = tmp_path / Path(name).name
    file.write_bytes(content)
    return read_disparity(file)[0]


@pytest.mark.parametrize(("year", "folder"), [("2012", ""), ("2015", "disp_0/")])
def test_kitti_gets_its_frames_as_16_bit_pictures(tmp_path, capsys, year, folder):
    left, right = (0, 1) if year == "2012" else (2, 3)
    for frame in ("000000", "000007"):
        names = [VIEWS[f"kitti{year}"].format(side, frame) for side in (left, right)]
        tiny.write_views(tmp_path / "kitti", *names)
        names = [VIEWS[f"kitti{year}"].format(side, frame)[:-7] + "_11.png" for side in (2, 3)]
        tiny.write_views(tmp_path / "kitti", *names)  # the next moment has no place in it
    out = tmp_path / "out"
    main(["--benchmark", f"kitti{year}", "--root", str(tmp_path / "kitti"), "--out", str(out)])
    files = archive(out / f"kitti{year}_cstr_small.zip")
    assert sorted(files) == [f"{folder}000000_10.png", f"{folder}000007_10.png"]
    for name, content in files.items():
        assert (out / name).read_bytes() == content
        stored = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        assert (stored.dtype, stored.shape) == (np.uint16, (40, 56))
        assert (stored[3:] == 20 * 256).all()
    expected = {"2012": 195, "2015": 200}[year]
    assert f"2 pairs, but {expected} are published" in capsys.readouterr().out


def test_middlebury_gets_maps_and_times_of_both_splits(tmp_path):
    root = tmp_path / "middlebury"
    write_scenes(root / "MiddEval3", "testH/Hoops", "trainingH/Piano", "trainingF/Piano")
    out = tmp_path / "out"
    arguments = ["--benchmark", "middlebury_v3_h", "--root", str(root), "--out", str(out)]
    main([*arguments, "--method", "Ours-2"])
    files = archive(out / "middlebury_v3_h_Ours-2.zip")
    scenes = ("testH/Hoops", "trainingH/Piano")
    assert sorted(files) == [
        f"{scene}/{file}" for scene in scenes for file in ("disp0Ours-2.pfm", "timeOurs-2.txt")
    ]
    assert 0 < float(files["testH/Hoops/timeOurs-2.txt"]) < 60  # a number and nothing else
    found = disparity(tmp_path, "map.pfm", files["testH/Hoops/disp0Ours-2.pfm"])
    assert found.shape == (40, 56)
    assert (found[3:] == 20).all()
    assert (found[1] == 400).all()  # no range that a picture would cut off


def test_eth3d_gets_maps_and_runtimes_in_one_folder(tmp_path, capsys):
    root = tmp_path / "eth3d"
    write_scenes(root, "two_view_test/lakeside_1l")
    out = tmp_path / "out"
    arguments = ["--benchmark", "eth3d", "--root", str(root), "--out", str(out)]
    main(arguments)
    assert "left out: there is no folder two_view_training" in capsys.readouterr().out
    write_scenes(root, "two_view_training/forest_1s")
    main(arguments)
    files = archive(out / "eth3d_cstr_small.zip")
    assert sorted(files) == [
        f"low_res_two_view/{scene}{suffix}"
        for scene in ("forest_1s", "lakeside_1l")
        for suffix in (".pfm", ".txt")
    ]
    word, seconds = files["low_res_two_view/forest_1s.txt"].decode().split()
    assert word == "runtime"
    assert 0 < float(seconds) < 60
    assert (disparity(tmp_path, "a.pfm", files["low_res_two_view/forest_1s.pfm"])[3:] == 20).all()


def test_the_method_is_called_what_the_weights_are_of(tmp_path, monkeypatch, capsys):
    home = tmp_path / "home"
    write_scenes(home / "eth3d", "two_view_test/lakeside_1l")
    monkeypatch.setenv("HOME", str(home))
    out = tmp_path / "out"
    arguments = ["--benchmark", "eth3d", "--root", "~/eth3d", "--out", str(out), "--weights"]
    weights, untold = tmp_path / "w.safetensors", tmp_path / "untold.safetensors"
    save_weights(nn.Linear(1, 1), weights, "sttr_light")
    main([*arguments, str(weights)])
    assert (out / "eth3d_sttr_light.zip").is_file()
    save_file({"weight": torch.zeros(1)}, untold)
    with pytest.raises(SystemExit, match="2"):
        main([*arguments, str(untold)])
    assert (
        "untold.safetensors doesn't say of which model it is; give --m" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--benchmark", "eth3d", "--root", "nowhere"], "nowhere doesn't exist"),
        (["--benchmark", "kitti2015", "--root", "."], "no pair of KITTI 2015"),
        (["--benchmark", "middlebury_v3_q", "--root", "."], "no pair of Middlebury v3"),
        (["--benchmark", "eth3d", "--root", ".", "--method", "a_s"], "--method 'a_s'"),
        (["--benchmark", "eth3d", "--root", ".", "--method", "a/b"], "--method 'a/b'"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--out", "out"])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error
    assert not (tmp_path / "out").exists()
