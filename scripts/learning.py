"""Do the vision models learn? Tiny ones, on data that needs no download, in minutes on a CPU.

    stereo-tr learning
    stereo-tr learning --models vit swin --steps 300

ViT, Swin, MOAT and ViTamin tell scikit-learn's handwritten digits apart, CLIP does so from captions
alone (no class is ever named in training), TransUNet finds generated shapes. Prints a table: what
was reached on data that no step has seen, beside what must be reached.

Tests  tests/scripts/test_learning.py
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stereo_tr.scripts.command import run

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

SIDE = 32
"""pixels on a side of a picture; the digits come with 8"""

LARGE = 48
"""pixels on a side of a picture of shapes"""

BATCH = 64
"""pictures a step"""

FAR = 1
"""pixels that a digit is moved at most, along each axis, each time it is learned from"""

RATE = 2e-3
"""highest learning rate"""

UNSEEN = 7
"""seed of the shapes to measure with, used for nothing else: choices were made on seeds 1 and 2"""

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
CAPTIONS = ("the digit {}", "a photo of the number {}", "{}, written by hand", "this is a {}")
SHAPES = ("background", "disc", "square", "triangle")

TINY: dict[str, dict[str, Any]] = {
    "vit_tiny_patch16_224": {
        "patch": 8,
        "channels": 64,
        "depth": 3,
        "heads": 4,
        "image_size": SIDE,
    },
    "swin_tiny_patch4_window7_224": {
        "channels": 16,
        "depths": (2, 2, 1, 1),
        "heads": (2, 4, 8, 8),
        "window": 4,
        "drop_path": 0.0,
    },
    "moat_0": {
        "stem": 16,
        "depths": (1, 1, 2, 1),
        "widths": (16, 16, 32, 64),
        "head": 16,
        "drop_path": 0.0,
    },
    "vitamin_small_224": {
        "stem": 16,
        "channels": 64,
        "depth": 2,
        "heads": 4,
        "convolutions": (1, 1),
        "image_size": SIDE,
    },
    "transunet_r50_vit_b16": {
        "channels": 64,
        "depth": 2,
        "heads": 4,
        "hidden": 128,
        "width": 32,
        "units": (2, 2, 2),
        "decoder": (48, 32, 24, 16),
        "image_size": LARGE,
        "num_classes": len(SHAPES),
        "dropout": 0.0,
    },
}
"""changes to `create_model`'s models; everything else is as in the large ones"""


@dataclass(frozen=True)
class Learning:
    """Settings of the experiment."""

    models: tuple[str, ...] = ("vit", "swin", "moat", "vitamin", "transunet", "clip")
    """which of them"""
    steps: int | None = None
    """steps of each, 64 pictures a step, 8 for TransUNet (as many as it needs: 150 to 1500)"""
    seed: int = 0
    """seed of the weights and of the order of the pictures"""


class Result(NamedTuple):
    """What one model reached."""

    model: str
    parameters: int
    score: str
    """what is measured, on data that no step has seen"""
    reached: float
    required: float
    seconds: float
    """of training and of measuring"""


def learning(settings: Learning) -> list[Result]:
    """Train each model, print the table, and return it.

    Raises ValueError for an unknown model, and where scikit-learn isn't installed.
    """
    import torch

    from stereo_tr.datasets.naming import closest

    for name in settings.models:
        if name not in _EXPERIMENTS:
            raise ValueError(f"unknown model {name!r}; {closest(name, _EXPERIMENTS)}")
    if settings.steps is not None and settings.steps < 1:
        raise ValueError(f"--steps must be 1 or more, not {settings.steps}")
    results = []
    print("| model | parameters | on unseen data | reached | required | seconds |")
    print("|---|---|---|---|---|---|", flush=True)
    for name in settings.models:
        torch.manual_seed(settings.seed)
        began = time.monotonic()
        steps, experiment = _EXPERIMENTS[name]
        model, score, reached, required = experiment(settings.steps or steps)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        seconds = time.monotonic() - began
        results.append(Result(name, parameters, score, reached, required, seconds))
        print(
            f"| {name} | {parameters / 1e3:.0f} k | {score} | {reached:.3f} | {required} "
            f"| {seconds:.0f} |",
            flush=True,
        )
    return results


