"""Published weight layouts, read into ours: what the models' translations have in common.

A model lists renamings; each name of its own passes as it is, each other name goes through all of
them in order, and whatever then belongs to no layout stays, for the strict comparison to report.

Letters  N places of a position table, C channels, E heads
Source   the parameter names of timm, Hugging Face transformers and Google's checkpoints (JAX)
Tests    tests/vision/test_translation.py; the parity tests of each model load through here
"""

import math
import re
from collections.abc import Collection, Iterable, Mapping

from jaxtyping import Float
from torch import Tensor

from ..attention import resize_map

Renamings = Iterable[tuple[str, str]]
"""regular expression and replacement"""

HEAD: Renamings = ((r"^(classifier|head\.fc)\.(weight|bias)$", r"head.\2"),)
"""the linear classifier: Hugging Face, timm's models with pooling in the head"""

PROJECTIONS: Renamings = (
    (r"\.(self\.)?(query|key|value)\.(weight|bias)$", r".to_\2.\3"),
    (r"\.q_proj\.", r".to_query."),
    (r"\.k_proj\.", r".to_key."),
    (r"\.v_proj\.", r".to_value."),
)
"""separate projections as Hugging Face names them, in old releases and new"""

FUSED = ".to_query+key+value."
"""where renamings put queries, keys and values that are one matrix"""


def renamed(
    weights: Mapping[str, Tensor], renamings: Renamings, known: Collection[str]
) -> dict[str, Tensor]:
    """Return `weights` under the names of `known`, a model's own, and split fused projections."""
    renamings = tuple(renamings)
    result: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        new = name
        if name not in known:
            for old, replacement in renamings:
                new = re.sub(old, replacement, new)
        place, fused, kind = new.partition(FUSED)
        if not fused or tensor.shape[0] % 3:
            result[new] = tensor
            continue
        for part, projection in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
            result[f"{place}.to_{part}.{kind}"] = projection
    return result


def as_map(
    table: Float[Tensor, "N C"], height: int, width: int
) -> Float[Tensor, "height width C"] | None:
    """Return a flat position table as a map, resized where it was made for another size.

    A table of another size is taken for a square; None if it can't be one.
    """
    places = table.shape[0]
    if places == height * width:
        return table.unflatten(0, (height, width))
    side = math.isqrt(places)
    if side * side != places:
        return None
    return resize_map(table.float().unflatten(0, (side, side)), height, width)


def resize_offsets(
    table: Float[Tensor, "N E"], height: int, width: int
) -> Float[Tensor, "places E"]:
    """Resize a (square) window's table of offsets for windows of `height` x `width`."""
    resized = as_map(table, 2 * height - 1, 2 * width - 1)
    return table if resized is None else resized.flatten(0, 1)
