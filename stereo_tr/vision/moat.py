"""MOAT: convolution and attention in one block, the inverted bottleneck standing for the MLP.

A block widens, mixes neighbours, narrows (`InvertedBottleneck`), and then lets places of a window,
or of the whole map, look at each other; downsampling happens in the convolution, too. The first two
stages are convolutions alone.

Letters  B batch, C channels, H W size of a map, K classes
Source   Yang et al. 2022, https://arxiv.org/abs/2210.01820; tiny-MOAT in the same paper
Tests    tests/vision/test_moat.py: the authors' TensorFlow blocks and networks, parameter counts
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial

from jaxtyping import Float
from torch import Tensor, nn

from ..attention import (
    Attention,
    Everything,
    Layout,
    LayoutAttention,
    Residual,
    WindowOffsetTable,
    Windows,
)
from ..convolution import InvertedBottleneck, PaddedConvolution
from .classifier import CENTRED, CLASSES, STRIDES, Classifier, Colours, rising

HEAD = 32
"""channels of an attention head"""

BatchNorm = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)


class MoatBlock(nn.Module):
    """Inverted bottleneck, then attention among the places that `layout` brings together.

    `table` is the window size that position offsets are learned for (resized elsewhere), or None
    for attention that knows no position.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        stride: int = 1,
        layout: Layout,
        table: int | None,
        head: int = HEAD,
        pool: int = 2,
        drop_path: int | float = 0.0,
    ) -> None:
        super().__init__()
        heads = outputs // head
        self.convolution = InvertedBottleneck(
            inputs,
            outputs,
            stride=stride,
            norm=BatchNorm,
            inner_norm=BatchNorm,
            pool=pool,
            same=True,
            drop_path=drop_path,
        )
        position = None if table is None else WindowOffsetTable(table, table, heads)
        attention = Attention(outputs, heads, position=position)
        self.attention = Residual(LayoutAttention(layout, attention), outputs, drop_path=drop_path)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H2 W2"]:
        """Neighbours first, then the window."""
        x = self.convolution(x).permute(0, 2, 3, 1)
        return self.attention(x).permute(0, 3, 1, 2)


