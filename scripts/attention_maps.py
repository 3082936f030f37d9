"""Draw what a model looks at: the attention weights of every layer over an image.

    stereo-tr attention_maps photo.png --model vit_base_patch16_224 --weights vit.npz --out maps
    stereo-tr attention_maps left.png right.png --model cstr_small --at 320 240 --out maps

One picture a layer, in the layers' order, and overview.png with all of them: the image with the
query's place marked red, and over it how much that place looks at every other one, mean over the
heads, from dark (not at all) to light (most). What isn't in the query's sequence (another window,
row, column) stays dark. A stereo model's layers show both views; the query stands in the left one.
With --class-token the query is ViT's class token, which decides the class.

Tests  tests/scripts/test_attention_maps.py
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from tyro.conf import Positional

from stereo_tr.scripts.command import NO_DEFAULT, run

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stereo_tr.attention import Layout

GAP = 4
"""pixels of white between pictures"""

MARK = (255, 40, 40)
"""colour of the query's place"""

SHARE = 0.7
"""of the weights' colours in a picture; the rest is the image, in grey"""

COLUMNS = 4
"""layers side by side in the overview"""


@dataclass(frozen=True)
class AttentionMaps:
    """Settings of the command."""

    images: Positional[tuple[Path, ...]]
    """the image; for a stereo model the left view and the right one"""
    out: Path
    """folder for the pictures"""
    model: str = "cstr_small"
    """name of the model"""
    override: tuple[str, ...] = ()
    """changes to the model, name=value each"""
    weights: Annotated[str | None, NO_DEFAULT] = None
    """file of weights (default: those that come with the package, else random ones)"""
    at: Annotated[tuple[int, int] | None, NO_DEFAULT] = None
    """column and row of the query, in pixels (default: the middle)"""
    class_token: bool = False
    """let ViT's class token be the query"""
    size: Annotated[tuple[int, int] | None, NO_DEFAULT] = None
    """height and width that images are scaled and cut to (default: left as they are)"""


class Layer(NamedTuple):
    """What one attention did while the model ran."""

    name: str
    weights: "Tensor"
    """[sequences, heads, queries, keys]"""
    layout: "Layout"
    maps: int
    height: int
    """of the map, in tokens"""
    width: int


def attention_maps(settings: AttentionMaps) -> list[Path]:
    """Draw what the settings ask for; returns the files.

    Raises ValueError for a model without attention over a map, or a place outside the image, and
    OSError for files that can't be read or written.
    """
    import torch

    from stereo_tr.datasets.files import encode_png, writable_folder, write_files

    images = _images(settings)
    height, width = images[0].shape[1:]
    column, row = settings.at or (width // 2, height // 2)
    if not (0 <= column < width and 0 <= row < height):
        raise ValueError(f"--at {column} {row} lies outside the image of {width}x{height} px")
    place = None if settings.class_token else (row, column)
    model = _model(settings)
    batch = torch.stack(images)
    views = batch.chunk(2) if len(images) == 2 else (batch,)
    layers = recorded_layers(model, lambda: model(*views))
    if not layers:
        raise ValueError(f"{settings.model} has no attention among the places of a map")
    pictures = {}
    for number, layer in enumerate(layers):
        seen = _seen(model, layer, images, place)
        pictures[f"layer_{number:02d}.png"] = _picture(images, seen, place)
        size = "x".join(map(str, seen.shape[1:]))
        print(f"layer_{number:02d}.png: {layer.name}, {size} tokens")
    pictures["overview.png"] = _overview(list(pictures.values()))
    writable_folder(settings.out)
    files = {settings.out / name: encode_png(picture) for name, picture in pictures.items()}
    write_files(files)
    print(f"{settings.out / 'overview.png'} shows all of them, row by row")
    return list(files)


def recorded_layers(model: "nn.Module", work: Callable[[], object]) -> list[Layer]:
    """Run `work` and return what each attention over a map in `model` did, in the order they ran.

    Attention that isn't over a map (the text tower's, that of object queries) isn't among it.
    """
    import torch

    from stereo_tr.attention import LayoutAttention, recorded_weights

    sizes: dict[str, tuple[LayoutAttention, tuple[int, int, int]]] = {}
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, LayoutAttention):

            def note(module: "nn.Module", arguments: Any, name: str = name) -> None:
                sizes[f"{name}.attention"] = (module, tuple(arguments[0].shape[:3]))

            handles.append(module.register_forward_pre_hook(note))
    try:
        with torch.no_grad(), recorded_weights(model) as weights:
            work()
    finally:
        for handle in handles:
            handle.remove()
    return [
        Layer(name, weights[name], module.layout, *shape) for name, (module, shape) in sizes.items()
    ]


