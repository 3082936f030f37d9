"""Names of deeplab2's (TensorFlow) layers, read into ours, for the golden files that come from it.

The published checkpoints are those of the PyTorch port; stereo_tr/mask/translation.py reads them.
"""

import re

from torch import Tensor, nn

RENAMED = (
    # dual-path layers and heads
    (r"\bmemory_conv1_bn_act", "enter_queries"),
    (r"\bpixel_conv1_bn_act", "enter_pixels"),
    (r"\bmemory_(qkv|query)_conv_bn", "project_queries"),
    (r"\bpixel_(qkv|qv|kv|v)_conv_bn", "project_pixels"),
    (r"\b(memory|pixel)_attention/batch_norm_similarity/", r"\1_attention.score_norm/"),
    (r"\b(memory|pixel)_attention/batch_norm_retrieved_value/", r"\1_attention.token_norm/"),
    (r"\bmemory_attention", "attention"),
    (r"\bkmeans_memory_batch_norm_retrieved_value", "cluster_norm"),
    (r"\bkmeans_memory_conv3_bn", "leave_cluster"),
    (r"\bmemory_conv3_bn", "leave_attention"),
    (r"\bpixel_conv3_bn", "leave_pixels"),
    (r"\bmemory_ffn_conv1_bn_act", "feed_forward.0"),
    (r"\bmemory_ffn_conv2_bn", "feed_forward.1"),
    (r"\bMaXDeepLab/", "head."),
    (
        r"\bpixel_space_head/conv_block/conv1_bn_act/depthwise/depthwise_conv/depthwise_kernel$",
        "pixels.0.conv.weight",
    ),
    (r"\bpixel_space_head/conv_block/conv1_bn_act/depthwise", "pixels.0"),
    (r"\bpixel_space_head/conv_block/conv1_bn_act/pointwise", "pixels.1"),
    (r"\bpixel_space_head/final_conv/kernel$", "feature.conv.weight"),
    (r"\bpixel_space_head/final_conv/bias$", "feature.conv.bias"),
    (r"\bpixel_space_feature_batch_norm/", "feature.norm/"),
    (r"\bpixel_space_mask_batch_norm/", "mask_norm/"),
    (r"\btransformer_mask_head/", "kernel/"),
    (r"\btransformer_class_head/conv/kernel$", "classes.weight"),
    (r"\btransformer_class_head/conv/bias$", "classes.bias"),
    (r"/conv/kernel$", ".conv.weight"),
    (r"/conv/bias$", ".conv.bias"),
    (r"/batch_norm/gamma$", ".norm.weight"),
    (r"/batch_norm/beta$", ".norm.bias"),
    (r"/batch_norm/moving_mean$", ".norm.running_mean"),
    (r"/batch_norm/moving_variance$", ".norm.running_var"),
    (r"/qkv_kernel$", ".project.conv.weight"),
    (r"/batch_norm_qkv/", ".project.norm/"),
    (r"/batch_norm_similarity/", ".attention.score_norm/"),
    (r"/batch_norm_retrieved_(output|value)/", ".attention.token_norm/"),
    (r"/(query|key|value)_rpe/embeddings$", r".attention.position.\1"),
    (r"/gamma$", ".weight"),
    (r"/beta$", ".bias"),
    (r"/moving_mean$", ".running_mean"),
    (r"/moving_variance$", ".running_var"),
    # residual blocks
    (r"\battention/(height|width)_axis", r"mix.0.\1"),
    (r"\bconv1_bn_act", "narrow"),
    (r"\bconv2_bn_act", "mix"),
    (r"\bconv(3|2)_bn\b", "widen"),
)


def translate(weights: dict[str, Tensor], extra=()) -> dict[str, Tensor]:
    """Bring names and shapes to ours: `extra` renamings first."""
    result = {}
    for name, value in weights.items():
        for old, new in (*extra, *RENAMED):
            name = re.sub(old, new, name)
        name = name.replace("/", ".")
        if name.endswith(("conv.weight", "classes.weight")):
            if value.ndim == 2:  # [in, out]
                value = value.T[:, :, None, None]
            elif value.ndim == 3:  # [1, in, out]
                value = value[0].T[:, :, None, None]
            else:
                value = value.permute(3, 2, 0, 1)
                if "pixels.0." in name:  # of a depthwise convolution
                    value = value.transpose(0, 1)
        elif "_norm." in name or ".norm." in name:
            value = value.flatten()
        result[name] = value.contiguous()
    return result


def load(module: nn.Module, weights: dict[str, Tensor]) -> nn.Module:
    """Load strictly; norms may lack the count of their batches."""
    own = module.state_dict()
    counts = {name: own[name] for name in own if name.endswith("num_batches_tracked")}
    module.load_state_dict(counts | weights)
    return module


def nchw(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)


def memory(x: Tensor) -> Tensor:
    """[B, N, C] as a map of one row."""
    return x.transpose(1, 2)[:, :, None]
