"""Weights of the published checkpoints, read into our layout.

Source   the parameter names of the released CSTR, STTR and STTR-light checkpoints
Tests    tests/stereo/test_published_translation.py, and every golden test loads through here
"""

import re
from collections.abc import Collection, Mapping

from torch import Tensor

_UNUSED_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""left in STTR checkpoints by a model that never reads them"""

_RENAMED: tuple[tuple[str, str], ...] = (
    # backbone
    (r"backbone\.in_conv\.(0|1)\.", r"backbone.stem.0.<\1>."),
    (r"backbone\.in_conv\.(3|4)\.", r"backbone.stem.2.<\1>."),
    (r"backbone\.in_conv\.(6|7)\.", r"backbone.stem.4.<\1>."),
    (r"backbone\.resblock_1\.", r"backbone.quarter."),
    (r"backbone\.resblock_2\.", r"backbone.eighth."),
    (r"(backbone\..*)\.(conv|bn)1\.", r"\1.first.<\2>."),
    (r"(backbone\..*)\.(conv|bn)2\.", r"\1.second.<\2>."),
    (r"(backbone\..*)\.downsample\.(0|1)\.", r"\1.shortcut.<\2>."),
    *((rf"backbone\.branch{i + 1}\.(1|2)\.", rf"backbone.pyramid.{i}.<-\1>.") for i in range(4)),
    # tokenizer
    (r"tokenizer\.bottle_neck\.", r"tokenizer.dense.0."),
    (r"tokenizer\.dense_block\.0\.", r"tokenizer.dense.1."),
    (r"tokenizer\.dense_block\.1\.", r"tokenizer.dense.2."),
    (r"tokenizer\.dense_block\.2\.double_conv\.(0|1)\.", r"tokenizer.full.0.<\1>."),
    (r"tokenizer\.dense_block\.2\.double_conv\.(3|4)\.", r"tokenizer.full.2.<\1>."),
    *((rf"(tokenizer\..*)\.denselayer{i + 1}\.", rf"\1.{i}.") for i in range(4)),
    (r"(tokenizer\..*)\.norm1\.", r"\1.reduce_norm."),
    (r"(tokenizer\..*)\.conv1\.", r"\1.reduce."),
    (r"(tokenizer\..*)\.norm2\.", r"\1.grow_norm."),
    (r"(tokenizer\..*)\.conv2\.", r"\1.grow."),
    (r"tokenizer\.up\.2\.convTrans\.", r"tokenizer.full_up."),
    (r"tokenizer\.up\.(0|1)\.convTrans\.", r"tokenizer.up.\1."),
    (r"<(0|3|6|conv|-1)>", r"convolution"),
    (r"<(1|4|7|bn|-2)>", r"norm"),
    # transformer
    (r"transformer\.norm\.", r"transformer.unused_norm."),
    (r"transformer\.self_attn_layers\.(\d+)\.", r"transformer.within.\1."),
    (r"(within\.\d+)\.norm1\.", r"\1.main.norm."),
    (r"(within\.\d+)\.self_attn1?\.", r"\1.main.rows."),
    (r"(within\.\d+)\.self_attn2\.", r"\1.main.columns."),
    (r"(within\.\d+)\.norm2\.", r"\1.context.norm."),
    (r"(within\.\d+)\.self_attn3\.", r"\1.context.rows."),
    (r"(within\.\d+)\.self_attn4\.", r"\1.context.columns."),
    (r"transformer\.cross_attn_layers\.(\d+)\.", r"transformer.across.\1."),
    (r"(across\.\d+)\.norm1\.", r"\1.main.norm."),
    (r"(across\.\d+)\.cross_attn\.", r"\1.main.attention."),
    (r"(across\.\d+)\.cross_attn1\.", r"\1.context.attention."),
    (r"\.out_proj\.", r".to_out."),
    # head
    (r"regression_head\.phi$", r"dustbin"),
    (r"regression_head\.masknet\.", r"upsampling.weights."),
    (r"regression_head\.cal\.in_conv\.", r"adjustment.entry."),
    (r"regression_head\.cal\.out_conv\.", r"adjustment.exit."),
    (r"regression_head\.cal\.layers\.(\d+)\.module\.0\.", r"adjustment.blocks.\1.widen."),
    (r"regression_head\.cal\.layers\.(\d+)\.module\.2\.", r"adjustment.blocks.\1.narrow."),
    (r"regression_head\.cal\.occ_head\.", r"adjustment.occlusion."),
    # both spellings of torch's weight norm
    (r"\.(weight_g|parametrizations\.weight\.original0)$", r".length"),
    (r"\.(weight_v|parametrizations\.weight\.original1)$", r".direction"),
)


def translate(weights: Mapping[str, Tensor], known: Collection[str]) -> dict[str, Tensor]:
    """Return `weights` under the names of `known`, a model's own keys.

    Names that belong to neither layout pass unchanged, for the strict comparison to report.
    """
    translated: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        new = name if name in known else _rename(name, known)
        if name not in known and new not in known and name.endswith(_UNUSED_STATISTICS):
            continue
        place, dot, kind = new.rpartition(".in_proj_")
        if not dot:
            translated[new] = tensor
            continue
        for part, projection in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
            translated[f"{place}.to_{part}.{kind}"] = projection
    return translated


def _rename(name: str, known: Collection[str]) -> str:
    for old, new in _RENAMED:
        name = re.sub(old, new, name)
    # One published name for two things: CSTR's norm of the context, STTR's of the updated view.
    owner = (
        "context.norm" if "transformer.across.0.merge.0.weight" in known else "main.updated_norm"
    )
    return re.sub(r"(across\.\d+)\.norm2\.", rf"\1.{owner}.", name)
