"""The published kMaX checkpoints' names (the PyTorch port), read into ours.

Source   the parameter names of github.com/bytedance/kmax-deeplab
Tests    tests/mask/test_axial.py, test_kmax_decoder.py and test_kmax_deeplab.py
"""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor, nn

Renamings = Iterable[tuple[str, str]]
"""regular expression and replacement"""

AXIAL: Renamings = (
    (r"\b_(height|width)_axis\.", r"\1."),
    (r"\bqkv_transform\.", "project."),
    (r"\b_batch_norm_qkv\.", "project.norm."),
    (r"\b_(query|key|value)_rpe\._embeddings\.weight", r"attention.position.\1"),
    (r"\b_batch_norm_similarity\.", "attention.score_norm."),
    (r"\b_batch_norm_retrieved_output\.", "attention.token_norm."),
)

BLOCK: Renamings = (
    (r"\b_blocks\.(\d+)\.", r"\1."),
    (r"\b_conv1_bn_act\.", "narrow."),
    (r"\b_conv2_bn_act\.", "mix."),
    (r"\b_conv3_bn\.", "widen."),
    (r"\b_shortcut\.", "shortcut."),
    (r"\b_attention\._", "mix.0._"),
)


PIXEL_DECODER: Renamings = (
    *BLOCK,
    *AXIAL,
    (r"\b_in_norms\.", "norms."),
    (r"\b_stages\.", "stages."),
    (r"\b_resized_fuses\.", "fuses."),
    (r"\b_conv_bn_low\.", "coarse."),
    (r"\b_conv_bn_high\.", "fine."),
)

HEAD: Renamings = (
    (r"\b_predcitor\.", "head."),
    (r"\b_pixel_space_head_conv([01])bnact\.", r"pixels.\1."),
    (r"\b_pixel_space_head_last_convbn\.", "feature."),
    (r"\b_transformer_mask_head\.", "kernel."),
    (r"\b_transformer_class_head\.conv\.", "classes."),
    (r"\b_pixel_space_mask_batch_norm\.", "mask_norm."),
)

LAYER: Renamings = (
    *HEAD,
    (r"\b_(query|pixel)_conv1_bn_act\.", r"enter_\1."),
    (r"\b_(query|pixel)_(qkv|v)_conv_bn\.", r"project_\1."),
    (r"\b_query_self_attention\._batch_norm_similarity\.", "attention.score_norm."),
    (r"\b_query_self_attention\._batch_norm_retrieved_value\.", "attention.token_norm."),
    (r"\b_kmeans_query_batch_norm_retrieved_value\.", "cluster_norm."),
    (r"\b_kmeans_query_conv3_bn\.", "leave_cluster."),
    (r"\b_query_conv3_bn\.", "leave_attention."),
    (r"\b_query_ffn_conv1_bn_act\.", "feed_forward.0."),
    (r"\b_query_ffn_conv2_bn\.", "feed_forward.1."),
    (r"\b(enter|project)_query\.", r"\1_queries."),
    (r"\b(enter|project)_pixel\.", r"\1_pixels."),
)

SEMANTIC: Renamings = (
    (r"\b_aspp\._aspp_conv(\d)\.", r"pyramid.branches.\1."),
    (r"\b_aspp\._aspp_pool\.", "pyramid.mean."),
    (r"\b_aspp\._proj_conv_bn_act\.", "pyramid.join."),
    *(
        (rf"\b_low_level_{theirs}_os{stride}{rest}\.", rf"{ours}.{index}{part}.")
        for index, stride in enumerate((8, 4))
        for theirs, rest, ours, part in (
            ("projection", "", "project", ""),
            ("fusion", "_conv0_bn_act", "fuse", ".0"),
            ("fusion", "_conv1_bn_act", "fuse", ".1"),
        )
    ),
    (r"\bconv_block_([01])\.", r"head.0.\1."),
    (r"\bfinal_conv\.conv\.", "head.1."),
)


