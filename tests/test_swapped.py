from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from stereo_tr.swapped import look_swapped

DATA = Path(__file__).parents[2] / "shared" / "data"
SCENES = sorted(path.parent for path in DATA.glob("*/*/left.png"))


def shifted_pair(disparity, height=90, width=230):
    noise = np.random.default_rng(1).random((3, height // 5, width // 4)).transpose(1, 2, 0)
    texture = cv2.resize(noise, (width + 80, height)).transpose(2, 0, 1)
    texture = torch.from_numpy(np.clip(texture, 0, 1)).float()
    return texture[..., 40 : width + 40], texture[..., 40 + disparity : width + 40 + disparity]


@pytest.mark.parametrize("disparity", [5, 13, 40])
def test_a_shift_the_wrong_way_is_found(disparity):
    left, right = shifted_pair(disparity)
    assert not look_swapped(left, right)
    assert look_swapped(right, left)


def test_nothing_is_claimed_without_evidence():
    far = shifted_pair(0)
    assert not look_swapped(*far)
    flat = torch.full((3, 90, 230), 0.5)
    assert not look_swapped(flat, flat)
    generator = torch.Generator().manual_seed(0)
    assert not look_swapped(*torch.rand(2, 3, 90, 230, generator=generator))
    assert not look_swapped(*torch.rand(2, 3, 16, 17, generator=generator))
    stripes = (torch.arange(230) % 16 < 8).float().expand(3, 90, 230)
    assert not look_swapped(stripes, stripes.roll(3, -1))


@pytest.mark.skipif(not SCENES, reason="needs the real pairs of ../shared/data")
def test_real_pairs_in_both_orders():
    wrong = []
    for scene in SCENES:
        left, right = (
            torch.from_numpy(cv2.imread(str(scene / name))).permute(2, 0, 1).float() / 255
            for name in ("left.png", "right.png")
        )
        if look_swapped(left, right) or not look_swapped(right, left):
            wrong.append(scene)
    assert not wrong
