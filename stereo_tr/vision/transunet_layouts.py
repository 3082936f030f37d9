"""Published layouts of TransUNet's weights: the authors', and Google's of ViT and R50+ViT.

Source  the parameter names of github.com/Beckschen/TransUNet, and of the .npz files that it starts
        from (vision_transformer's R50+ViT-B_16)
Tests   tests/vision/test_transunet.py
"""

import re
from collections.abc import Mapping

from torch import Tensor

from .translation import PROJECTIONS, from_google


def from_google_hybrid(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name them as the authors or we do; leave out what only classifies."""
    result = {}
    for name, tensor in from_google(weights).items():
        if name == "cls_token" or name.startswith(("head.", "pre_logits.")):
            continue
        if name == "pos_embed":
            tensor = tensor[:, 1:]  # the class token's place comes first
        elif ".gn" in name or name.startswith("gn_"):
            tensor = tensor.flatten()  # stored as maps of one place
        for old, new in _GOOGLE:
            name = re.sub(old, new, name)
        result[name] = tensor
    return result


_TRUNK = "transformer.embeddings.hybrid_model"
_GOOGLE = (
    (r"^pos_embed$", "transformer.embeddings.position_embeddings"),
    (r"^patches\.project\.", "to_tokens."),
    (r"^(conv|gn)_root\.", rf"{_TRUNK}.root.\1."),
    (r"^(block\d+)\.(unit\d+)\.conv_proj\.", rf"{_TRUNK}.body.\1.\2.downsample."),
    (r"^block(?=\d+\.unit)", f"{_TRUNK}.body.block"),
    (r"^(blocks\.\d+\.1\.branch)\.(widen|narrow)\.", r"\1.0.\2."),
)
"""after `from_google`"""

_UNIT = r"^(trunk\.stages\.\d+\.unit\d+)"
RENAMED = (
    (r"^transformer\.embeddings\.position_embeddings$", "position.table"),
    (r"^transformer\.embeddings\.patch_embeddings\.", "to_tokens."),
    (r"^transformer\.embeddings\.hybrid_model\.root\.conv\.", "trunk.root.0."),
    (r"^transformer\.embeddings\.hybrid_model\.root\.gn\.", "trunk.root.1."),
    *(
        (rf"^transformer\.embeddings\.hybrid_model\.body\.block{i + 1}\.", f"trunk.stages.{i}.")
        for i in range(3)
    ),
    *((rf"{_UNIT}\.conv{i + 1}\.", rf"\1.branch.{3 * i}.") for i in range(3)),
    *((rf"{_UNIT}\.gn{i + 1}\.", rf"\1.branch.{3 * i + 1}.") for i in range(3)),
    (rf"{_UNIT}\.downsample\.", r"\1.shortcut.0."),
    (rf"{_UNIT}\.gn_proj\.", r"\1.shortcut.1."),
    (r"^transformer\.encoder\.encoder_norm\.", "norm."),
    (r"^transformer\.encoder\.layer\.", "blocks."),
    (r"^(blocks\.\d+)\.attention_norm\.", r"\1.0.norm."),
    (r"^(blocks\.\d+)\.ffn_norm\.", r"\1.1.norm."),
    (r"^(blocks\.\d+)\.ffn\.fc1\.", r"\1.1.branch.0.widen."),
    (r"^(blocks\.\d+)\.ffn\.fc2\.", r"\1.1.branch.0.narrow."),
    (r"^(blocks\.\d+)\.attn\.out\.", r"\1.0.branch.attention.to_out."),
    (r"^(blocks\.\d+)\.attn\.", r"\1.0.branch.attention."),
    *PROJECTIONS,
    (r"^decoder\.conv_more\.", "entry."),
    (r"^decoder\.blocks\.(\d+)\.conv1\.", r"steps.\1.first."),
    (r"^decoder\.blocks\.(\d+)\.conv2\.", r"steps.\1.second."),
    (r"^segmentation_head\.0\.", "head."),
)
"""the authors' names; a trunk's units are numbered from 1 there"""
