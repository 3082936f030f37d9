"""Fine-tuning the packaged `cstr_small` on a handful of pairs on disk, laid out as SceneFlow is."""

import pytest

from stereo_tr.recipe import TrainingSettings
from stereo_tr.scripts.train import main
from stereo_tr.training import train
from tests.scene_trees import write_flying_things

HEIGHT, WIDTH, STEPS = 48, 96, 20
COMMAND = f"""--weights cstr_small --data flyingthings3d --augmentation none --height {HEIGHT}
    --width {WIDTH} --batch 3 --steps {STEPS} --learning-rate 1e-3 --warmup 2 --ema 0.7
    --validate flyingthings3d --validate-every {STEPS} --workers 0"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp("things")
    write_flying_things(folder, count=3, height=HEIGHT, width=WIDTH)
    return folder


def errors(printed: str) -> list[float]:
    """EPE in pixels of each validation that was printed."""
    return [float(x.split("EPE ")[1].split()[0]) for x in printed.splitlines() if "EPE " in x]


def test_from_the_command_line(tree, tmp_path, capsys):
    main(["--out", str(tmp_path / "run"), "--root", str(tree), *COMMAND.split()])
    before, after = errors(capsys.readouterr().out)
    assert after < 0.8 * before and after < 1
    assert (tmp_path / "run" / "weights.safetensors").exists()


def test_from_python(tree, tmp_path, capsys):
    results = train(
        TrainingSettings(
            tmp_path / "run",
            weights="cstr_small",
            data=("flyingthings3d",),
            root=(str(tree),),
            augmentation="none",
            height=HEIGHT,
            width=WIDTH,
            batch=3,
            steps=STEPS,
            learning_rate=1e-3,
            warmup=2,
            ema=0.7,
            validate="flyingthings3d",
            validate_every=STEPS,
            workers=0,
        )
    )
    before, after = errors(capsys.readouterr().out)
    assert after < 0.8 * before and after < 1
    assert results["epe"] == pytest.approx(after, abs=1e-3)
