"""Swin Transformer: attention in windows, shifted by half a window in every second block.

Four stages; between them four neighbouring tokens become one of twice the width. Maps that don't
divide into windows are padded and masked inside the layout, so any image size works.

Letters  B batch, C channels, H W size of a map, h w = ceil(H / 2), ceil(W / 2), E heads
Source   Liu et al. 2021, https://arxiv.org/abs/2103.14030
Tests    tests/vision/test_swin.py: Hugging Face's Swin; padding; tests/vision/test_costs.py
"""

import re
from collections.abc import Mapping, Sequence
from functools import partial

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..attention import (
    Attention,
    FeedForward,
    LayoutAttention,
    Residual,
    WindowOffsetTable,
    Windows,
)
from .classifier import IMAGENET, Classifier, Colours, initialise, rising
from .patches import Patches
from .translation import FUSED, HEAD, PROJECTIONS, renamed, resize_offsets

MLP = 4
"""width of the feed-forward's middle, in widths of the stage"""

PATCH = 4
"""pixels on a side of the first stage's tokens"""


class PatchMerging(nn.Module):
    """Make one token of 2 x 2; an odd side is padded with zeros."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduce = nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "B h w C2"]:
        """Halve the map, double the channels; of four tokens the lower goes before the right."""
        maps, height, width, channels = x.shape
        down, across = (height + 1) // 2, (width + 1) // 2
        x = F.pad(x, (0, 0, 0, 2 * across - width, 0, 2 * down - height))
        x = x.reshape(maps, down, 2, across, 2, channels)
        return self.reduce(self.norm(x.permute(0, 1, 3, 4, 2, 5).flatten(3)))


def swin_block(
    channels: int, heads: int, window: int, *, shifted: bool, drop_path: int | float
) -> nn.Sequential:
    """Attention in windows of `window` x `window` tokens, then the feed-forward."""
    layout = Windows(window, window, (window // 2, window // 2) if shifted else (0, 0))
    attention = Attention(channels, heads, position=WindowOffsetTable(window, window, heads))
    return nn.Sequential(
        Residual(LayoutAttention(layout, attention), channels, drop_path=drop_path),
        Residual(FeedForward(channels, MLP * channels), channels, drop_path=drop_path),
    )


class Swin(Classifier):
    """Stages of `depths` blocks with `heads` heads each, windows of `window` x `window` tokens."""

    def __init__(
        self,
        *,
        channels: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        heads: Sequence[int] = (3, 6, 12, 24),
        window: int = 7,
        num_classes: int = 1000,
        in_channels: int = 3,
        colours: Colours = IMAGENET,
        drop_path: int | float = 0.2,
        checkpointing: bool = False,
    ) -> None:
        widths = [channels * 2**stage for stage in range(len(depths))]
        super().__init__(
            widths[-1],
            widths,
            num_classes=num_classes,
            in_channels=in_channels,
            colours=colours,
            checkpointing=checkpointing,
        )
        self.patches = Patches(in_channels, channels, PATCH)
        self.patch_norm = nn.LayerNorm(channels)
        rates = iter(rising(drop_path, sum(depths)))
        self.stages = nn.ModuleList()
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            blocks = nn.Sequential()
            if stage:
                blocks.append(PatchMerging(width // 2))
            for block in range(depth):
                shifted = block % 2 == 1
                blocks.append(
                    swin_block(width, heads[stage], window, shifted=shifted, drop_path=next(rates))
                )
            self.stages.append(blocks)
        self.norm = nn.LayerNorm(widths[-1])
        self.apply(initialise)

    def maps(self, x: Float[Tensor, "B C H W"]) -> list[Float[Tensor, "B _ _ _"]]:
        """The four stages' maps, channels last; the last one is normalised."""
        x = self.patch_norm(self.patches(self.normalised(x)))
        maps = []
        for stage in self.stages:
            x = self.through(stage, x)
            maps.append(x)
        return [*maps[:-1], self.norm(maps[-1])]

    def embedding(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2"]:
        """Mean of the last map."""
        return self.maps(x)[-1].mean((1, 2))

    def features(self, x: Float[Tensor, "B C H W"]) -> dict[int, Float[Tensor, "B _ _ _"]]:
        """See Classifier.features."""
        maps = (map_.permute(0, 3, 1, 2) for map_ in self.maps(x))
        return dict(zip(self.feature_channels, maps, strict=True))

    def translate_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return weights of timm, the authors or Hugging Face under our names; ours as they are.

        Tables of offsets are resized where they were made for other windows.
        """
        own = self.state_dict()
        # The authors and Hugging Face put a merging after a stage, timm and we before the next.
        after = any(
            re.match(r"(swin\.encoder\.)?layers\.0\.downsample\.", name) for name in weights
        )
        result = renamed(_kept(weights), _RENAMED, own)
        moved: dict[str, Tensor] = {}
        for name, tensor in result.items():
            merging = re.match(r"stages\.(\d+)\.merging\.(.*)", name)
            block = re.match(r"stages\.(\d+)\.blocks\.(\d+)\.(.*)", name)
            if merging:
                name = f"stages.{int(merging[1]) + after}.0.{merging[2]}"
            elif block:  # a merging is the first part of its stage
                first = int(block[1] != "0")
                name = f"stages.{block[1]}.{int(block[2]) + first}.{block[3]}"
            fitting = own.get(name)
            if name.endswith("position.table") and fitting is not None and tensor.ndim == 2:
                window = self.get_submodule(name.removesuffix(".table"))
                if tensor.shape != fitting.shape:
                    tensor = resize_offsets(tensor, window.height, window.width)
            moved[name] = tensor
        return moved


def _kept(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leave out what the authors' code stores and computes anew: indices of offsets and masks."""
    computed = re.compile(r"(^|\.)(relative_position_index|attn_mask)$")
    return {name: tensor for name, tensor in weights.items() if not computed.search(name)}


_RENAMED = (
    *HEAD,
    (r"^(swin\.embeddings\.patch_embeddings\.projection|patch_embed\.proj)\.", "patches.project."),
    (r"^(swin\.embeddings|patch_embed)\.norm\.", "patch_norm."),
    (r"^swin\.layernorm\.", "norm."),
    (r"^(swin\.encoder\.)?layers\.", "stages."),
    (r"^(stages\.\d+)\.downsample\.reduction\.", r"\1.merging.reduce."),
    (r"^(stages\.\d+)\.downsample\.norm\.", r"\1.merging.norm."),
    (r"\.(norm1|layernorm_before)\.", ".0.norm."),
    (r"\.(norm2|layernorm_after)\.", ".1.norm."),
    (r"\.attn\.qkv\.", f".0.branch.attention{FUSED}"),
    (
        r"\.(attn\.proj|attention\.o_proj|attention\.output\.dense)\.",
        ".0.branch.attention.to_out.",
    ),
    (
        r"\.(attn|attention|attention\.self|attention\.relative_position_bias)"
        r"\.relative_position_bias_table$",
        ".0.branch.attention.position.table",
    ),
    (r"(blocks\.\d+)\.attention\.(self\.)?", r"\1.0.branch.attention."),
    *PROJECTIONS,
    (r"\.(mlp\.fc1|intermediate\.dense)\.", ".1.branch.widen."),
    (r"(blocks\.\d+)\.(mlp\.fc2|output\.dense)\.", r"\1.1.branch.narrow."),
)

_deep = (2, 2, 18, 2)
_tiny = partial(Swin, channels=96, depths=(2, 2, 6, 2), heads=(3, 6, 12, 24), drop_path=0.2)
_small = partial(Swin, channels=96, depths=_deep, heads=(3, 6, 12, 24), drop_path=0.3)
_base = partial(Swin, channels=128, depths=_deep, heads=(4, 8, 16, 32), drop_path=0.5)
_large = partial(Swin, channels=192, depths=_deep, heads=(6, 12, 24, 48), drop_path=0.2)

swin_tiny_patch4_window7_224 = partial(_tiny, window=7)
swin_small_patch4_window7_224 = partial(_small, window=7)
swin_base_patch4_window7_224 = partial(_base, window=7)
swin_large_patch4_window7_224 = partial(_large, window=7)
swin_base_patch4_window12_384 = partial(_base, window=12)
swin_large_patch4_window12_384 = partial(_large, window=12)
