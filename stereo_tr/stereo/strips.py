"""Maps computed in horizontal strips, so that wide maps in between never exist as a whole.

Letters  B batch, C C2 channels in and out, H W size of a map
Tests    tests/stereo/test_strips.py
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from ..attention.memory import pieces, widened


def in_strips(
    function: Callable[..., Tensor],
    *maps: Float[Tensor, "B _ H W"],
    halo: int,
    row_bytes: int,
) -> Float[Tensor, "B C2 H W"]:
    """Return function(*maps), computed strip by strip where the working memory asks for it.

    `halo` is how many rows to either side a row of the result depends on, `row_bytes` what
    `function` needs for one row. At the borders of the image `function` sees what it always sees.
    """
    height = maps[0].shape[-2]
    parts = pieces(height, row_bytes)
    if len(parts) == 1:
        return function(*maps)
    result = None
    for part in parts:
        seen, own = widened(part, halo, height)
        strip = function(*(map_[..., seen, :] for map_ in maps))
        if result is None:
            shape = (*strip.shape[:-2], height, strip.shape[-1])
            result = strip.new_empty(shape).to(memory_format=torch.channels_last)
        result[..., part, :] = strip[..., own, :]
    return result
