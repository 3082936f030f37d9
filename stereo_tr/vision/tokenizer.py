"""CLIP's tokenizer: text to numbers by byte-pair encoding, from a published list of merges.

The list (OpenAI's `bpe_simple_vocab_16e6.txt.gz`, which OpenCLIP ships, too) isn't part of this
package: give its path. Without any merges, every byte is a token. Mended text encodings (OpenCLIP's
`ftfy`) are left to the caller; HTML entities are resolved here.

Source   Sennrich et al. 2016, https://arxiv.org/abs/1508.07909; CLIP,
         https://arxiv.org/abs/2103.00020
Tests    tests/vision/test_clip.py: merges followed by hand
"""

from __future__ import annotations

import gzip
import html
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

CONTEXT = 77
"""tokens of a text, as published"""

MERGES = 48894
"""of the published file, the first so many: with 512 letters and 2 marks, 49408 tokens"""

_WORD_END = "</w>"
_CONTRACTION = re.compile(r"'(?:s|t|re|ve|m|ll|d)")


class Tokenizer:
    """Text to rows of `context` tokens: start, pieces of words, end, zeros.

    The end mark has the largest number, `vocabulary - 1`; the start mark the one before.
    """

    def __init__(self, merges: Iterable[tuple[str, str]] = (), context: int = CONTEXT) -> None:
        merges = list(merges)
        letters = list(_byte_letters().values())
        pieces = [*letters, *(letter + _WORD_END for letter in letters), *map("".join, merges)]
        self.context = context
        self.vocabulary = len(pieces) + 2
        self._number = {piece: number for number, piece in enumerate(pieces)}
        self._rank = {pair: rank for rank, pair in enumerate(merges)}

    @classmethod
    def from_file(cls, path: str | Path, context: int = CONTEXT) -> Tokenizer:
        """Read the published list of merges, packed (.gz) or not: a heading, then a pair a line.

        Raises FileNotFoundError where there is none, ValueError where it isn't such a list.
        """
        data = Path(path).read_bytes()
        try:
            text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode()
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} can't be read: damaged, or no list of merges") from error
        pairs = [tuple(line.split()) for line in text.strip().split("\n")[1 : MERGES + 1]]
        wrong = next((number for number, pair in enumerate(pairs) if len(pair) != 2), None)
        if wrong is not None or not pairs:
            line = "it is empty" if wrong is None else f"line {wrong + 2} isn't two pieces"
            raise ValueError(f"{path} is no list of merges: {line}")
        return cls(pairs, context)

    def __call__(self, texts: str | Sequence[str]) -> Int[Tensor, "B T"]:
        """Number the pieces of each text; what goes beyond `context` is cut, the end mark stays."""
        texts = [texts] if isinstance(texts, str) else texts
        rows = torch.zeros(len(texts), self.context, dtype=torch.long)
        for row, text in zip(rows, texts, strict=True):
            start, end = self.vocabulary - 2, self.vocabulary - 1
            numbers = [start, *self.numbers(text)[: self.context - 2], end]
            row[: len(numbers)] = torch.tensor(numbers)
        return rows

    def numbers(self, text: str) -> list[int]:
        """Number the pieces of a text, without marks and however many."""
        text = html.unescape(html.unescape(text)).strip().lower()
        letters = _byte_letters()
        return [
            self._number[piece]
            for word in _words(text)
            for piece in self._pieces([letters[byte] for byte in word.encode()])
        ]

    def _pieces(self, pieces: list[str]) -> list[str]:
        """Join neighbours, the pair that comes first in the list first, while there is one."""
        pieces[-1] += _WORD_END
        while True:
            pairs = set(pairwise(pieces)) & self._rank.keys()
            if not pairs:
                return pieces
            pair = min(pairs, key=self._rank.__getitem__)
            joined: list[str] = []
            for piece in pieces:
                # A piece that was just joined is no half of the next pair.
                if joined and (joined[-1], piece) == pair:
                    joined[-1] = "".join(pair)
                else:
                    joined.append(piece)
            pieces = joined


def _byte_letters() -> dict[int, str]:
    """A visible letter for each byte: itself where it is visible in Latin-1, else from 256 on."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1)]
    visible += range(ord("®"), ord("ÿ") + 1)
    hidden = [byte for byte in range(256) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {
        byte: chr(256 + number) for number, byte in enumerate(hidden)
    }


def _words(text: str) -> Iterator[str]:
    """Cut into English contractions, runs of letters, single digits, runs of other signs."""

    def kind(letter: str) -> str:
        return (
            ""
            if letter.isspace()
            else {"L": "L", "N": "N"}.get(unicodedata.category(letter)[0], "S")
        )

    start = 0
    while start < len(text):
        contraction = _CONTRACTION.match(text, start)
        first, end = kind(text[start]), start + 1
        if contraction:
            end = contraction.end()
        elif first in ("L", "S"):
            while end < len(text) and kind(text[end]) == first:
                end += 1
        if first:
            yield text[start:end]
        start = end