def renamed(weights: Mapping[str, Tensor], renamings: Renamings) -> dict[str, Tensor]:
    """Return `weights` under our names; their 1-D convolutions become ours over maps of a row."""
    renamings = tuple(renamings)
    result = {}
    for name, value in weights.items():
        for old, new in renamings:
            name = re.sub(old, new, name)
        if name.endswith((".conv.weight", "classes.weight")) and value.ndim == 3:
            value = value[..., None]
        result[name] = value
    return result


def of_axial_attention(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read one axial attention."""
    return renamed(weights, AXIAL)


DECODER: Renamings = (
    *LAYER,
    (r"\b_cluster_centers\.weight", "queries"),
    (r"\b_(class|mask)_embedding_projection\.", r"of_\1."),
    (r"\bof_class\.", "of_classes."),
    (r"\bof_mask\.", "of_masks."),
)

RESNET: Renamings = (
    (r"^stem\.conv1\.norm\.", "stem.1."),
    (r"^stem\.conv1\.", "stem.0."),
    *((rf"^res{stage + 2}\.", f"stages.{stage}.") for stage in range(4)),
    *(
        (rf"\b{theirs}{part}\.", f"{ours}.{index}.")
        for theirs, ours in (
            ("conv1", "narrow"),
            ("conv2", "mix"),
            ("conv3", "widen"),
            ("shortcut", "shortcut"),
        )
        for part, index in ((r"\.norm", 1), (r"(?=\.weight)", 0))
    ),
)

_PARTS = {
    "backbone.": "encoder.",
    "sem_seg_head.pixel_decoder.": "pixel_decoder.",
    "sem_seg_head.predictor._auxiliary_semantic_predictor.": "semantic.",
    "sem_seg_head.predictor.": "decoder.",
}


def of_kmax(weights: Mapping[str, Tensor], model: nn.Module) -> Mapping[str, Tensor]:
    """Read a whole checkpoint for `model`, a KMaxDeepLab; names in our layout stay as they are.

    The auxiliary semantic branch is left out where the model has none.
    """
    if not any(name.startswith("sem_seg_head.") for name in weights):
        return without_branch(weights, model)
    parts: dict[str, dict[str, Tensor]] = {ours: {} for ours in ("", *_PARTS.values())}
    for name, value in weights.items():
        place = next((theirs for theirs in _PARTS if name.startswith(theirs)), "")
        parts[_PARTS.get(place, "")][name.removeprefix(place)] = value
    encoder = renamed(parts["encoder."], RESNET)
    if hasattr(model.encoder, "translate_weights"):
        encoder = model.encoder.translate_weights(encoder)
    read = {
        "": parts[""],
        "encoder.": encoder,
        "pixel_decoder.": renamed(parts["pixel_decoder."], PIXEL_DECODER),
        "decoder.": _by_map(renamed(parts["decoder."], DECODER), model),
        "semantic.": {} if model.semantic is None else renamed(parts["semantic."], SEMANTIC),
    }
    return {ours + name: value for ours, part in read.items() for name, value in part.items()}


def without_branch(weights: Mapping[str, Tensor], model: nn.Module) -> Mapping[str, Tensor]:
    """Leave out the auxiliary semantic branch, which only trains, where `model` has none."""
    if model.semantic is not None:
        return weights
    return {name: value for name, value in weights.items() if not name.startswith("semantic.")}


def _by_map(decoder: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Number the layers map by map; theirs are counted through."""
    places = [
        f"layers.{map_}.{layer}."
        for map_, layers in enumerate(model.decoder.layers)
        for layer in range(len(layers))
    ]
    result = {}
    for name, value in decoder.items():
        found = re.match(r"_kmax_transformer_layers\.(\d+)\.", name)
        if found and int(found[1]) < len(places):
            name = places[int(found[1])] + name[found.end() :]
        result[name] = value
    return result
