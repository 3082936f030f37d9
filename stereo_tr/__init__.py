"""Stereo matching with transformers, and the attention core that carries it.

The promised names: `list_models`, `create_model`, `load_weights`, `StereoMatcher`.
"""

from pathlib import Path as _Path

__version__ = "0.1.0"

# In a checkout, datasets/ and scripts/ lie beside this folder; in a wheel they lie inside it.
_checkout = _Path(__file__).resolve().parent.parent
if (_checkout / "pyproject.toml").is_file():
    __path__.append(str(_checkout))

from .matcher import StereoMatcher  # noqa: E402
from .pretrained import create_model, list_models, load_weights  # noqa: E402

__all__ = ["StereoMatcher", "create_model", "list_models", "load_weights"]
