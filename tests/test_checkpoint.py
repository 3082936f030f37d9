"""Checkpoints: whole or not at all, whatever goes wrong while one is written."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stereo_tr import checkpoint


@pytest.mark.parametrize("failure", ["fsync", "replace"])
def test_a_failing_save_leaves_the_old_checkpoint(tmp_path, monkeypatch, failure):
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for step in (1, 2):
        checkpoint.save_checkpoint(tmp_path, {"step": step})
    with monkeypatch.context() as patch:
        owner = os if failure == "fsync" else Path
        patch.setattr(owner, failure, full)
        with pytest.raises(OSError, match="No space left"):
            checkpoint.save_checkpoint(tmp_path, {"step": 3})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.pt", "previous.pt"]
    assert checkpoint.load_last(tmp_path)[0]["step"] == 2


@pytest.mark.parametrize(("links", "left"), [(True, (2, 2, 2, 3)), (False, (2, 2, 3, 3))])
def test_each_moment_of_a_save_leaves_a_whole_checkpoint(tmp_path, monkeypatch, links, left):
    rename = Path.replace
    if not links:

        def refuse(path: Path, target: Path):
            raise OSError

        monkeypatch.setattr(Path, "hardlink_to", refuse)

    class KilledError(BaseException):
        pass

    for moment in range(4):
        folder = tmp_path / str(moment)
        folder.mkdir()
        for step in (1, 2):
            checkpoint.save_checkpoint(folder, {"step": step})
        calls = iter(range(10))

        def until(path: Path, target: Path, calls: Iterator[int] = calls, moment: int = moment):
            if next(calls) == moment:
                raise KilledError
            return rename(path, target)

        monkeypatch.setattr(Path, "replace", until)
        if moment < 3:
            with pytest.raises(KilledError):
                checkpoint.save_checkpoint(folder, {"step": 3})
        else:
            checkpoint.save_checkpoint(folder, {"step": 3})
        monkeypatch.setattr(Path, "replace", rename)
        assert checkpoint.load_last(folder)[0]["step"] == left[moment]
        if links:  # what a run that ends names is there at any moment
            assert checkpoint.load_checkpoint(folder / "last.pt")["step"] == left[moment]
            checkpoint.save_checkpoint(folder, {"step": 4})
            steps = [
                checkpoint.load_checkpoint(folder / f"{name}.pt")["step"]
                for name in ("last", "previous")
            ]
            assert steps == [4, left[moment]]


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path):
    for step in (1, 2):
        checkpoint.save_checkpoint(tmp_path, {"step": step})
    last = tmp_path / "last.pt"
    last.write_bytes(last.read_bytes()[:-100])
    state, path = checkpoint.load_last(tmp_path)
    assert (state["step"], path.name) == (1, "previous.pt")
    (tmp_path / "previous.pt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"last.pt is no whole checkpoint.*previous.pt is no"):
        checkpoint.load_last(tmp_path)
