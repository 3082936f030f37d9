import cv2
import numpy as np
import pytest
import tiny
import trimesh

from stereo_tr.datasets.files import read_disparity, read_image
from stereo_tr.scripts.estimate import main

ALWAYS = ["left.pfm", "left.png", "left_color.png", "left_occlusion.png"]
METRES = ["--focal-length", "100", "--baseline", "0.5"]


@pytest.fixture(autouse=True)
def model(monkeypatch):
    tiny.use_it(monkeypatch)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_one_pair_gives_four_files_and_says_where(tmp_path, capsys):
    out = tmp_path / "new" / "out"
    main([*tiny.write_views(tmp_path), "--out", str(out)])
    assert names(out) == ALWAYS
    disparity, valid = read_disparity(out / "left.pfm")
    assert disparity.shape == (40, 56)
    assert valid.all()
    assert (disparity[3:] == 20).all()
    assert (disparity[1] == 400).all()
    stored = cv2.imread(str(out / "left.png"), cv2.IMREAD_UNCHANGED)
    assert stored.dtype == np.uint16
    assert [stored[y, 9] for y in (1, 2, 3)] == [0, 1, 20 * 256]  # unknown, known zero, 20 px
    occlusion = cv2.imread(str(out / "left_occlusion.png"), cv2.IMREAD_UNCHANGED)
    assert (occlusion[:, :4] == 191).all()
    assert (occlusion[:, 4:] == 0).all()
    picture = read_image(out / "left_color.png")
    assert picture.shape[0] > 40  # a scale bar stands below
    printed = capsys.readouterr()
    assert all(str(out / name) in printed.out for name in ALWAYS)
    assert printed.err == ""


def test_depth_is_in_metres(tmp_path):
    main([*tiny.write_views(tmp_path), "--out", str(tmp_path / "out"), "--depth", *METRES])
    assert names(tmp_path / "out") == sorted([*ALWAYS, "left_depth.pfm"])
    depth, known = read_disparity(tmp_path / "out" / "left_depth.pfm")
    assert (depth[3:] == 2.5).all()  # 100 px * 0.5 m / 20 px
    assert not known[2].any()  # disparity 0: infinitely far
    offset = ["--principal-offset", "5"]
    main([*tiny.write_views(tmp_path), "--out", str(tmp_path / "out"), "--depth", *METRES, *offset])
    depth, known = read_disparity(tmp_path / "out" / "left_depth.pfm")
    assert known.all()
    assert (depth[2:4, 0] == [10, 2]).all()


def test_depth_from_a_calibration_file(tmp_path):
    calibration = tmp_path / "calib.txt"
    camera = "[100 0 30; 0 100 20; 0 0 1]"
    calibration.write_text(f"cam0={camera}\ncam1={camera}\nbaseline=500\nwidth=56\nheight=40\n")
    views = tiny.write_views(tmp_path)
    main([*views, "--out", str(tmp_path / "out"), "--depth", "--calibration", str(calibration)])
    assert read_disparity(tmp_path / "out" / "left_depth.pfm")[0][9, 9] == 2.5


def test_point_cloud_has_colours_and_leaves_out_what_is_guessed(tmp_path):
    views = tiny.write_views(tmp_path)
    main([*views, "--out", str(tmp_path / "out"), "--ply", *METRES])
    cloud = trimesh.load(tmp_path / "out" / "left.ply")
    # without the 4 occluded columns and the row at infinity
    assert cloud.vertices.shape == (39 * 52, 3)
    first = cloud.vertices[0]  # pixel (4, 0); the centre is at (27.5, 19.5)
    np.testing.assert_allclose(first, [-23.5 * 2.5 / 100, -19.5 * 2.5 / 100, 2.5], rtol=1e-5)
    np.testing.assert_array_equal(cloud.colors[0, :3], read_image(views[0])[0, 4])


@pytest.mark.filterwarnings("default")
def test_a_pair_without_near_points_is_warned_of_and_the_others_go_on(tmp_path, capsys):
    for scene in "ab":
        tiny.write_views(tmp_path, f"l/{scene}.png", f"r/{scene}.png")
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.ply").write_text("an older result's")
    far = ["--principal-offset", "-500"]  # every point is further than infinity
    views = [str(tmp_path / side) for side in "lr"]
    main([*views, "--out", str(out), "--ply", *METRES, *far])
    assert names(out) == sorted(name.replace("left", scene) for scene in "ab" for name in ALWAYS)
    printed = capsys.readouterr()
    assert "a.png: no point is seen by both cameras and near enough" in printed.err
    assert "b.ply isn't written" in printed.err
    assert ".ply" not in printed.out


def test_folders_and_globs(tmp_path, capsys):
    for scene in ("a", "b", "c"):
        tiny.write_views(tmp_path, f"{scene}/l.png", f"{scene}/r.png")
    out = tmp_path / "out"
    main([str(tmp_path / "*" / "l.png"), str(tmp_path / "*" / "r.png"), "--out", str(out)])
    assert [name for name in names(out) if name.endswith(".pfm")] == [
        "a_l.pfm",
        "b_l.pfm",
        "c_l.pfm",
    ]
    assert len(names(out)) == 12
    assert "estimate 3/3" in capsys.readouterr().err


def test_sixteen_bits_and_odd_names(tmp_path):
    views = cv2.imread(tiny.write_views(tmp_path)[0]).astype(np.uint16) * 257
    for name in ("die linke.sicht.tif", "right.png"):
        cv2.imwrite(str(tmp_path / name), views)
    left, right = str(tmp_path / "die linke.sicht.tif"), str(tmp_path / "right.png")
    main([left, right, "--out", str(tmp_path / "out")])
    assert "die linke.sicht_color.png" in names(tmp_path / "out")


def test_example_writes_its_views_and_its_error(tmp_path, capsys):
    main(["--example", "--out", str(tmp_path)])
    results = [name.replace("left", "example") for name in ALWAYS]
    assert names(tmp_path) == sorted([*results, "example_left.png", "example_right.png"])
    assert read_image(tmp_path / "example_left.png").shape == (480, 640, 3)
    assert "visible pixels EPE" in capsys.readouterr().out


def test_an_older_result_is_replaced(tmp_path):
    views = tiny.write_views(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "left.pfm").write_text("old")
    main([*views, "--out", str(tmp_path / "out")])
    assert read_disparity(tmp_path / "out" / "left.pfm")[0].shape == (40, 56)


@pytest.mark.filterwarnings("default")
def test_swapped_views_are_warned_of_in_one_line(tmp_path, capsys):
    left, right = tiny.write_views(tmp_path, height=200, width=400)
    main([right, left, "--out", str(tmp_path / "out")])
    error = capsys.readouterr().err
    assert error.startswith(f"stereo-tr estimate: warning: {right} and {left} look swapped")
    assert error.count("\n") == 1


def test_two_processes_write_what_one_writes(tmp_path):
    for scene in ("a", "b", "c"):
        tiny.write_views(tmp_path, f"{scene}/l.png", f"{scene}/r.png")
    views = [str(tmp_path / "*" / "l.png"), str(tmp_path / "*" / "r.png")]
    one, two = tmp_path / "one", tmp_path / "two"
    main([*views, "--out", str(one)])
    said = tiny.run_in_processes(2, ["estimate", *views, "--out", str(two)])
    assert all(f"{scene}_l: 56x40 px" in said for scene in ("a", "b", "c"))
    files = [{path.name: path.read_bytes() for path in out.iterdir()} for out in (one, two)]
    assert files[0] == files[1]
    assert len(files[0]) == 3 * len(ALWAYS)