class MOAT(Classifier):
    """Stem, two stages of inverted bottlenecks, two of MOAT blocks; mean, norm, linear layer.

    Raises ValueError where a MOAT stage's width isn't a multiple of `head`.
    """

    classifies_with = ("norm", "head")

    def __init__(
        self,
        *,
        stem: int,
        depths: Sequence[int],
        widths: Sequence[int],
        num_classes: int = CLASSES,
        in_channels: int = 3,
        colours: Colours = CENTRED,
        windows: Sequence[Sequence[int] | None] = (None, None),
        tables: Sequence[int | None] = (14, 7),
        last_is_global: bool = False,
        head: int = HEAD,
        pool: int = 2,
        drop_path: int | float = 0.0,
        checkpointing: bool = False,
    ) -> None:
        """Make the network.

        Args:
            stem: width of the stem
            depths: blocks of the four stages
            widths: of the four stages
            num_classes: width of the last layer; 0 for none
            in_channels: of the image
            colours: mean and standard deviation of the channels
            windows: height and width of the last two stages' windows, None for the whole map
            tables: window size that the last two stages' position tables are learned for, or None
            last_is_global: whether a stage's last block attends to the whole map all the same
            head: channels of an attention head
            pool: window of the shortcuts' average; 2 to classify, 3 for dense tasks
            drop_path: rate of the last block; it grows from 0
            checkpointing: compute a block's activations again for its gradient

        """
        super().__init__(
            widths[-1],
            widths,
            num_classes=num_classes,
            in_channels=in_channels,
            colours=colours,
            checkpointing=checkpointing,
        )
        wrong = [width for width in widths[2:] if width % head]
        if wrong:
            raise ValueError(f"width {wrong[0]} isn't a multiple of a head's {head} channels")
        self.stem = nn.Sequential(
            PaddedConvolution(in_channels, stem, stride=2, same=True),
            BatchNorm(stem),
            nn.GELU(),
            PaddedConvolution(stem, stem, same=True),
        )
        rates = iter(rising(drop_path, sum(depths)))
        self.stages = nn.ModuleList()
        for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            blocks = nn.ModuleList()
            for index in range(depth):
                inputs = width if index else (stem, *widths)[stage]
                stride, rate = 1 if index else 2, next(rates)
                if stage < 2:
                    block: nn.Module = InvertedBottleneck(
                        inputs,
                        width,
                        stride=stride,
                        norm=BatchNorm,
                        inner_norm=BatchNorm,
                        squeezed=max(1, width // 4),
                        pool=pool,
                        same=True,
                        drop_path=rate,
                    )
                else:
                    window = windows[stage - 2]
                    whole = window is None or (last_is_global and index == depth - 1)
                    block = MoatBlock(
                        inputs,
                        width,
                        stride=stride,
                        layout=Everything() if whole else Windows(*window),
                        table=tables[stage - 2],
                        head=head,
                        pool=pool,
                        drop_path=rate,
                    )
                blocks.append(block)
            self.stages.append(blocks)
        self.norm = nn.LayerNorm(widths[-1])
        self.apply(_initialise)

    def embedding(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2"]:
        """Mean of the last map, normalised."""
        return self.norm(self.features(x)[32].mean((2, 3)))

    def features(self, x: Float[Tensor, "B C H W"]) -> dict[int, Float[Tensor, "B _ _ _"]]:
        """The four stages' maps of images in [0, 1], by stride: 4, 8, 16, 32."""
        x = self.stem(self.normalised(x))
        maps = {}
        for stride, blocks in zip(STRIDES, self.stages, strict=True):
            maps[stride] = x = self.through(blocks, x)
        return maps

    def translate_weights(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Read deeplab2's variables; others pass as they are."""
        return translate(weights)


def _initialise(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d | nn.Linear):
        nn.init.normal_(layer.weight, std=0.02)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


_NETWORK = {
    "conv_0": "stem.0",
    "norm_0": "stem.1",
    "conv_1": "stem.3",
    "final_layer_norm": "norm",
    "logits_head": "head",
}
_BOTTLENECK = {
    "pre_norm": "norm",
    "expand_conv": "widen",
    "expand_norm": "widen_norm",
    "depthwise_conv": "mix",
    "depthwise_norm": "mix_norm",
    "se/reduce_conv2d": "channels.squeeze",
    "se/expand_conv2d": "channels.excite",
    "shrink_conv": "narrow",
    "shortcut_conv": "shortcut",
}
_ATTENTION = {
    "attention_norm": "attention.norm",
    "attention": "attention.branch.attention.position",
    "attention/q": "attention.branch.attention.to_query",
    "attention/k": "attention.branch.attention.to_key",
    "attention/v": "attention.branch.attention.to_value",
    "attention/o": "attention.branch.attention.to_out",
}
_PARTS = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
    "kernel": "weight",
    "depthwise_kernel": "weight",
    "relative_position_embedding": "table",
}
_VARIABLE = re.compile(
    rf"(?:.*/)?(?:block_(\d\d)_(\d\d)/(?=.*/)|(?={'|'.join(_NETWORK)}))(.+)/(\w+?)(?::0)?"
)
"""stage, block, place and part, as in moat/block_02_00/attention/q/weight:0"""


def translate(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return deeplab2's variables under our names and in torch's order of axes.

    Kernels lose their channels-last order, heads are joined, and a position table is turned round:
    theirs is by the offset from query to key, ours from key to query. Other names pass as they are.
    """
    matches = {name: _VARIABLE.fullmatch(name) for name in weights}
    attending = {m.group(1, 2) for m in matches.values() if m and m[3] == "attention/q"}
    translated: dict[str, Tensor] = {}
    for name, value in weights.items():
        match = matches[name]
        if not match:
            translated[name] = value
            continue
        stage, block, place, part = match.groups()
        if stage is None:
            ours = _NETWORK.get(place, place)
        elif place in _ATTENTION:
            ours = f"stages.{int(stage)}.{int(block)}.{_ATTENTION[place]}"
        else:
            inner = "convolution." if (stage, block) in attending else ""
            ours = f"stages.{int(stage)}.{int(block)}.{inner}{_BOTTLENECK.get(place, place)}"
        translated[f"{ours}.{_PARTS.get(part, part)}"] = _turned(place, part, value)
    return translated


def _turned(place: str, part: str, value: Tensor) -> Tensor:
    """Give a variable torch's order of axes."""
    if part == "relative_position_embedding":
        return value.flip(1, 2).flatten(1).T
    if part == "depthwise_kernel":
        return value.permute(2, 3, 0, 1)
    if place == "logits_head" and part == "kernel":
        return value[0, 0].T
    if part == "kernel":
        return value.permute(3, 2, 0, 1)
    if place == "attention/o" and part == "weight":
        return value.flatten(0, 1).T
    if place.startswith("attention/"):
        return value.flatten(1).T if part == "weight" else value.flatten()
    return value


_WIDTHS = (96, 192, 384, 768)
_TINY = partial(MOAT, depths=(2, 3, 7, 2))

moat_0 = partial(MOAT, stem=64, depths=(2, 3, 7, 2), widths=_WIDTHS, drop_path=0.2)
moat_1 = partial(MOAT, stem=64, depths=(2, 6, 14, 2), widths=_WIDTHS, drop_path=0.3)
moat_2 = partial(MOAT, stem=128, depths=(2, 6, 14, 2), widths=(128, 256, 512, 1024), drop_path=0.3)
moat_3 = partial(MOAT, stem=160, depths=(2, 12, 28, 2), widths=(160, 320, 640, 1280), drop_path=0.6)
moat_4 = partial(
    MOAT, stem=256, depths=(2, 12, 28, 2), widths=(256, 512, 1024, 2048), drop_path=0.7
)
tiny_moat_0 = partial(_TINY, stem=32, widths=(32, 64, 128, 256))
tiny_moat_1 = partial(_TINY, stem=40, widths=(40, 80, 160, 320))
tiny_moat_2 = partial(_TINY, stem=56, widths=(56, 112, 224, 448))
tiny_moat_3 = partial(_TINY, stem=80, widths=(80, 160, 320, 640), drop_path=0.1)
