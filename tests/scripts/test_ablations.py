import json
from functools import partial

import pytest

from stereo_tr import stereo_data
from stereo_tr.pretrained import model_from_weights
from stereo_tr.scripts import comparison
from stereo_tr.scripts.ablations import SCORES, Ablations, compare, main

TINY = {
    "widths": [8, 16, 16, 24],
    "blocks": [1, 1, 1],
    "layers": 1,
    "context_heads": 2,
    "adjustment_width": 16,
    "refinement_width": 8,
}


def test_runs_are_scored_and_not_repeated(tmp_path, monkeypatch, capsys):
    plain = partial(stereo_data.GeneratedScenes, photographs=False)  # saves seconds
    monkeypatch.setattr(stereo_data, "GeneratedScenes", plain)
    settings = Ablations(
        out=tmp_path,
        variants=("whole", "no context"),
        seeds=(4,),
        override=tuple(f"{name}={json.dumps(value)}" for name, value in TINY.items()),
        steps=1,
        batch=1,
        height=32,
        width=48,
        scored=2,
        workers=0,
    )
    results = compare(settings)
    assert list(results) == ["whole", "no context"]
    assert all(set(scores) == set(SCORES) for scores in results.values())
    assert json.loads((tmp_path / "table.json").read_text()) == results
    assert "| no context | 1 |" in (tmp_path / "table.md").read_text()
    whole, without = (
        sum(p.numel() for p in model_from_weights(weights).parameters())
        for weights in sorted(tmp_path.glob("runs/*/weights.safetensors"), reverse=True)
    )
    assert whole > without

    capsys.readouterr()
    assert compare(settings) == results
    assert "no_context_4" not in capsys.readouterr().out  # nothing is trained twice
    (tmp_path / "runs" / "no_context_4" / "scores.json").unlink()  # killed before they were written
    assert compare(settings) == results
    with pytest.raises(ValueError, match="take another --out"):
        compare(Ablations(out=tmp_path, steps=2))


def test_the_table_tells_mean_and_spread():
    results = {}
    for value in (10.0, 14.0, 12.0):
        comparison.add(results, "whole", {"epe": value, "bad_2": 1.0})
    lines = comparison.table(results, {"epe": "EPE", "bad_2": "bad-2"}, digits=1).splitlines()
    assert lines[0] == "| variant | seeds | EPE | bad-2 |"
    assert lines[1] == "|---|---|---|---|"
    assert lines[2] == "| whole | 3 | 12.0 ± 2.0 | 1.0 ± 0.0 |"


def test_a_seed_counts_once(tmp_path):
    with pytest.raises(ValueError, match="--seeds names 0 twice; give each once"):
        compare(Ablations(out=tmp_path / "x", seeds=(0, 1, 0)))
    assert not (tmp_path / "x").exists()


def test_an_unknown_variant_is_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path / "x"), "--variants", "no eyes"])
    assert "--variants takes 'whole', 'no context'" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
