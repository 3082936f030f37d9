"""Records: every bit comes back, and integers are stored as integers."""

import numpy as np
import pytest
import torch
from slanted import slanted_pair

from stereo_tr.datasets.indexed import as_tensor
from stereo_tr.datasets.records import decode, encode, identical

HEIGHT, WIDTH = 7, 13
RAW = 3 * HEIGHT * WIDTH  # bytes of a view of 8 bits


def pair(**changes):
    """Float views and disparity that no integers stand behind."""
    plain = slanted_pair(HEIGHT, WIDTH)
    return plain._replace(**{"disparity": plain.disparity / 7} | changes)


def stored(bits, channels=3):
    rng = np.random.default_rng(bits)
    levels = rng.integers(0, 2**bits, (HEIGHT, WIDTH, channels)).astype(f"uint{bits}")
    return as_tensor(np.repeat(levels, 3 // channels, -1))


@pytest.mark.parametrize("compress", ["none", "truth", "all"])
def test_every_bit_comes_back(compress):
    rng = np.random.default_rng(1)
    some = torch.from_numpy(rng.random((HEIGHT, WIDTH)) < 0.5)
    odd = torch.tensor([0.0, -0.0, torch.inf, torch.nan, 1e-40, 3.7, -2.5])
    samples = [
        pair(),
        pair(left=stored(8), right=stored(16), valid=some, occluded=~some),
        pair(left=stored(8, 1), right=stored(16, 1), right_valid=~some, name="grün/1"),
        slanted_pair(HEIGHT, WIDTH, right_truth=False),
        pair(disparity=odd[:, None].expand(HEIGHT, WIDTH).contiguous()),
    ]
    samples += [
        pair(
            disparity=torch.from_numpy(rng.integers(0, 2**16, (HEIGHT, WIDTH)) / np.float32(scale))
        )
        for scale in (256, 100, 32, 3)
    ]
    for sample in samples:
        sample = sample._replace(disparity=sample.disparity.float())
        again = decode(encode(sample, compress))
        assert identical(sample, again)
        assert again.name == sample.name
        for tensor in again[:-1]:
            tensor += tensor  # it can be written to: nothing is shared with the record


def test_integers_are_stored_as_integers():
    plain = pair(left=stored(8), right=stored(8))
    size = len(encode(plain, "none"))
    assert len(encode(pair(left=stored(16), right=stored(8)), "none")) == size + RAW
    assert len(encode(pair(left=stored(8, 1), right=stored(8)), "none")) == size - RAW * 2 // 3
    assert len(encode(pair(right=stored(8)), "none")) == size + 3 * RAW
    whole = plain._replace(disparity=torch.round(plain.disparity * 256) / 256)
    assert len(encode(whole, "none")) == size - 2 * HEIGHT * WIDTH
    without = slanted_pair(HEIGHT, WIDTH, right_truth=False)
    bits = HEIGHT * 2  # a mask's rows fill whole bytes
    less = 4 * HEIGHT * WIDTH + bits  # the right view's map and its occlusion
    assert len(encode(slanted_pair(HEIGHT, WIDTH), "none")) - len(encode(without, "none")) == less


def test_compression_pays_on_smooth_truth():
    large = slanted_pair(120, 200)
    sizes = [len(encode(large, compress)) for compress in ("none", "truth", "all")]
    assert sizes[0] > sizes[1] > sizes[2]
    assert sizes[0] - sizes[1] > 0.6 * 2 * 4 * 120 * 200  # most of two maps of float32


def test_samples_that_differ_are_told_apart():
    one = pair()
    assert not identical(one, pair(name="other"))
    assert not identical(one, pair(valid=~one.valid))
    assert not identical(one, pair(disparity=one.disparity.double()))
    zero = torch.zeros(HEIGHT, WIDTH)
    assert not identical(pair(disparity=zero), pair(disparity=-zero))


def test_bytes_that_are_no_record_are_refused():
    record = encode(pair(), "all")
    for broken in (b"", record[:40], record[:8] + b"\xff" + record[9:]):
        with pytest.raises(ValueError, match=r"not a stored sample"):
            decode(broken)
    with pytest.raises(ValueError, match=r"its disparity is torch.float64"):
        encode(pair(disparity=pair().disparity.double()), "none")
