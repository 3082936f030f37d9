"""What ends a run: one sentence that says what happened and where the last good checkpoint is."""

import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from stereo_tr import checkpoint, stereo_data, training
from stereo_tr.recipe import TrainingSettings
from stereo_tr.training import train
from stereo_tr.training_run import TrainingError
from tests.scene_trees import write_flying_things
from tests.stand_in import TinyPairs, environment, register
from tests.test_training import final, settings


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch)


def where(folder: Path, step: int) -> str:
    return f"The last checkpoint is {folder}/last.pt, after step {step}; --resume goes on from it"


@contextmanager
def files_no_larger_than(count: int) -> Iterator[None]:
    """No file can grow beyond `count` bytes, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield resource.setrlimit(resource.RLIMIT_FSIZE, (count, before[1]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("room", [50, 5000])
def test_a_full_disk(tmp_path, capsys, room):
    """Met by the log, or with some more room by the checkpoint.

    capsys keeps what is printed in memory; pytest's files couldn't grow either.
    """
    out = tmp_path / "run"
    with ExitStack() as stack, pytest.raises(TrainingError) as ended:
        TinyPairs.happen = {5 * 3: lambda: stack.enter_context(files_no_larger_than(room))}
        train(settings(out, save_minutes=0.0))
    name = "log.jsonl" if room == 50 else "last.pt.new"
    assert str(ended.value).startswith(f"cannot write {out / name}: File too large. ")
    assert str(ended.value).endswith(where(out, 5))
    assert final(out)["/step"] == 5
    assert not list(out.glob(".*"))
    TinyPairs.happen = {}
    assert train(TrainingSettings(out, resume=True, workers=0))["finished"]


@pytest.mark.parametrize("broken", ["frames_finalpass", "disparity"])
def test_a_truncated_file(tmp_path, broken):
    write_flying_things(tmp_path, count=5, height=20, width=36)
    [file] = (tmp_path / broken).glob("**/right/0003.*")
    file.write_bytes(file.read_bytes()[:-80])
    out = tmp_path / "run"
    data = {"data": ("flyingthings3d",), "root": (str(tmp_path),), "validate": "tiny"}
    with pytest.raises(TrainingError) as ended:
        train(settings(out, **data, batch=1, steps=5))
    step = final(out)["/step"]
    assert str(ended.value).startswith(f"sample {step} of the run can't be read: {file}: truncated")
    assert str(ended.value).endswith(where(out, step))  # the steps before it aren't lost
    assert "\n" not in str(ended.value)


def test_a_damaged_packed_file(tmp_path):
    h5py = pytest.importorskip("h5py")
    from stereo_tr.scripts.pack import Pack, pack

    write_flying_things(tmp_path, count=4, height=20, width=36)
    file = tmp_path / "things.h5"
    pack(Pack("flyingthings3d", tmp_path, file))
    with h5py.File(file) as packed:
        record = packed["records"].id.get_offset() + packed["starts"][2]
    data = bytearray(file.read_bytes())
    data[record + 30] ^= 255
    file.write_bytes(data)
    out = tmp_path / "run"
    with pytest.raises(TrainingError, match=r"^sample \d of the run can't be read: .*things\.h5"):
        train(settings(out, data=("packed",), root=(str(file),), validate="tiny", batch=1))


class Deadly(TinyPairs):
    """Pair 20 kills who reads it, as the kernel does where memory is short."""

    def __getitem__(self, index):
        if index == 20 and self.seed == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


def test_a_helper_that_dies(tmp_path, monkeypatch):
    monkeypatch.setitem(stereo_data.DATA, "tiny", Deadly)
    with pytest.raises(TrainingError) as ended:
        train(settings(tmp_path / "run", workers=1, save_minutes=0.0))
    # How it is noticed, by its signal or by what it was sending, is a matter of moments.
    ended.match(r"^a helper that loads the data died; is memory short\? \([^)]+(\)[^)]+)*\)\. ")
    step = final(tmp_path / "run")["/step"]
    assert str(ended.value).endswith(where(tmp_path / "run", step))
    assert step <= 6


class Torn(DataLoader[None]):
    """A loader whose helper has just died, so that what it was sending can't be taken over."""

    def __init__(self, error: Exception) -> None:
        super().__init__([None])
        self.error = error

    def __iter__(self) -> Iterator[None]:
        raise self.error
        yield


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "[Errno 111] Connection refused"),
        (ConnectionResetError(104, "Connection reset"), "[Errno 104] Connection reset"),
        (EOFError(), "EOFError"),
    ],
)
def test_a_helper_found_dead_by_what_it_sent(tmp_path, monkeypatch, error, text):
    monkeypatch.setattr(training, "make_loader", lambda *_: Torn(error))
    with pytest.raises(TrainingError) as ended:
        train(settings(tmp_path / "run"))
    text = f"a helper that loads the data died; is memory short? ({text}). "
    assert str(ended.value).startswith(text)


def test_nothing_was_written_yet(tmp_path, capsys):
    with files_no_larger_than(3000), pytest.raises(TrainingError, match="No checkpoint was writt"):
        train(settings(tmp_path / "run"))
    assert not checkpoint.has_run(tmp_path / "run")


@pytest.mark.skipif(
    "STEREO_TR_KILLS" not in os.environ, reason="takes long; set STEREO_TR_KILLS to run it"
)
def test_a_rank_that_dies(tmp_path):
    command = f"""--out {tmp_path / "run"} --model tiny --data tiny --height 6 --width 11 --batch 6
        --steps 9000 --validate-pairs 5 --workers 0 --save-minutes 0"""
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launch, "-m", "tests.stand_in", *command.split()],
        timeout=600,
        capture_output=True,
        text=True,
        cwd=tempfile.gettempdir(),
        env=environment() | {"STEREO_TR_DIES_AT": str(7 * 6 + 3)},
    )
    assert done.returncode == 1
    [line] = [x for x in done.stderr.splitlines() if x.startswith("stereo-tr train: ")]
    assert "process 0 has lost another process of this run" in line
    assert line.endswith(where(tmp_path / "run", final(tmp_path / "run")["/step"]))
