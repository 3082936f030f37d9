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


GOOGLE = "embedding/kernel"
"""an array that Google's files of ViT, and of its hybrids, hold"""

_FROM_GOOGLE = (
    (r"^cls$", "cls_token"),
    (r"^Transformer/posembed_input/pos_embedding$", "pos_embed"),
    (r"^embedding/", "patches/project/"),
    (r"^Transformer/encoder_norm/", "norm/"),
    (r"^Transformer/encoderblock_(\d+)/", r"blocks/\1/"),
    (r"^(blocks/\d+)/LayerNorm_0/", r"\1/0/norm/"),
    (r"^(blocks/\d+)/LayerNorm_2/", r"\1/1/norm/"),
    (r"^(blocks/\d+)/MultiHeadDotProductAttention_1/", r"\1/0/branch/attention/to_"),
    (r"^(blocks/\d+)/MlpBlock_3/Dense_0/", r"\1/1/branch/widen/"),
    (r"^(blocks/\d+)/MlpBlock_3/Dense_1/", r"\1/1/branch/narrow/"),
    (r"/(scale|kernel)$", "/weight"),
    (r"/", "."),
)


def from_google(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name a ViT's JAX arrays as ours (its tables as timm's) and give them torch's axes.

    Heads are joined, inputs x outputs turned round; other names keep their words.
    """
    result = {}
    for name, tensor in weights.items():
        new = name
        for old, replacement in _FROM_GOOGLE:
            new = re.sub(old, replacement, new)
        if re.search(r"to_(query|key|value)\.", new):  # (inputs x) heads x channels of a head
            tensor = tensor.flatten(-2)
        elif new.endswith("to_out.weight"):  # heads x channels of a head x outputs
            tensor = tensor.flatten(0, -2)
        if name.endswith("kernel"):
            tensor = tensor.permute(3, 2, 0, 1) if tensor.ndim == 4 else tensor.T
        result[new] = tensor
    return result


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

    A table that can be a square is taken for one, also where a map of another shape has as many
    places: published models look at squares. None if it is no square and of another size.
    """
    places = table.shape[0]
    side = math.isqrt(places)
    if side * side != places:
        return table.unflatten(0, (height, width)) if places == height * width else None
    square = table.unflatten(0, (side, side))
    return square if side == height == width else resize_map(square.float(), height, width)


def fitted_table(table: Tensor, height: int, width: int, *, ours: bool) -> Tensor:
    """Return a position table as a map of `height` x `width`, resized where it was another's.

    Ours is a map, others' one sequence [1, N, C]. What can't be resized stays as it is, for the
    strict comparison to report.
    """
    if table.ndim == 3 and ours:
        return resize_map(table, height, width)
    map_ = as_map(table[0], height, width) if table.ndim == 3 and table.shape[0] == 1 else None
    return table if map_ is None else map_


def resize_offsets(
    table: Float[Tensor, "N E"], height: int, width: int
) -> Float[Tensor, "places E"]:
    """Resize a (square) window's table of offsets for windows of `height` x `width`."""
    resized = as_map(table, 2 * height - 1, 2 * width - 1)
    return table if resized is None else resized.flatten(0, 1)
