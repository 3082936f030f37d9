"""Names that people type: what an unknown one was probably meant to be.

Tests  tests/datasets/test_naming.py
"""

import difflib
from collections.abc import Callable, Iterable

_SHOWN = 3
"""near matches that a hint names"""


def closest(name: str, names: Iterable[str], show: Callable[[str], str] = str) -> str:
    """Word a hint for an unknown `name`: its near matches among `names`, otherwise all of them.

    Near matches are written as `show` says; `repr` puts them in quotes.
    """
    names = list(names)
    near = [show(match) for match in difflib.get_close_matches(name, names, n=_SHOWN)]
    return f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
