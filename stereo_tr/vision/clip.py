"""CLIP: images and texts as vectors of one space, where what belongs together points one way.

Letters  B batch, C channels, H W image, T tokens of a text, J joint width, K classes
Source   Radford et al. 2021, https://arxiv.org/abs/2103.00020; image tower: ViTamin,
         https://arxiv.org/abs/2404.02132; sizes and layout: OpenCLIP
Tests    tests/vision/test_clip.py: OpenCLIP's text tower and loss, parameter counts
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..attention import (
    Attention,
    EarlierInRow,
    FeedForward,
    LayoutAttention,
    LearnedMap,
    Residual,
)
from .classifier import Classifier, initialise
from .tokenizer import CONTEXT
from .translation import FUSED, renamed
from .vitamin import vitamin_base_224, vitamin_large_224, vitamin_small_224

VOCABULARY = 49408
"""tokens of the published list of merges"""

MLP = 4
"""width of the feed-forward's middle, in widths of the model"""

TEMPERATURE = 0.07
"""that training starts from: similarities are divided by it"""

LARGEST_SCALE = 100.0
"""of similarities; training would let it grow without end"""


class TextTower(nn.Module):
    """Transformer whose tokens look back only; the end mark speaks for the text.

    The end mark is the token with the largest number.
    """

    def __init__(
        self,
        *,
        channels: int,
        depth: int,
        heads: int,
        joint: int,
        vocabulary: int = VOCABULARY,
        context: int = CONTEXT,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, channels)
        self.position = LearnedMap(1, context, channels)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                Residual(LayoutAttention(EarlierInRow(), Attention(channels, heads)), channels),
                Residual(FeedForward(channels, MLP * channels), channels),
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(channels)
        self.to_joint = nn.Linear(channels, joint, bias=False)
        self.checkpointing = checkpointing
        self.apply(initialise)
        nn.init.normal_(self.words.weight, std=0.02)

    def forward(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B J"]:
        """One vector for each text. Raises ValueError for more tokens than the context has."""
        length, context = tokens.shape[1], self.position.table.shape[1]
        if length > context:
            raise ValueError(f"{length} tokens in a text; this model reads {context} at most")
        x = (self.words(tokens) + self.position.table[0, :length])[:, None]
        for block in self.blocks:
            if self.checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        ends = tokens.argmax(-1)
        spoken = x[torch.arange(len(x), device=x.device), 0, ends]
        return self.to_joint(self.norm(spoken))

    def translate_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return OpenCLIP's weights of a text tower under our names; ours as they are."""
        result = renamed(weights, _TEXT, self.state_dict())
        if "text_projection" in weights:
            result["to_joint.weight"] = result["to_joint.weight"].T
        if "positional_embedding" in weights:
            result["position.table"] = result["position.table"][None]
        return result


class JointVectors(NamedTuple):
    """Vectors of length 1 and the factor that their products are scored with."""

    image: Float[Tensor, "B J"]
    text: Float[Tensor, "B2 J"]
    scale: Float[Tensor, ""]


class CLIP(nn.Module):
    """An image tower and a text tower that end in one space of `joint` channels."""

    def __init__(self, image: Classifier, text: TextTower, channels: int, joint: int) -> None:
        super().__init__()
        self.image, self.text = image, text
        self.to_joint = nn.Linear(channels, joint, bias=False)
        initialise(self.to_joint)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(TEMPERATURE)))

    def forward(
        self, images: Float[Tensor, "B C H W"], tokens: Int[Tensor, "B2 T"]
    ) -> JointVectors:
        """Vectors of images in [0, 1] and of texts (see Tokenizer)."""
        if self.training:  # as if after every step of training
            with torch.no_grad():
                self.log_scale.clamp_(0, math.log(LARGEST_SCALE))
        scale = self.log_scale.exp()
        return JointVectors(self.encode_images(images), self.encode_texts(tokens), scale)

    def encode_images(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B J"]:
        """Vectors of length 1 of images in [0, 1]."""
        return F.normalize(self.to_joint(self.image.embedding(images)), dim=-1)

    def encode_texts(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B J"]:
        """Vectors of length 1 of texts."""
        return F.normalize(self.text(tokens), dim=-1)

    def zero_shot_classes(self, prompts: Sequence[Int[Tensor, "_ T"]]) -> Float[Tensor, "K J"]:
        """A vector of length 1 for each class: the mean over its texts, each of length 1."""
        means = [self.encode_texts(texts).mean(0) for texts in prompts]
        return F.normalize(torch.stack(means), dim=-1)

    def classify(
        self, images: Float[Tensor, "B C H W"], classes: Float[Tensor, "K J"]
    ) -> Float[Tensor, "B K"]:
        """Score each class of `zero_shot_classes` for each image; softmax gives probabilities."""
        return self.log_scale.exp() * self.encode_images(images) @ classes.T

    def translate_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return OpenCLIP's weights under our names; ours as they are.

        Its image tower is `visual.trunk`; its text tower `text`, or has no name of its own.
        """
        image, text, rest = {}, {}, {}
        for name, value in weights.items():
            for prefix, part in (("visual.trunk.", image), ("image.", image), ("text.", text)):
                if name.startswith(prefix):
                    part[name.removeprefix(prefix)] = value
                    break
            else:
                bare = name.startswith(_BARE_TEXT)
                (text if bare else rest)[_CLIP.get(name, name)] = value
        image = getattr(self.image, "translate_weights", dict)(image)
        text = self.text.translate_weights(text)
        return {
            **{f"image.{name}": value for name, value in image.items()},
            **{f"text.{name}": value for name, value in text.items()},
            **rest,
        }


def contrastive_loss(
    image: Float[Tensor, "B J"], text: Float[Tensor, "B J"], scale: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """Symmetric cross-entropy: find each image's text and each text's image among the batch's.

    Image b belongs to text b. Vectors have length 1; their products are scored times `scale`. The
    batch is that of all processes together, each of which brings as many pairs: every process
    returns the same loss, and gradients averaged over processes are those of one process.
    """
    image, text = from_all_processes(image), from_all_processes(text)
    scores = scale * image @ text.T
    partners = torch.arange(len(scores), device=scores.device)
    return (F.cross_entropy(scores, partners) + F.cross_entropy(scores.T, partners)) / 2


def from_all_processes(own: Float[Tensor, "B J"]) -> Float[Tensor, "B2 J"]:
    """Join the rows of all processes, in their order; alone, a process has them all.

    Gradients reach this process's own rows, times the number of processes: averaging the gradients
    of the weights divides by it again.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return own
    count = dist.get_world_size()
    rows = [torch.empty_like(own) for _ in range(count)]
    dist.all_gather(rows, own.detach().contiguous())
    rows[dist.get_rank()] = count * own - (count - 1) * own.detach()
    return torch.cat(rows)


_CLIP = {"visual.head.proj.weight": "to_joint.weight", "logit_scale": "log_scale"}
_BARE_TEXT = (
    "token_embedding.",
    "positional_embedding",
    "transformer.",
    "ln_final.",
    "text_projection",
)
_TEXT = (
    (r"^token_embedding\.", "words."),
    (r"^positional_embedding$", "position.table"),
    (r"^text_projection$", "to_joint.weight"),
    (r"^ln_final\.", "norm."),
    (r"^transformer\.resblocks\.", "blocks."),
    (r"^(blocks\.\d+)\.ln_1\.", r"\1.0.norm."),
    (r"^(blocks\.\d+)\.attn\.in_proj_(weight|bias)$", rf"\1.0.branch.attention{FUSED}\2"),
    (r"^(blocks\.\d+)\.attn\.out_proj\.", r"\1.0.branch.attention.to_out."),
    (r"^(blocks\.\d+)\.ln_2\.", r"\1.1.norm."),
    (r"^(blocks\.\d+)\.mlp\.c_fc\.", r"\1.1.branch.widen."),
    (r"^(blocks\.\d+)\.mlp\.c_proj\.", r"\1.1.branch.narrow."),
)
"""OpenCLIP's names of a text tower"""


def _vitamin_clip(
    image_size: int | tuple[int, int] = 224,
    *,
    tower: partial,
    joint: int,
    heads: int,
    in_channels: int = 3,
    vocabulary: int = VOCABULARY,
    context: int = CONTEXT,
    drop_path: int | float = 0.0,
    checkpointing: bool = False,
) -> CLIP:
    """Join an image tower with a text tower of 12 blocks, as wide as the joint space."""
    image = tower(
        image_size=image_size,
        num_classes=0,
        in_channels=in_channels,
        drop_path=drop_path,
        checkpointing=checkpointing,
    )
    text = TextTower(
        channels=joint,
        depth=12,
        heads=heads,
        joint=joint,
        vocabulary=vocabulary,
        context=context,
        checkpointing=checkpointing,
    )
    return CLIP(image, text, image.feature_channels[16], joint)


vitamin_small_clip = partial(_vitamin_clip, tower=vitamin_small_224, joint=384, heads=6)
vitamin_base_clip = partial(_vitamin_clip, tower=vitamin_base_224, joint=512, heads=8)
vitamin_large_clip = partial(_vitamin_clip, tower=vitamin_large_224, joint=768, heads=12)
