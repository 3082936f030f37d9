"""Which model weights were made for, told from their names and shapes.

Tests  tests/test_recognition.py, tests/test_pretrained.py
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def translated(model: nn.Module, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Let a model that knows a published layout read it; others take the names as they are."""
    translate = getattr(model, "translate_weights", None)
    return translate(weights) if translate else weights


def differences(model: nn.Module, weights: Mapping[str, Tensor]) -> list[str]:
    """Say where the weights differ from the model's, in names or shapes."""
    own = model.state_dict()
    missing = [f"{name} is missing" for name in own if name not in weights]
    surplus = [f"{name} is unknown" for name in weights if name not in own]
    shapes = [
        f"{name} is {list(weights[name].shape)} instead of {list(value.shape)}"
        for name, value in own.items()
        if name in weights and weights[name].shape != value.shape
    ]
    return shapes + missing + surplus


def best_fit(
    weights: Mapping[str, Tensor],
    families: Iterable[Sequence[str]],
    skeleton: Callable[[str], nn.Module],
) -> str | None:
    """Return the model whose sizes fit best, if most of its names and shapes do.

    `families` are names of models that differ in size alone; `skeleton` makes one of them.
    """
    scores = {}
    for names in families:
        first = skeleton(names[0])
        own, given = _kinds(first.state_dict()), _kinds(translated(first, weights))
        if len(own & given) < 0.5 * len(own):
            continue  # making every size of every model would take long
        for name in names:
            model = skeleton(name)
            own, given = model.state_dict(), translated(model, weights)
            fitting = sum(key in given and given[key].shape == own[key].shape for key in own)
            # Tables that translation resizes fit every size: as stored, they fit one. Models that
            # are the same to the last shape go by the shorter name.
            alike = (_shapes(own) & _shapes(weights)).total()
            scores[name] = (fitting / max(len(own), len(given)), alike, -len(name))
    best = max(scores, key=scores.__getitem__, default=None)
    return best if best is not None and scores[best][0] > 0.5 else None


def _shapes(weights: Mapping[str, Tensor]) -> Counter[torch.Size]:
    return Counter(value.shape for value in weights.values())


def _kinds(weights: Mapping[str, Any]) -> set[str]:
    """Names without their numbers: the same for every size of a model."""
    return {re.sub(r"\d+", "#", name) for name in weights}
