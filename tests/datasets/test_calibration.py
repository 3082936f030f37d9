from pathlib import Path

import pytest

from stereo_tr.datasets.calibration import read_calibration

MIDDLEBURY = """cam0=[1000 0 300; 0 1000 250; 0 0 1]
cam1=[1000 0 332; 0 1000 250; 0 0 1]
doffs=32
baseline=193.5
width=741
height=497
"""
# the grey cameras at 0 and 0.5 m, the colour ones at -0.06 and 0.48 m
KITTI = """P0: 700 0 600 0 0 700 170 0 0 0 1 0
P1: 700 0 600 -350 0 700 170 0 0 0 1 0
P2: 700 0 600 42 0 700 170 0.2 0 0 1 0.003
P3: 700 0 601 -336 0 700 170 2.2 0 0 1 0.003
"""
REAL = Path(__file__).parents[3] / "shared" / "data"


def written(folder, text):
    (folder / "calib.txt").write_text(text)
    return folder / "calib.txt"


def test_middlebury_in_metres(tmp_path):
    found = read_calibration(written(tmp_path, MIDDLEBURY))
    assert (found.focal_length, found.principal_offset) == (1000, 32)
    assert found.baseline == pytest.approx(0.1935)
    assert found.principal_point == (300, 250)
    assert found.size == (497, 741)


def test_a_byte_order_mark_is_passed_over(tmp_path):
    marked = read_calibration(written(tmp_path, "\ufeff" + MIDDLEBURY))
    assert marked == read_calibration(written(tmp_path, MIDDLEBURY))


def test_middlebury_offset_follows_from_the_cameras(tmp_path):
    found = read_calibration(written(tmp_path, MIDDLEBURY.replace("doffs=32\n", "")))
    assert found.principal_offset == 32


def test_kitti_takes_the_colour_cameras(tmp_path):
    found = read_calibration(written(tmp_path, KITTI))
    assert found.baseline == pytest.approx(0.54)
    assert (found.focal_length, found.principal_offset) == (700, 1)
    assert found.principal_point == (600, 170)
    assert found.size is None


def test_kitti_2015_spelling(tmp_path):
    text = "calib_time: 09-Jan-2012 13:57:47\ncorner_dist: 9.9e-02\nS_02: 1.392e+03 5.12e+02\n"
    text += KITTI.replace("P2", "P_rect_02").replace("P3", "P_rect_03")
    assert read_calibration(written(tmp_path, text)).baseline == pytest.approx(0.54)


def test_kitti_grey(tmp_path):
    text = "".join(KITTI.splitlines(keepends=True)[:2])
    assert read_calibration(written(tmp_path, text)).baseline == pytest.approx(0.5)


@pytest.mark.parametrize(
    "text", [MIDDLEBURY.replace("baseline=193.5\n", ""), KITTI.splitlines()[2] + "\n"]
)
def test_a_missing_baseline_says_what_to_pass(tmp_path, text):
    path = written(tmp_path, text)
    with pytest.raises(ValueError, match=r"calib.txt: no baseline; pass .* \(--baseline\)"):
        read_calibration(path)
    assert read_calibration(path, baseline=0.3).baseline == 0.3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hello\n", "no calibration of Middlebury"),
        (MIDDLEBURY.replace("193.5", "wide"), "baseline should hold 1 number"),
        (MIDDLEBURY.replace("193.5", "0"), "must be positive"),
        (KITTI.replace("-336", "336"), "cameras swapped"),
        (KITTI.replace("P3: 700 ", "P3: "), r"P3 should hold 12 number"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, message):
    with pytest.raises(ValueError, match=rf"calib.txt.*{message}"):
        read_calibration(written(tmp_path, text))


def test_what_is_no_text_is_named(tmp_path):
    (tmp_path / "calib.txt").write_bytes(b"\x89PNG\xff")
    with pytest.raises(ValueError, match="not a text file"):
        read_calibration(tmp_path / "calib.txt")
    with pytest.raises(FileNotFoundError, match=r"gone\.txt"):
        read_calibration(tmp_path / "gone.txt")


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the real pairs of ../shared/data")
def test_published_files():
    found = read_calibration(REAL / "middlebury_eval3_Q" / "Motorcycle" / "calib.txt")
    assert (found.focal_length, found.principal_offset) == (999.421, 32.778)
    assert found.baseline == pytest.approx(0.193001)
    found = read_calibration(REAL / "eth3d" / "playground_1l" / "calib.txt")
    assert found.baseline == pytest.approx(0.0595549)
    assert found.size == (490, 941)
