"""MaX-DeepLab: pixels and object queries talk to each other inside the backbone.

Residual blocks, axial from stride 16 on, and after each of the late ones a dual-path layer; then a
decoder that goes up to stride 4 (S), or up and down and up again (L).

Letters  B batch, C channels, H W size of a map, Q queries
Source   Wang et al. 2021, https://arxiv.org/abs/2012.00759; L's backbone: Wide-ResNet-41,
         https://arxiv.org/abs/1911.10194
Tests    tests/mask/test_max_deeplab.py: the authors' small network, all its maps (TensorFlow);
         tests/mask/test_mask_costs.py: parameters and costs
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..datasets.panoptic_sample import PanopticSample
from .axial_resnet import DEPTHS, FILTERS, STEM, stage, stem
from .blocks import HEADS, ConvolutionNorm, resized
from .dual_path import INTERACTIONS, DualPathLayer
from .heads import FEATURES, HIDDEN, MaskHead, SemanticBranch
from .losses import MaskLosses, mask_losses
from .output import MaskOutput
from .translation import without_branch

OUTPUT_STRIDE, FINEST = 16, 4
"""the decoder moves between these"""


class State(NamedTuple):
    """What flows through the network."""

    pixels: Float[Tensor, "B _ _ _"]
    queries: Float[Tensor, "B _ 1 Q"]
    assignments: tuple[Tensor, ...]


class TalkingStage(nn.Module):
    """Residual blocks, each followed by a dual-path layer, if `make_layer` is given."""

    def __init__(self, blocks: Sequence[nn.Module], make_layer: partial | None = None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.layers = nn.ModuleList(make_layer() if make_layer else None for _ in blocks)

    def forward(self, state: State) -> State:
        """Pixels un-activated in and out."""
        pixels, queries, assignments = state
        for block, layer in zip(self.blocks, self.layers, strict=True):
            pixels = block(pixels)
            if layer is not None:
                output = layer(pixels, queries)
                pixels, queries = output.pixels, output.queries
                assignments = (*assignments, output.assignment)
        return State(pixels, queries, assignments)


class ResizedSum(nn.Module):
    """Sum of maps at one size; what has another width is activated and projected first.

    A map that is twice as large (`finer`) and projected loses every second row and column;
    everything else is interpolated with its corners in place.
    """

    def __init__(
        self,
        inputs: Sequence[int],
        finer: Sequence[bool],
        outputs: int,
        activation: type[nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        self.activation = activation()
        self.project = nn.ModuleList(
            None if width == outputs else ConvolutionNorm(width, outputs, stride=1 + halved)
            for width, halved in zip(inputs, finer, strict=True)
        )

    def forward(
        self, maps: Sequence[Float[Tensor, "B _ _ _"]], like: Float[Tensor, "B _ H W"]
    ) -> Float[Tensor, "B C H W"]:
        """Sum at the size of `like`, un-activated."""
        total = 0.0
        for x, project in zip(maps, self.project, strict=True):
            if project is not None:
                x = project(self.activation(x))
            total = total + resized(x, like, corners=True)
        return total


class Step(NamedTuple):
    """One step of the decoder."""

    stride: int
    depth: int
    """blocks"""


S_STEPS = (Step(8, 1), Step(4, 1))
L_STEPS = (
    *(Step(8, 1), Step(4, 1), Step(8, 1), Step(16, 1 + 3)),
    *(Step(8, 3), Step(4, 3), Step(8, 3), Step(16, 3), Step(8, 3), Step(4, 3)),
)
"""up, down, and up: twice; the first way belongs to the backbone, with a block a step"""


class MaXDeepLab(nn.Module):
    """Images to one class and one mask for every object query.

    filters, depths: of the residual stages, the last at the same stride as the one before.
    convolution: kind of the blocks that don't attend; "basic" also makes the stem one convolution.
    expansion: see Block. talk_from: stride from which on dual-path layers follow the blocks.
    extra: blocks after the last stage. steps: of the decoder. semantic_step: which of its maps at
    stride 4 the semantic branch reads; None for the last residual stage's.
    interaction: of the dual-path layers. channels: of a query.
    """

    def __init__(
        self,
        *,
        num_classes: int = 133,
        num_queries: int = 128,
        interaction: str = "dual_cross",
        stem_widths: Sequence[int] = STEM,
        filters: Sequence[int] = FILTERS,
        depths: Sequence[int] = DEPTHS,
        convolution: str = "bottleneck",
        expansion: int = 2,
        talk_from: int = 32,
        extra: int = 1,
        steps: Sequence[tuple[int, int]] = S_STEPS,
        semantic_step: int | None = None,
        channels: int = 256,
        layer_filters: int = 128,
        feed_forward: int = 2048,
        global_channels: int = 256,
        heads: int = HEADS,
        hidden: int = HIDDEN,
        features: int = FEATURES,
        drop_path: int | float = 0.2,
        drop_from: int = 16,
        semantic: bool = False,
        losses: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if interaction not in INTERACTIONS:
            raise ValueError(f"interaction={interaction!r}; known are {', '.join(INTERACTIONS)}")
        if num_classes < 1 or num_queries < 1:
            raise ValueError(f"num_classes={num_classes}, num_queries={num_queries}: at least 1")
        self.queries = nn.Parameter(torch.empty(channels, num_queries))
        nn.init.trunc_normal_(self.queries, std=1.0)
        self.steps, self.semantic_step = [Step(*step) for step in steps], semantic_step

        def talking(
            inputs: int, width: int, depth: int, input_stride: int, nominal: int, **more: Any
        ) -> TalkingStage:
            """A stage; `nominal` is the stride that its layers' width grows with."""
            blocks = stage(
                inputs,
                width,
                depth,
                input_stride,
                convolution=convolution,
                expansion=expansion,
                heads=heads,
                drop_path=drop_path,
                drop_from=drop_from,
                activation=nn.ReLU,
                **more,
            )
            make_layer = partial(
                DualPathLayer,
                4 * width,
                channels,
                INTERACTIONS[interaction],
                num_classes=num_classes,
                filters=layer_filters * nominal // OUTPUT_STRIDE,
                heads=heads,
                feed_forward=feed_forward,
                activation=nn.ReLU,
                drop_path=drop_path,
                head_sizes={"hidden": hidden, "features": features},
            )
            talks = input_stride * more.get("stride", 2) >= talk_from
            return TalkingStage(blocks, make_layer if talks else None)

        wide = convolution == "basic"
        self.stem = (
            ConvolutionNorm(3, stem_widths[0], 3, stride=2) if wide else stem(stem_widths, nn.ReLU)
        )
        inputs = stem_widths[0 if wide else -1]
        self.stages = nn.ModuleList()
        for index, (width, depth) in enumerate(zip(filters, depths, strict=True)):
            # A wide network has a first stage at the stem's stride.
            stride = 1 if wide and not index else 2
            input_stride = max(2 ** (index + 1 - wide), 2)
            more = {"stride": stride, "halve": input_stride < OUTPUT_STRIDE}
            self.stages.append(talking(inputs, width, depth, input_stride, input_stride, **more))
            inputs = 4 * width
        self.extra = (
            talking(inputs, filters[-1], extra, 2 * OUTPUT_STRIDE, OUTPUT_STRIDE, stride=1)
            if extra
            else None
        )

        *_, fine, middle, _, coarse = (4 * width for width in filters)
        width_at = {FINEST: fine, 8: middle, OUTPUT_STRIDE: coarse}
        known = {stride: [width] for stride, width in width_at.items()}
        self.sums, self.decoder = nn.ModuleList(), nn.ModuleList()
        before = OUTPUT_STRIDE
        for step in self.steps:
            width = width_at[step.stride]
            maps = [inputs, *known[step.stride][-2:]]
            finer = [2 * before == step.stride] + [False] * (len(maps) - 1)
            self.sums.append(ResizedSum(maps, finer, width))
            nominal = 2 * OUTPUT_STRIDE if step.stride == OUTPUT_STRIDE else step.stride
            self.decoder.append(
                talking(width, width // 4, step.depth, nominal, step.stride, stride=1)
            )
            known[step.stride].append(width)
            inputs, before = width, step.stride
        self.of_classes = ConvolutionNorm(channels, global_channels, activation=nn.ReLU)
        self.of_masks = ConvolutionNorm(channels, global_channels, activation=nn.ReLU)
        self.head = MaskHead(
            inputs,
            global_channels,
            num_classes,
            activation=nn.ReLU,
            hidden=hidden,
            features=features,
        )
        read = coarse if semantic_step is None else fine
        self.semantic = (
            SemanticBranch((read, middle, fine), num_classes + 1, activation=nn.ReLU, hidden=hidden)
            if semantic
            else None
        )
        self.num_classes, self.num_queries = num_classes, num_queries
        self.losses = MaskLosses(**({"contrast": "masks"} | dict(losses or {})))
        self.losses.check(num_classes)

    def forward(self, images: Float[Tensor, "B C H W"]) -> MaskOutput:
        """Segment RGB images in [0, 1], of any size.

        Raises ValueError for another number of channels.
        """
        if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
            raise ValueError(f"images {list(images.shape)}; give [images, 3, height, width]")
        state, stages = self.encoded(images)
        state, finest = self.decoded(state, stages)
        final = self.head(
            F.relu(finest[-1]), self.of_masks(state.queries), self.of_classes(state.queries)
        )
        output = MaskOutput(
            final=final.masks, pixel_features=final.features, assignments=state.assignments
        )
        if self.semantic is None or not self.training:
            return output
        *_, fine, middle, _, coarse = stages
        coarse = coarse if self.semantic_step is None else finest[self.semantic_step]
        maps = (F.relu(x) for x in (coarse, middle, fine))
        return output._replace(semantic_logits=self.semantic(*maps))

    def encoded(self, images: Float[Tensor, "B 3 H W"]) -> tuple[State, list[Tensor]]:
        """Everything before the decoder, and the map of each stage, un-activated."""
        queries = self.queries[None, :, None].expand(images.shape[0], -1, -1, -1)
        state, stages = State(self.stem(2 * images - 1), queries, ()), []
        for each in self.stages:
            state = each(state)
            stages.append(state.pixels)
        return (self.extra(state) if self.extra is not None else state), stages

    def decoded(self, state: State, stages: Sequence[Tensor]) -> tuple[State, list[Tensor]]:
        """Follow the decoder's steps; returns the maps at the finest stride as well."""
        *_, fine, middle, _, _ = stages
        known = {FINEST: [fine], 8: [middle], OUTPUT_STRIDE: [state.pixels]}
        for step, fuse, blocks in zip(self.steps, self.sums, self.decoder, strict=True):
            maps = [state.pixels, *known[step.stride][-2:]]
            state = blocks(state._replace(pixels=fuse(maps, maps[1])))
            known[step.stride].append(state.pixels)
        return state, known[FINEST][1:]

    def training_losses(self, sample: PanopticSample) -> dict[str, Tensor]:
        """Weighted losses of a batch by name; what is learned is their sum."""
        return mask_losses(self(sample.image), sample, self.losses)

    def translate_weights(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return weights that were trained with the semantic branch for a model without it."""
        return without_branch(weights, self)


max_deeplab_s = partial(MaXDeepLab)
max_deeplab_l = partial(
    MaXDeepLab,
    filters=(32, 64, 128, 256, 512),
    depths=(3, 3, 6, 3, 3),
    convolution="basic",
    expansion=4,
    talk_from=16,
    extra=0,
    steps=L_STEPS,
    semantic_step=1,
    channels=512,
    layer_filters=256,
    global_channels=512,
    drop_from=4,
)
