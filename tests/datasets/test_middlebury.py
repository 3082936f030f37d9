"""Middlebury of every year: factors by size, masks, sizes of v3; and a real scene."""

from pathlib import Path

import numpy as np
import pytest
import torch
import trees

from stereo_tr.datasets.middlebury import (
    Middlebury2001,
    Middlebury2003,
    Middlebury2005,
    Middlebury2006,
    Middlebury2014,
    Middlebury2021,
    MiddleburyV3,
)
from stereo_tr.scripts.check import warp_errors

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "middlebury_eval3_Q" / "Motorcycle"


def write_grey_scene(scene, names, stored, width):
    """Stored disparity `stored` everywhere, but for an unknown corner."""
    trees.write_views(scene / names[0], scene / names[1], 3, width)
    for name in names[2:]:
        grey = np.full((3, width), stored, np.uint8)
        grey[0, 0] = 0
        trees.write_picture(scene / name, grey)


@pytest.mark.parametrize(
    ("loader", "names", "width", "expected"),
    [
        (Middlebury2001, ("im2.ppm", "im6.ppm", "disp2.pgm", "disp6.pgm"), 434, 60 / 8),
        (Middlebury2003, ("im2.png", "im6.png", "disp2.png", "disp6.png"), 450, 60 / 4),
        (Middlebury2003, ("im2.png", "im6.png", "disp2.png"), 900, 60 / 2),
        (Middlebury2003, ("im2.png", "im6.png", "disp2.png"), 1800, 60),
        (Middlebury2005, ("view1.png", "view5.png", "disp1.png", "disp5.png"), 463, 60 / 3),
        (Middlebury2005, ("view1.png", "view5.png", "disp1.png", "disp5.png"), 695, 60 / 2),
        (Middlebury2006, ("view1.png", "view5.png", "disp1.png", "disp5.png"), 1240, 60),
    ],
)
def test_the_factor_goes_with_year_and_size(tmp_path, loader, names, width, expected):
    write_grey_scene(tmp_path / "ThirdSize" / "Art", names, 60, width)
    (sample,) = loader(tmp_path)
    assert sample.name == "ThirdSize/Art"
    assert (~sample.valid).nonzero().tolist() == [[0, 0]]
    assert sample.disparity[sample.valid].unique().tolist() == [expected]
    assert sample.right_valid.any() == (len(names) == 4)
    assert [entry.name for entry in loader(tmp_path / "ThirdSize").entries] == ["Art"]


def test_tsukuba_is_named_and_scaled_otherwise(tmp_path):
    names = ("scene1.row3.col3.ppm", "scene1.row3.col4.ppm", "truedisp.row3.col3.pgm")
    write_grey_scene(tmp_path / "tsukuba", names, 80, 384)
    (sample,) = Middlebury2001(tmp_path)
    assert sample.disparity[sample.valid].unique().tolist() == [5]


def write_pfm_scene(scene, suffix="", mask=False):
    trees.write_views(scene / "im0.png", scene / "im1.png")
    disparity = trees.ramp()
    disparity[2, 3] = np.inf
    trees.write_pfm(scene / f"disp0{suffix}.pfm", disparity)
    if mask:
        grey = np.full((3, 5), 255, np.uint8)
        grey[0, 0], grey[2, 3] = 128, 0
        trees.write_picture(scene / "mask0nocc.png", grey)


def test_v3_is_opened_by_its_size(tmp_path):
    write_pfm_scene(tmp_path / "trainingQ" / "Motorcycle", "GT", mask=True)
    write_pfm_scene(tmp_path / "trainingH" / "PianoL", "GT")
    pairs = MiddleburyV3(tmp_path, "H")
    assert [entry.name for entry in pairs.entries] == ["trainingH/PianoL"]
    assert not pairs.occlusion_known(0)


def test_views_of_v3_open_without_truth_where_that_is_said(tmp_path):
    scene = tmp_path / "trainingQ" / "Piano"
    trees.write_views(scene / "im0.png", scene / "im1.png")
    with pytest.raises(FileNotFoundError, match=r"no disparity for .*Piano"):
        MiddleburyV3(tmp_path)
    assert len(MiddleburyV3(tmp_path, truth=False)) == 1


def test_v3_below_the_folder_of_its_archive(tmp_path):
    above = tmp_path / "MiddEval3"
    write_pfm_scene(above / "trainingQ" / "Motorcycle", "GT", mask=True)
    trees.write_views(above / "testF" / "Hoops" / "im0.png", above / "testF" / "Hoops" / "im1.png")
    pairs = MiddleburyV3(tmp_path)
    (sample,) = pairs
    assert pairs.occlusion_known(0)
    assert (~sample.valid).nonzero().tolist() == [[2, 3]]
    # Only what the mask says: by the disparity alone, pixels near the left border lie outside too.
    assert sample.occluded.nonzero().tolist() == [[0, 0]]
    expected = torch.from_numpy(trees.ramp())
    expected[2, 3] = 0
    torch.testing.assert_close(sample.disparity, expected)
    assert not MiddleburyV3(tmp_path, "F", "test")[0].valid.any()


def test_2014_and_2021_are_in_pixels_of_their_size(tmp_path):
    for scene in ("Piano-perfect", "Piano-imperfect"):
        write_pfm_scene(tmp_path / "2014" / scene)
    write_pfm_scene(tmp_path / "2021" / "data" / "artroom1")
    assert [e.name for e in Middlebury2014(tmp_path / "2014").entries] == ["Piano-perfect"]
    imperfect = Middlebury2014(tmp_path / "2014", "imperfect")
    assert [e.name for e in imperfect.entries] == ["Piano-imperfect"]
    (phone,) = Middlebury2021(tmp_path / "2021")
    assert phone.disparity[2, 4] == 2 + 1 + 0.25
    assert (~phone.valid).nonzero().tolist() == [[2, 3]]


@pytest.mark.skipif(not SHARED.is_dir(), reason="real pairs are not at ../shared/data")
def test_the_truth_of_a_real_scene_explains_its_left_view(tmp_path):
    scene = tmp_path / "trainingQ" / "Motorcycle"
    names = {"left": "im0.png", "right": "im1.png", "disp": "disp0GT.pfm", "nocc": "mask0nocc.png"}
    for source in SHARED.iterdir():
        if source.stem in names:
            trees.link(scene / names[source.stem], source)
    (sample,) = MiddleburyV3(tmp_path)
    errors = warp_errors(sample)
    assert errors[0] < 0.7 * min(errors[-1], errors[1])
    assert 0.05 < sample.occluded.float().mean() < 0.2
