"""Vision Transformer: patches as words, one token more for the class, everything meets everything.

The tokens are a map of a single row, [B, 1, 1 + h * w, C], which the core's blocks take as it is.

Letters  B batch, C channels, H W image, h w token grid, N = 1 + h * w tokens, P patch size
Source   Dosovitskiy et al. 2020, https://arxiv.org/abs/2010.11929; sizes tiny and small: DeiT,
         https://arxiv.org/abs/2012.12877
Tests    tests/vision/test_vit.py: Hugging Face's ViT, timm's golden output, Google's layout;
         tests/vision/test_costs.py: published parameters and costs
"""

from collections.abc import Mapping
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..attention import (
    Attention,
    FeedForward,
    LayoutAttention,
    LearnedMap,
    Residual,
    Rows,
)
from .classifier import CENTRED, STRIDES, Classifier, Colours, initialise, pyramid_of_one, rising
from .patches import Patches
from .translation import FUSED, GOOGLE, HEAD, PROJECTIONS, fitted_table, from_google, renamed

LayerNorm = partial(nn.LayerNorm, eps=1e-6)

MLP = 4
"""width of the feed-forward's middle, in widths of the model"""


class VisionTransformer(Classifier):
    """`depth` blocks of attention and feed-forward over patches of `patch` x `patch` pixels.

    The position table belongs to images of `image_size` (one number, or height and width) and is
    resized for others in every call. All maps of the pyramid are the last one, resized.
    """

    def __init__(
        self,
        *,
        patch: int = 16,
        channels: int = 768,
        depth: int = 12,
        heads: int = 12,
        image_size: int | tuple[int, int] = 224,
        num_classes: int = 1000,
        in_channels: int = 3,
        colours: Colours = CENTRED,
        drop_path: int | float = 0.0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__(
            channels,
            [channels] * len(STRIDES),
            num_classes=num_classes,
            in_channels=in_channels,
            colours=colours,
            checkpointing=checkpointing,
        )
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        self.patches = Patches(in_channels, channels, patch)
        self.class_token = nn.Parameter(torch.empty(channels))
        self.class_position = nn.Parameter(torch.empty(channels))
        self.position = LearnedMap(-(-height // patch), -(-width // patch), channels)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                Residual(
                    LayoutAttention(Rows(), Attention(channels, heads)),
                    channels,
                    make_norm=LayerNorm,
                    drop_path=rate,
                ),
                Residual(
                    FeedForward(channels, MLP * channels),
                    channels,
                    make_norm=LayerNorm,
                    drop_path=rate,
                ),
            )
            for rate in rising(drop_path, depth)
        )
        self.norm = LayerNorm(channels)
        self.apply(initialise)
        nn.init.trunc_normal_(self.class_token, std=0.02)
        nn.init.trunc_normal_(self.class_position, std=0.02)

    def tokens(
        self, x: Float[Tensor, "B C H W"]
    ) -> tuple[Float[Tensor, "B C2"], Float[Tensor, "B h w C2"]]:
        """Return the class token and the map after all blocks, normalised."""
        map_ = self.patches(self.normalised(x))
        height, width = map_.shape[1:3]
        map_ = (map_ + self.position(height, width)).flatten(1, 2)
        token = (self.class_token + self.class_position).expand(map_.shape[0], 1, -1)
        row = torch.cat((token, map_), dim=1)[:, None]
        row = self.norm(self.through(self.blocks, row))[:, 0]
        return row[:, 0], row[:, 1:].unflatten(1, (height, width))

    def embedding(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2"]:
        """The class token after all blocks."""
        return self.tokens(x)[0]

    def features(self, x: Float[Tensor, "B C H W"]) -> dict[int, Float[Tensor, "B C2 _ _"]]:
        """See Classifier.features."""
        return pyramid_of_one(self.tokens(x)[1], self.patches.size, *x.shape[-2:])

    def translate_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return weights of timm, Hugging Face or Google under our names; ours as they are."""
        if GOOGLE in weights:
            weights = from_google(weights)
        own = self.state_dict()
        result = renamed(weights, _RENAMED, own)
        table = result.get("position.table")
        if table is not None:
            size, ours = self.position.table.shape[:2], "position.table" in weights
            if not ours and table.ndim == 3 and table.shape[0] == 1:
                # the class token's position, then the map's in one sequence
                result["class_position"], table = table[0, 0], table[:, 1:]
            result["position.table"] = fitted_table(table, *size, ours=ours)
        if "class_token" in result:
            result["class_token"] = result["class_token"].flatten()
        return result


_RENAMED = (
    # Google's own head is called as ours
    *HEAD,
    (r"^(vit\.embeddings\.)?cls_token$", "class_token"),
    (r"^(vit\.embeddings\.position_embeddings|pos_embed)$", "position.table"),
    (r"^(vit\.embeddings\.patch_embeddings\.projection|patch_embed\.proj)\.", "patches.project."),
    (r"^vit\.(encoder\.layer|layers)\.", "blocks."),
    (r"^vit\.layernorm\.", "norm."),
    (r"^(blocks\.\d+)\.(norm1|layernorm_before)\.", r"\1.0.norm."),
    (r"^(blocks\.\d+)\.(norm2|layernorm_after)\.", r"\1.1.norm."),
    (r"^(blocks\.\d+)\.attn\.qkv\.", rf"\1.0.branch.attention{FUSED}"),
    (
        r"^(blocks\.\d+)\.(attn\.proj|attention\.o_proj|attention\.output\.dense)\.",
        r"\1.0.branch.attention.to_out.",
    ),
    (r"^(blocks\.\d+)\.attention\.(attention\.)?", r"\1.0.branch.attention."),
    *PROJECTIONS,
    (r"^(blocks\.\d+)\.(mlp\.fc1|intermediate\.dense)\.", r"\1.1.branch.widen."),
    (r"^(blocks\.\d+)\.(mlp\.fc2|output\.dense)\.", r"\1.1.branch.narrow."),
)
"""timm's names and Hugging Face's (of transformers 4 and of 5)"""

_tiny = partial(VisionTransformer, channels=192, depth=12, heads=3)
_small = partial(VisionTransformer, channels=384, depth=12, heads=6)
_base = partial(VisionTransformer, channels=768, depth=12, heads=12)
_large = partial(VisionTransformer, channels=1024, depth=24, heads=16)
_huge = partial(VisionTransformer, channels=1280, depth=32, heads=16)

vit_tiny_patch16_224 = partial(_tiny, patch=16)
vit_small_patch16_224 = partial(_small, patch=16)
vit_small_patch32_224 = partial(_small, patch=32)
vit_base_patch16_224 = partial(_base, patch=16)
vit_base_patch32_224 = partial(_base, patch=32)
vit_large_patch16_224 = partial(_large, patch=16)
vit_large_patch14_224 = partial(_large, patch=14)
vit_huge_patch14_224 = partial(_huge, patch=14)