def looked_at(layer: Layer, map_: int, row: int, column: int) -> "Tensor":
    """How much a token looks at every token of all maps, mean over heads: [maps, height, width].

    The layout itself says in which sequence the token stands, and where its keys lie.
    """
    import torch

    count = layer.maps * layer.height * layer.width
    number = torch.arange(1.0, count + 1, dtype=torch.float64)  # 0 is padding
    number = number.view(layer.maps, layer.height, layer.width, 1)
    queries, keys = (
        tokens[..., 0].long()
        for tokens in (layer.layout.split(number), layer.layout.context(number))
    )
    wanted = int(number[map_, row, column, 0])
    sequence, token = (queries == wanted).nonzero()[0].tolist()
    seen = torch.zeros(count + 1)
    seen.index_add_(0, keys[sequence], layer.weights[sequence, :, token].mean(0).float())
    return seen[1:].view(layer.maps, layer.height, layer.width)


def _images(settings: AttentionMaps) -> "list[Tensor]":
    """Read the image or the two views, RGB in [0, 1]."""
    from stereo_tr.datasets.files import read_image
    from stereo_tr.datasets.image_folder import fitted
    from stereo_tr.pretrained import model_kind

    views = 2 if model_kind(settings.model) == "stereo" else 1
    if len(settings.images) != views:
        raise ValueError(
            f"{settings.model} takes {views} image{'s' * (views - 1)}, not {len(settings.images)}"
        )
    images = [read_image(path) for path in settings.images]
    images = [fitted(image, *(settings.size or image.shape[:2])) for image in images]
    if len({image.shape for image in images}) > 1:
        raise ValueError("the views differ in size: " + " and ".join(map(str, settings.images)))
    return images


def _model(settings: AttentionMaps) -> "nn.Module":
    """The model with the weights that are given, or come along; with random ones it says so."""
    import torch

    from stereo_tr.pretrained import (
        create_model,
        load_weights,
        model_from_weights,
        model_kind,
        packaged_weights,
    )
    from stereo_tr.recipe import parse_overrides

    if model_kind(settings.model) == "mask" or settings.model.endswith("_clip"):
        raise ValueError(f"{settings.model} isn't drawn: take a stereo or an image model")
    weights: str | Path | None = settings.weights
    if weights is None and not settings.override:
        try:
            weights = packaged_weights(settings.model)
        except ValueError:
            weights = None
    if weights is not None and not settings.override:
        return model_from_weights(weights, name=settings.model).eval()
    torch.manual_seed(0)
    model = create_model(settings.model, **parse_overrides(settings.override)).eval()
    if weights is None:
        print(f"{settings.model} has random weights; --weights FILE gives it others")
    else:
        load_weights(model, weights)
    return model


def _seen(
    model: "nn.Module", layer: Layer, images: "list[Tensor]", place: tuple[int, int] | None
) -> "Tensor":
    """`looked_at` for the token at this row and column of the image, or for the class token."""
    from stereo_tr.vision.vit import VisionTransformer

    high, wide = images[0].shape[1:]
    if not isinstance(model, VisionTransformer):
        if place is None:
            raise ValueError("only ViT has a class token; leave --class-token out")
        row, column = place
        return looked_at(layer, 0, row * layer.height // high, column * layer.width // wide)
    # a row of the class token and then the map's tokens
    size = model.patches.size
    height, width = math.ceil(high / size), math.ceil(wide / size)
    token = 0 if place is None else 1 + place[0] // size * width + place[1] // size
    return looked_at(layer, 0, 0, token)[:, 0, 1:].unflatten(1, (height, width))


def _picture(
    images: "list[Tensor]", seen: "Tensor", place: tuple[int, int] | None
) -> UInt8[np.ndarray, "H W 3"]:
    """Each view with what is looked at in it, side by side, and the query's place in the first."""
    import cv2

    from stereo_tr.pictures import Span, colour_disparity, view_picture

    span = Span(0.0, max(float(seen.max()), 1e-9))
    drawn = []
    for image, map_ in zip(images, seen.numpy(), strict=True):
        height, width = image.shape[1:]
        large = cv2.resize(map_, (width, height), interpolation=cv2.INTER_NEAREST)
        grey = view_picture(image).mean(2, keepdims=True)
        mixed = SHARE * colour_disparity(large, span=span) + (1 - SHARE) * grey
        drawn.append(mixed.round().astype(np.uint8))
    if place is not None:
        reach = max(3, min(images[0].shape[1:]) // 60)
        cv2.circle(drawn[0], place[::-1], reach, MARK, thickness=max(1, reach // 3))
    gap = np.full((drawn[0].shape[0], GAP, 3), 255, np.uint8)
    return np.hstack([part for picture in drawn for part in (picture, gap)][:-1])


def _overview(pictures: list[np.ndarray]) -> UInt8[np.ndarray, "H W 3"]:
    """All pictures, row by row."""
    framed = [np.pad(p, ((0, GAP), (0, GAP), (0, 0)), constant_values=255) for p in pictures]
    blank = np.full_like(framed[0], 255)
    rows = [framed[start : start + COLUMNS] for start in range(0, len(framed), COLUMNS)]
    if len(rows) > 1:
        rows[-1] += [blank] * (COLUMNS - len(rows[-1]))
    return np.vstack([np.hstack(row) for row in rows])


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `stereo-tr attention_maps`."""
    run(AttentionMaps, attention_maps, "attention_maps", __doc__.split("\n\nTests")[0], arguments)


if __name__ == "__main__":
    main()