class Digits(NamedTuple):
    """Pictures [N, 1, H, W] in [0, 1] and what they show, for learning and for measuring."""

    pictures: "Tensor"
    labels: "Tensor"
    unseen_pictures: "Tensor"
    unseen_labels: "Tensor"


def digits(side: int = SIDE) -> Digits:
    """scikit-learn's 1797 handwritten digits, enlarged; a quarter of them is kept for measuring."""
    import torch
    import torch.nn.functional as F

    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise ValueError(
            "the digits come with scikit-learn: pip install 'stereo-tr[test]'"
        ) from error
    held = load_digits()
    pictures = torch.from_numpy(held.images).float()[:, None] / 16
    pictures = F.interpolate(pictures, (side, side), mode="bilinear", align_corners=False)
    labels = torch.from_numpy(held.target)
    train, unseen = train_test_split(
        np.arange(len(labels)), test_size=0.25, stratify=held.target, random_state=0
    )
    return Digits(pictures[train], labels[train], pictures[unseen], labels[unseen])


def shapes(count: int, seed: int, side: int = LARGE) -> "tuple[Tensor, Tensor]":
    """Pictures [count, 3, side, side] of coloured shapes under noise, and each pixel's class."""
    import cv2
    import torch

    random = np.random.default_rng(seed)
    pictures = np.empty((count, side, side, 3), np.float32)
    labels = np.zeros((count, side, side), np.uint8)
    for picture, label in zip(pictures, labels, strict=True):
        picture[:] = ground = random.uniform(0, 1, 3)
        for _ in range(random.integers(1, 3)):
            kind = int(random.integers(1, len(SHAPES)))
            middle = random.uniform(0.25, 0.75, 2) * side
            reach = random.uniform(0.22, 0.32) * side
            corners = {"disc": 40, "square": 4, "triangle": 3}[SHAPES[kind]]
            angles = (np.arange(corners) + 0.5) * 2 * np.pi / corners + np.pi / 2
            outline = middle + reach * np.stack((np.cos(angles), np.sin(angles)), 1)
            outline = outline.round().astype(np.int32)
            colour = (ground + random.uniform(0.3, 0.7, 3)) % 1  # never that of the ground
            cv2.fillPoly(picture, [outline], colour.tolist())
            cv2.fillPoly(label, [outline], kind)
        picture += random.normal(0, 0.05, picture.shape)
    tensor = torch.from_numpy(pictures.clip(0, 1)).permute(0, 3, 1, 2).contiguous()
    return tensor, torch.from_numpy(labels).long()


def dice(found: "Tensor", labels: "Tensor") -> float:
    """Mean over the shapes' classes, background left out, of 2 |A and B| / (|A| + |B|)."""
    each = [
        2 * ((found == kind) & (labels == kind)).sum() / ((found == kind).sum() + here.sum())
        for kind in range(1, len(SHAPES))
        if (here := labels == kind).any()
    ]
    return float(sum(each) / len(each))


def _train(
    model: "nn.Module",
    losses: "Callable[[Tensor], Tensor]",
    count: int,
    steps: int,
    label: str,
    batch: int = BATCH,
) -> None:
    """Take the steps: `losses` is told which `batch` of the `count` pictures it learns from."""
    import torch

    from stereo_tr.progress import progress

    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps, pct_start=0.1)
    model.train()
    bar = progress(range(steps), label=label)
    for _ in bar:
        loss = losses(torch.randint(count, (batch,)))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        bar.note(f"loss {loss.item():.3f}")
    model.eval()


def _moved(pictures: "Tensor") -> "Tensor":
    """Move all pictures of a step alike."""
    import torch

    down, across = torch.randint(-FAR, FAR + 1, (2,)).tolist()
    return pictures.roll((down, across), (2, 3))


