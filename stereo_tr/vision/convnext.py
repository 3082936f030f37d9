"""ConvNeXt: a depthwise convolution mixes places, the feed-forward mixes channels.

A block is a transformer's with the attention replaced and both branches made one:
convolution, norm, feed-forward, learned scale.

Letters  B batch, C channels, H W size of a map
Source   Liu et al. 2022, https://arxiv.org/abs/2201.03545
Tests    tests/vision/test_convnext.py: Hugging Face's ConvNeXt; tests/vision/test_costs.py
"""

import re
from collections.abc import Mapping, Sequence
from functools import partial

from jaxtyping import Float
from torch import Tensor, nn

from ..attention import FeedForward, Residual
from .classifier import IMAGENET, Classifier, Colours, initialise, rising
from .patches import Patches
from .translation import HEAD, renamed

LayerNorm = partial(nn.LayerNorm, eps=1e-6)

MLP = 4
"""width of the feed-forward's middle, in widths of the stage"""

KERNEL = 7
"""of the depthwise convolution"""

SCALE = 1e-6
"""that each branch starts with"""


class DepthwiseConvolution(nn.Module):
    """Every channel of a map, channels last, filtered alone."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.filter = nn.Conv2d(channels, channels, KERNEL, padding=KERNEL // 2, groups=channels)

    def forward(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "B H W C"]:
        """Filter."""
        return self.filter(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class Downsampling(nn.Module):
    """Norm, then 2 x 2 patches of a map, channels last; an odd side is padded with zeros."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.entry_norm = LayerNorm(inputs)
        self.patches = Patches(inputs, outputs, 2)

    def forward(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "B _ _ C2"]:
        """Halve the map."""
        return self.patches(self.entry_norm(x).permute(0, 3, 1, 2))


def convnext_block(channels: int, *, drop_path: int | float) -> Residual:
    """Convolution, norm and feed-forward in one branch."""
    branch = nn.Sequential(
        DepthwiseConvolution(channels), LayerNorm(channels), FeedForward(channels, MLP * channels)
    )
    return Residual(branch, channels, make_norm=nn.Identity, layer_scale=SCALE, drop_path=drop_path)


class ConvNeXt(Classifier):
    """Stages of `depths` blocks, `widths` wide."""

    classifies_with = ("norm", "head")

    def __init__(
        self,
        *,
        widths: Sequence[int] = (96, 192, 384, 768),
        depths: Sequence[int] = (3, 3, 9, 3),
        num_classes: int = 1000,
        in_channels: int = 3,
        colours: Colours = IMAGENET,
        drop_path: int | float = 0.1,
        checkpointing: bool = False,
    ) -> None:
        super().__init__(
            widths[-1],
            widths,
            num_classes=num_classes,
            in_channels=in_channels,
            colours=colours,
            checkpointing=checkpointing,
        )
        self.patches = Patches(in_channels, widths[0], 4)
        self.patch_norm = LayerNorm(widths[0])
        rates = iter(rising(drop_path, sum(depths)))
        self.stages = nn.ModuleList()
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            blocks = nn.Sequential()
            if stage:
                blocks.append(Downsampling(widths[stage - 1], width))
            for _ in range(depth):
                blocks.append(convnext_block(width, drop_path=next(rates)))
            self.stages.append(blocks)
        self.norm = LayerNorm(widths[-1])
        self.apply(initialise)

    def features(self, x: Float[Tensor, "B C H W"]) -> dict[int, Float[Tensor, "B _ _ _"]]:
        """See Classifier.features."""
        x = self.patch_norm(self.patches(self.normalised(x)))
        maps = {}
        for stride, stage in zip(self.feature_channels, self.stages, strict=True):
            x = self.through(stage, x)
            maps[stride] = x.permute(0, 3, 1, 2)
        return maps

    def embedding(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2"]:
        """Mean of the last map, normalised."""
        last = list(self.features(x).values())[-1]
        return self.norm(last.mean((-2, -1)))

    def translate_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return weights of timm, the authors or Hugging Face under our names; ours as they are."""
        result = renamed(weights, _RENAMED, self.state_dict())
        moved: dict[str, Tensor] = {}
        for name, tensor in result.items():
            block = re.match(r"stages\.(\d+)\.blocks\.(\d+)\.(.*)", name)
            if block:  # a downsampling is the first part of its stage
                name = f"stages.{block[1]}.{int(block[2]) + int(block[1] != '0')}.{block[3]}"
            moved[name] = tensor
        return moved


_RENAMED = (
    *HEAD,
    (r"^(convnext\.layernorm|head\.norm)\.", "norm."),
    (
        r"^(stem\.0|downsample_layers\.0\.0|convnext\.embeddings\.patch_embeddings)\.",
        "patches.project.",
    ),
    (r"^(stem\.1|downsample_layers\.0\.1|convnext\.embeddings\.layernorm)\.", "patch_norm."),
    (r"^convnext\.encoder\.stages\.", "stages."),
    (r"^downsample_layers\.(\d+)\.", r"stages.\1.downsample."),
    (r"^(stages\.\d+)\.(downsample|downsampling_layer)\.0\.", r"\1.0.entry_norm."),
    (r"^(stages\.\d+)\.(downsample|downsampling_layer)\.1\.", r"\1.0.patches.project."),
    (r"^(stages\.\d+)\.layers\.", r"\1.blocks."),
    (r"^(stages\.\d+)\.(\d+\.(dwconv|pwconv[12]|norm|gamma)(\.(weight|bias))?)$", r"\1.blocks.\2"),
    (r"(blocks\.\d+)\.(gamma|layer_scale_parameter)$", r"\1.scale"),
    (r"(blocks\.\d+)\.(conv_dw|dwconv)\.", r"\1.branch.0.filter."),
    (r"(blocks\.\d+)\.(norm|layernorm)\.", r"\1.branch.1."),
    (r"(blocks\.\d+)\.(mlp\.fc1|pwconv1)\.", r"\1.branch.2.widen."),
    (r"(blocks\.\d+)\.(mlp\.fc2|pwconv2)\.", r"\1.branch.2.narrow."),
)
"""timm's names, the authors' and Hugging Face's"""

_deep = (3, 3, 27, 3)
convnext_tiny = partial(ConvNeXt, widths=(96, 192, 384, 768), drop_path=0.1)
convnext_small = partial(ConvNeXt, widths=(96, 192, 384, 768), depths=_deep, drop_path=0.4)
convnext_base = partial(ConvNeXt, widths=(128, 256, 512, 1024), depths=_deep, drop_path=0.5)
convnext_large = partial(ConvNeXt, widths=(192, 384, 768, 1536), depths=_deep, drop_path=0.5)
