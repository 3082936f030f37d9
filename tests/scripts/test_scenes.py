"""`stereo-tr scenes`: writes its picture, says what is wrong in one line."""

import cv2
import numpy as np
import pytest

from stereo_tr.datasets.generated import GeneratedScenes
from stereo_tr.scripts import scenes

SMALL = ["--height", "24", "--width", "40", "--no-photographs"]


def test_the_sheet_holds_the_views_of_its_scenes(tmp_path, capsys):
    out = tmp_path / "sheet.png"
    scenes.main(["--out", str(out), "--count", "2", "--seed", "0", "--first", "5", *SMALL])
    sheet = cv2.imread(str(out))[..., ::-1]
    assert sheet.shape == (2 * (24 + scenes.GAP), 5 * (40 + scenes.GAP), 3)
    second = GeneratedScenes(24, 40, photographs=False)[6]
    top, left = 24 + scenes.GAP, 40 + scenes.GAP
    right = np.rint(second.right.permute(1, 2, 0).numpy() * 255)
    np.testing.assert_array_equal(sheet[top : top + 24, left : left + 40], right)
    assert str(out) in capsys.readouterr().out


def test_the_help_of_a_switch_says_what_it_does(capsys):
    with pytest.raises(SystemExit):
        scenes.main(["--help"])
    text = capsys.readouterr().out
    for switch in ("--no-photographs", "--no-camera"):
        (line,) = [line for line in text.splitlines() if switch in line]
        assert "leave out" in line and "default" not in line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--count", "0"], "--count must be at least 1"),
        (["--out", "sheet.jpg"], ".png"),
        (["--height", "3"], "16x16"),
        (["--out", "/nowhere/sheet.png"], "/nowhere/sheet.png"),
    ],
)
def test_bad_settings_are_one_line(arguments, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        scenes.main(["--out", "sheet.png", *SMALL, *arguments])
    message = capsys.readouterr().err
    assert stop.value.code == 2
    assert says in message
    assert message.count("\n") == 1
    assert not list(tmp_path.iterdir())
