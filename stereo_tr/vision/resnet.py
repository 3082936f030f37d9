"""ResNet-50: bottleneck blocks of three convolutions around a shortcut.

The stride stands in the 3 x 3 convolution, as in torchvision's, timm's and Hugging Face's.

Letters  B batch, C channels, H W size of a map
Source   He et al. 2015, https://arxiv.org/abs/1512.03385; the zero-started norm and the place of
         the stride: Goyal et al. 2017, https://arxiv.org/abs/1706.02677
Tests    tests/vision/test_resnet.py: Hugging Face's ResNet; tests/vision/test_costs.py
"""

from collections.abc import Mapping, Sequence
from functools import partial

from jaxtyping import Float
from torch import Tensor, nn

from ..attention import drop_path as dropped
from .classifier import IMAGENET, Classifier, Colours, rising
from .translation import HEAD, renamed

EXPANSION = 4
"""width of a block's ends, in widths of its middle"""

STEM = 64
"""channels after the first convolution"""


def convolution_norm(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution and batch norm; H x W becomes ceil(H / stride) x ceil(W / stride)."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    )


class Bottleneck(nn.Module):
    """Narrow, 3 x 3, widen; `outputs` channels, a quarter of them in the middle."""

    def __init__(
        self, inputs: int, outputs: int, *, stride: int = 1, drop_path: int | float = 0.0
    ) -> None:
        super().__init__()
        middle = outputs // EXPANSION
        self.narrow = convolution_norm(inputs, middle, 1)
        self.mix = convolution_norm(middle, middle, 3, stride)
        self.widen = convolution_norm(middle, outputs, 1)
        self.shortcut = (
            nn.Identity()
            if stride == 1 and inputs == outputs
            else convolution_norm(inputs, outputs, 1, stride)
        )
        self.activation = nn.ReLU()
        self.drop_path = drop_path

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 _ _"]:
        """Branch plus shortcut."""
        branch = self.activation(self.mix(self.activation(self.narrow(x))))
        branch = self.widen(branch)
        if self.drop_path and self.training:
            branch = dropped(branch, self.drop_path)
        return self.activation(branch + self.shortcut(x))


class ResNet(Classifier):
    """Stages of `depths` bottleneck blocks, `widths` wide at their ends.

    `strides` are the stages', after the stem's 4. With a last one of 1, as dense prediction on
    small images wants it, the map that `features` calls 32 has stride 16.
    """

    def __init__(
        self,
        *,
        widths: Sequence[int] = (256, 512, 1024, 2048),
        depths: Sequence[int] = (3, 4, 6, 3),
        strides: Sequence[int] = (1, 2, 2, 2),
        num_classes: int = 1000,
        in_channels: int = 3,
        colours: Colours = IMAGENET,
        drop_path: int | float = 0.0,
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
        self.stem = convolution_norm(in_channels, STEM, 7, 2)
        self.start = nn.Sequential(nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1))
        rates = iter(rising(drop_path, sum(depths)))
        self.stages = nn.ModuleList()
        inputs = STEM
        for width, depth, stride in zip(widths, depths, strides, strict=True):
            blocks = nn.Sequential()
            for block in range(depth):
                step = 1 if block else stride
                blocks.append(Bottleneck(inputs, width, stride=step, drop_path=next(rates)))
                inputs = width
            self.stages.append(blocks)
        self.apply(_initialise)

    def features(self, x: Float[Tensor, "B C H W"]) -> dict[int, Float[Tensor, "B _ _ _"]]:
        """See Classifier.features."""
        x = self.start(self.stem(self.normalised(x)))
        maps = {}
        for stride, stage in zip(self.feature_channels, self.stages, strict=True):
            x = maps[stride] = self.through(stage, x)
        return maps

    def embedding(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2"]:
        """Mean of the last map."""
        return list(self.features(x).values())[-1].mean((-2, -1))

    def translate_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return weights of timm, torchvision or Hugging Face under our names; ours as they are."""
        return renamed(weights, _RENAMED, self.state_dict())


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, Bottleneck):  # a block starts as its shortcut
        nn.init.zeros_(module.widen[1].weight)


_RENAMED = (
    (r"^(fc|classifier\.1)\.", "head."),
    *HEAD,
    # timm and torchvision
    (r"^conv1\.", "stem.0."),
    (r"^bn1\.", "stem.1."),
    *((rf"^layer{stage + 1}\.", f"stages.{stage}.") for stage in range(4)),
    *(
        (rf"^(stages\.\d+\.\d+)\.{theirs}{place + 1}\.", rf"\1.{ours}.{index}.")
        for place, ours in enumerate(("narrow", "mix", "widen"))
        for index, theirs in enumerate(("conv", "bn"))
    ),
    (r"^(stages\.\d+\.\d+)\.downsample\.", r"\1.shortcut."),
    # Hugging Face
    (r"^resnet\.embedder\.embedder\.", "stem."),
    (r"^resnet\.encoder\.stages\.(\d+)\.layers\.", r"stages.\1."),
    *(
        (rf"^(stages\.\d+\.\d+)\.layer\.{place}\.", rf"\1.{ours}.")
        for place, ours in enumerate(("narrow", "mix", "widen"))
    ),
    (r"\.convolution\.", ".0."),
    (r"\.normalization\.", ".1."),
)

resnet50 = partial(ResNet)
