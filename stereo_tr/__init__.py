"""Stereo matching with transformers, and the attention core that carries it.

The promised names: `list_models`, `create_model`, `load_weights`, `StereoMatcher`.
"""

from importlib import import_module as _import_module
from pathlib import Path as _Path
from typing import TYPE_CHECKING as _TYPE_CHECKING

if _TYPE_CHECKING:
    from .matcher import StereoMatcher
    from .pretrained import create_model, list_models, load_weights

__version__ = "0.1.0"

# In a checkout, datasets/ and scripts/ lie beside this folder; in a wheel they lie inside it.
_checkout = _Path(__file__).resolve().parent.parent
if (_checkout / "pyproject.toml").is_file():
    __path__.append(str(_checkout))

_HOMES = {
    "StereoMatcher": "matcher",
    "create_model": "pretrained",
    "list_models": "pretrained",
    "load_weights": "pretrained",
}
__all__ = ["StereoMatcher", "create_model", "list_models", "load_weights"]


def __getattr__(name: str) -> object:
    """Import a promised name when it is asked for: torch takes seconds, `--help` should not."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_import_module(f".{_HOMES[name]}", __name__), name)
