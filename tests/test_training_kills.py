"""A run killed again and again at random moments ends with the bits of one never killed.

Three times here; STEREO_TR_KILLS=20 kills as often as one likes. The kills come from outside
(SIGKILL), some while a launch is starting, most at a random moment of its training. It saves after
every step, so that many of them hit the writing of a checkpoint.
"""

import multiprocessing
import os
import random
import time
from dataclasses import replace
from pathlib import Path

import pytest

from stereo_tr import checkpoint
from stereo_tr.recipe import TrainingSettings
from stereo_tr.training import train
from tests.stand_in import environment, register
from tests.test_training import assert_same_run, settings

KILLS = int(os.environ.get("STEREO_TR_KILLS", "3"))
FOREVER = 10**6


def launch(chosen: TrainingSettings) -> None:
    """Train in a process of its own."""
    with pytest.MonkeyPatch.context() as patch:
        register(patch)
        train(chosen)


def steps_of_launches(folder: Path) -> list[int]:
    """How many steps the log holds of each launch."""
    if not (folder / "log.jsonl").exists():
        return []
    launches = (folder / "log.jsonl").read_bytes().split(b'"command"')[1:]
    return [launch.count(b"train/total") for launch in launches]


def newer_steps(folder: Path, before: list[int]) -> int:
    """How many steps a launch has logged that isn't among those `before`; -1: it hasn't begun."""
    now = steps_of_launches(folder)
    return now[-1] if len(now) > len(before) else -1


def test_killed_at_random_moments(tmp_path, monkeypatch, capsys):
    # A server that has imported everything starts each launch in no time, with one thread.
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    context = multiprocessing.get_context("forkserver")
    # torch's optimizers import the last one when the first of them is made, in seconds.
    context.set_forkserver_preload(["tests.stand_in", "stereo_tr.training", "torch._dynamo"])
    out, draw = tmp_path / "killed", random.Random(KILLS)
    # A rate that doesn't depend on the number of steps, so that this may be chosen at the end.
    new = settings(out, steps=FOREVER, schedule="constant", save_minutes=0.0)
    again = TrainingSettings(out, resume=True, workers=0, log_every=1, save_minutes=0.0)
    writing, reached = 0, []
    for kill in range(KILLS):
        resume = checkpoint.has_run(out)
        launches = steps_of_launches(out)
        child = context.Process(target=launch, args=(again if resume else new,), daemon=True)
        child.start()
        began = time.monotonic()
        # Every fourth is killed while it starts; the others within a step after some steps, at a
        # moment that is drawn from the time a step takes here and now.
        done = 0
        for wanted in range(draw.randint(1, 5)) if kill % 4 != 3 else []:
            while (done := newer_steps(out, launches)) <= wanted:
                assert child.exitcode is None, "it ended by itself"
                time.sleep(0.001)
        longest = (time.monotonic() - began) / (done + 1) if done else 0.3
        time.sleep(draw.uniform(0, longest))
        child.kill()
        child.join()
        assert child.exitcode == -9
        writing += any(out.glob(".*.pt*")) or (out / "last.pt.new").exists()
        reached.append(checkpoint.load_last(out)[0]["step"] if checkpoint.has_run(out) else 0)
    steps = reached[-1] + 3
    with capsys.disabled():
        print(f"\n{KILLS} kills, {writing} while a checkpoint was written; at steps {reached}")
    register(monkeypatch)
    assert train(replace(again, steps=steps))["finished"]
    train(replace(new, out=tmp_path / "whole", steps=steps))
    assert_same_run(out, tmp_path / "whole")
    names = [{path.name for path in Path(folder).iterdir()} for folder in (out, tmp_path / "whole")]
    assert names[0] == names[1]  # nothing of the killed saves is left
