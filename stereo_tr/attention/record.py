"""The switch that shows attention weights, whatever the model and although fused kernels hide them.

    with recorded_weights(model) as weights:
        model(images)
    weights["blocks.0.0.branch.attention"]  # [sequences, heads, queries, keys]

Tests  tests/attention/test_record.py
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from .attend import Attended, Attention
from .memory import whole_maps
from .normalised import NormalisedAttention


@contextmanager
def recorded_weights(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Collect the weights of every attention in `model` while the block runs, by module name.

    Weights [N, E, T, S]: sequences, heads, queries, keys; each N * E sums over its keys to 1 (0 for
    a query that may look at nothing) unless the assignment is another. They are detached; a module
    that runs more than once leaves its last ones. Nothing is changed in the model afterwards.
    """
    weights: dict[str, Tensor] = {}

    def ask(module: nn.Module, arguments: Any, keywords: dict[str, Any]) -> tuple[Any, Any]:
        return arguments, keywords | {"with_scores": True}

    def keep(name: str, module: nn.Module, arguments: Any, attended: Attended) -> None:
        weights[name] = attended.weights.detach()

    handles = []
    for name, module in model.named_modules():
        if isinstance(module, Attention | NormalisedAttention):
            handles.append(module.register_forward_pre_hook(ask, with_kwargs=True))
            handles.append(module.register_forward_hook(partial(keep, name)))
    try:
        with whole_maps():  # else what is kept were the weights of a map's last part
            yield weights
    finally:
        for handle in handles:
            handle.remove()
