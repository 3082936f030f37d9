"""Textures: from the seed alone, what they say they are, and their photographs' licences."""

import sys
from pathlib import Path

import numpy as np
import pytest

from stereo_tr.datasets.photographs import PHOTOGRAPHS, load_photographs
from stereo_tr.datasets.textures import (
    COLOUR_SIDE,
    COLOUR_TILES,
    GREY_SIDE,
    PROCEDURAL,
    TextureBank,
    noise,
)


def test_a_tile_depends_on_the_seed_and_its_number_not_on_the_order():
    one, two = (TextureBank(5, photographs=False) for _ in range(2))
    one.colour(np.array([3]))
    picture, (x, y) = one.colour(np.array([9, 3]))
    other, _ = two.colour(np.array([3, 9]))
    tiles = [picture[b : b + COLOUR_SIDE, a : a + COLOUR_SIDE] for a, b in zip(x, y, strict=True)]
    same = [other[b : b + COLOUR_SIDE, a : a + COLOUR_SIDE] for a, b in zip(x, y, strict=True)]
    np.testing.assert_array_equal(tiles, same)
    assert (tiles[0] != tiles[1]).any()
    assert (TextureBank(6, photographs=False).colour(np.array([9]))[0] != other).any()


def test_the_large_picture_is_small_enough_for_opencv():
    bank = TextureBank(0, photographs=False)
    for picture, _ in (bank.colour(np.array([0])), bank.grey(np.array([0]))):
        assert max(picture.shape[:2]) < 32767
    assert COLOUR_TILES * COLOUR_SIDE**2 * 3 < 64 << 20  # bytes


@pytest.mark.parametrize("kind", [kind for kind, _ in PROCEDURAL], ids=lambda kind: kind.__name__)
def test_every_kind_of_texture_fills_its_tile(kind):
    tile = kind(np.random.default_rng(2), 96)
    assert tile.shape == (96, 96, 3)
    assert np.isfinite(tile).all()
    assert tile.std() > 1


def test_noise_is_rougher_for_a_smaller_slope():
    def roughness(slope):
        values = noise(np.random.default_rng(4), GREY_SIDE, slope)
        assert abs(values.mean()) < 1e-3
        assert abs(values.std() - 1) < 1e-2
        return np.abs(np.diff(values)).mean()

    assert roughness(0.0) > 1.5 * roughness(1.0) > 3 * roughness(2.5)


def test_photographs_have_licences_and_none_is_half_of_a_stereo_pair():
    pytest.importorskip("skimage")
    assert all("CC0" in text or "public domain" in text for text in PHOTOGRAPHS.values())
    assert not any("motorcycle" in name for name in PHOTOGRAPHS)
    pictures = load_photographs()
    assert len(pictures) == len(PHOTOGRAPHS)
    assert all(picture.dtype == np.uint8 and picture.shape[2] == 3 for picture in pictures)


def test_what_is_missing_is_named(monkeypatch):
    nowhere = Path("/nowhere")
    monkeypatch.setattr("stereo_tr.datasets.photographs.photograph_folder", lambda: nowhere)
    with pytest.raises(FileNotFoundError, match=r"/nowhere/astronaut.png.*photographs=False"):
        load_photographs()
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(ValueError, match=r"pip install 'stereo-tr\[train\]'"):
        load_photographs()
