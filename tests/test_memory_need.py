import pytest
import torch
from torch import nn

from stereo_tr.attention.memory import DEFAULT
from stereo_tr.memory_need import LEAST, in_bytes, kept_memory, memory_in_use, working_size
from stereo_tr.stereo.scales import Scales

CPU = torch.device("cpu")


class Hungry(nn.Module):
    pixel_bytes = 1000


@pytest.mark.parametrize(
    ("text", "number"),
    [("2GB", 2_000_000_000), ("1.5 gb", 1_500_000_000), ("800MB", 800_000_000), (7, 7)],
)
def test_sizes_are_read(text, number):
    assert in_bytes(text) == number


@pytest.mark.parametrize("text", ["", "2 GiB", "-1GB", "much", "0GB"])
def test_other_texts_are_refused(text):
    with pytest.raises(ValueError, match="like 2GB or 800MB"):
        in_bytes(text)


def test_a_budget_leaves_what_the_maps_do_not_take():
    model, used = Hungry(), memory_in_use(CPU)
    assert used > 50e6
    kept = kept_memory(model, Scales(), 300, 400)
    assert kept == 300 * 400 * 1000
    assert kept_memory(model, Scales(least_pixels=480_000), 300, 400) == 4 * kept  # enlarged
    assert kept_memory(nn.Identity(), Scales(), 300, 400) is None
    left = working_size(model, Scales(), 300, 400, used + kept + 2 * LEAST, CPU)
    assert left == pytest.approx(2 * LEAST, abs=LEAST / 2)
    assert working_size(model, Scales(), 300, 400, 10**12, CPU) == DEFAULT
    assert working_size(model, Scales(), 300, 400, None, CPU) == DEFAULT
    with pytest.raises(
        MemoryError, match=r"400x300 px need about \d\.\d GB, more than the 0\.10 GB"
    ):
        working_size(model, Scales(), 300, 400, 10**8, CPU)
