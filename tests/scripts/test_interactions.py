import json
from functools import partial

import pytest

from stereo_tr.datasets import generated_panoptic
from stereo_tr.datasets.files import read_image
from stereo_tr.datasets.generated_panoptic import GeneratedPanoptic
from stereo_tr.datasets.panoptic_folder import PanopticFolder
from stereo_tr.scripts.interactions import Interactions, compare, main

TINY = {
    "encoder": {"widths": [8, 12, 16, 20], "depths": [1, 1, 1, 1]},
    "num_queries": 5,
    "layers": [1, 1, 1],
    "decoder_widths": [8, 8, 8, 8],
    "channels": 16,
    "filters": 8,
    "feed_forward": 24,
    "hidden": 12,
    "features": 16,
    "losses": {"sampled_pixels": 50},
}


def test_runs_are_scored_drawn_and_not_repeated(tmp_path, monkeypatch, capsys):
    plain = partial(GeneratedPanoptic, photographs=False)  # saves seconds
    monkeypatch.setattr(generated_panoptic, "GeneratedPanoptic", plain)
    settings = Interactions(
        out=tmp_path,
        interactions=("cross", "kmeans"),
        seeds=(5,),
        override=tuple(f"{name}={json.dumps(value)}" for name, value in TINY.items()),
        steps=1,
        batch=1,
        size=48,
        images=2,
        scored=2,
    )
    results = compare(settings)
    assert list(results) == ["cross", "kmeans"]
    assert all(len(values) == 1 for scores in results.values() for values in scores.values())
    assert json.loads((tmp_path / "table.json").read_text()) == results
    table = (tmp_path / "table.md").read_text()
    assert "| kmeans | 1 |" in table
    # Rows of three layers and the result; image and truth below.
    assert read_image(tmp_path / "clusters.png").shape == (3 * (96 + 24) - 4, 4 * 100 - 4, 3)

    data, truth = PanopticFolder(tmp_path / "data"), plain(48, 48, coarse=True, few=True)
    assert data.classes == truth.classes
    assert sorted(data[1].classes.tolist()) == sorted(truth[1].classes.tolist())
    assert ((data[1].segment_map == 0) == (truth[1].segment_map == 0)).all()

    capsys.readouterr()
    assert compare(settings) == results
    assert "seed 5" not in capsys.readouterr().out  # nothing is trained twice
    with pytest.raises(ValueError, match="take another --out"):
        compare(Interactions(out=tmp_path, steps=2))


def test_an_unknown_interaction_is_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path / "x"), "--interactions", "k-means"])
    assert "--interactions takes cross, dual_cross" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
