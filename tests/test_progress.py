import io
import sys

import pytest

from stereo_tr.progress import clock, progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_plain_lines_tell_count_time_and_note(capsys, monkeypatch):
    now = iter([0.0, 12.0, 15.0, 24.0, 36.0])
    monkeypatch.setattr("stereo_tr.progress.time.monotonic", lambda: next(now))
    steps = progress(range(2, 6), total=6, initial=2, label="training")
    for step in steps:
        steps.note(f"loss {step}")
    assert capsys.readouterr().err.splitlines() == [
        "training 3/6, 0:12 gone, 0:36 to go, loss 2",  # 12 s a step, three left
        "training 5/6, 0:24 gone, 0:08 to go, loss 4",  # the one at 15 s came too soon
        "training 6/6, 0:36 gone, 0:00 to go, loss 5",
    ]


def test_without_a_length_there_is_no_time_to_go(capsys):
    assert list(progress(iter("ab"), label="reading")) == ["a", "b"]
    assert capsys.readouterr().err == "reading 1, 0:00 gone\n"


def test_a_bar_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    steps = progress([10, 20, 30], label="matching")
    for _ in steps:
        steps.note("EPE 0.5")
        steps.print("a line")
    assert "3/3" in terminal.getvalue()
    assert "EPE 0.5" in terminal.getvalue()
    assert capsys.readouterr().out == "a line\n" * 3


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_errors_pass_and_the_bar_is_closed(monkeypatch, error):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())

    def failing():
        for step in progress(range(5), label="matching"):
            if step == 2:
                raise error

    with pytest.raises(error):
        failing()
    assert "2/5" in terminal.getvalue()


def test_hidden_shows_nothing(capsys):
    assert list(progress(range(3), label="x", hidden=True)) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_clock():
    assert [clock(s) for s in (5.4, 65.0, 3725.0)] == ["0:05", "1:05", "1:02:05"]