def _classifier(steps: int, name: str) -> "tuple[nn.Module, str, float, float]":
    import torch
    import torch.nn.functional as F

    from stereo_tr import create_model

    data = digits()
    model = create_model(name, num_classes=len(DIGITS), in_channels=1, **TINY[name])

    def losses(chosen: "torch.Tensor") -> "torch.Tensor":
        return F.cross_entropy(model(_moved(data.pictures[chosen])), data.labels[chosen])

    _train(model, losses, len(data.labels), steps, name)
    # MOAT's running statistics, which follow slowly as published, are still those of the start
    torch.optim.swa_utils.update_bn(data.pictures.split(BATCH), model)
    with torch.no_grad():
        right = model(data.unseen_pictures).argmax(1) == data.unseen_labels
    return model, "accuracy on digits", right.float().mean().item(), 0.95


def _transunet(steps: int) -> "tuple[nn.Module, str, float, float]":
    import torch

    from stereo_tr import create_model
    from stereo_tr.vision.transunet import segmentation_loss

    name = "transunet_r50_vit_b16"
    pictures, labels = shapes(4000, seed=0)
    model = create_model(name, **TINY[name])

    def losses(chosen: "torch.Tensor") -> "torch.Tensor":
        return segmentation_loss(model(pictures[chosen]), labels[chosen])

    # every pixel of a picture has a class to learn from: few pictures a step, many steps
    _train(model, losses, len(labels), steps, name, BATCH // 8)
    pictures, labels = shapes(1000, seed=UNSEEN)
    with torch.no_grad():
        found = torch.cat([model(part).argmax(1) for part in pictures.split(BATCH)])
    return model, "Dice of shapes", dice(found, labels), 0.95


def _clip(steps: int) -> "tuple[nn.Module, str, float, float]":
    import torch

    from stereo_tr import create_model
    from stereo_tr.vision.clip import CLIP, TextTower, contrastive_loss
    from stereo_tr.vision.tokenizer import Tokenizer

    data, tokenizer = digits(), Tokenizer(context=SIDE)
    tower, joint = TINY["vitamin_small_224"], 48
    image = create_model("vitamin_small_224", num_classes=0, in_channels=1, **tower)
    text = TextTower(
        channels=48,
        depth=2,
        heads=4,
        joint=joint,
        vocabulary=tokenizer.vocabulary,
        context=tokenizer.context,
    )
    model = CLIP(image, text, tower["channels"], joint)
    captions = torch.stack([tokenizer([c.format(word) for c in CAPTIONS]) for word in DIGITS])

    def losses(chosen: "torch.Tensor") -> "torch.Tensor":
        said = captions[data.labels[chosen], torch.randint(len(CAPTIONS), (len(chosen),))]
        return contrastive_loss(*model(_moved(data.pictures[chosen]), said))

    _train(model, losses, len(data.labels), steps, "clip")
    with torch.no_grad():
        classes = model.zero_shot_classes(list(captions))
        right = model.classify(data.unseen_pictures, classes).argmax(1) == data.unseen_labels
    return model, "zero-shot accuracy on digits", right.float().mean().item(), 0.9


_EXPERIMENTS: "dict[str, tuple[int, Callable[[int], tuple[nn.Module, str, float, float]]]]" = {
    "vit": (800, partial(_classifier, name="vit_tiny_patch16_224")),
    "swin": (200, partial(_classifier, name="swin_tiny_patch4_window7_224")),
    "moat": (150, partial(_classifier, name="moat_0")),
    "vitamin": (250, partial(_classifier, name="vitamin_small_224")),
    "transunet": (1500, _transunet),
    "clip": (300, _clip),
}
"""name -> steps, and what takes them: a function that returns the model, what is measured, what was
reached and what must be"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `stereo-tr learning`."""
    run(Learning, learning, "learning", __doc__.partition("\n")[0], arguments)


if __name__ == "__main__":
    main()
