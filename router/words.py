"""Words and pairs of neighbouring words; a Chinese character or a mark counts as a word. Knows no weights."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router.characters import Ints

_WORD = re.compile(r"[a-z0-9]+|[^\sa-z0-9]")


@dataclass(frozen=True, slots=True)
class WordGrams:
    """The words and pairs that count (a pair is written with a blank between), and the place of each."""

    ngrams: tuple[str, ...]
    places: dict[str, int]
    meaningful: NDArray[np.bool_]
    """Which of `ngrams` are single words of letters: no pair, mark or number."""

    def find(self, texts: Sequence[str]) -> tuple[Ints, Ints]:
        """(text number, position in `ngrams`) of every occurrence in normalised texts."""
        documents: list[int] = []
        columns: list[int] = []
        place = self.places.get
        for number, text in enumerate(texts):
            found = [at for gram in cut_words(text) if (at := place(gram)) is not None]
            columns += found
            documents += [number] * len(found)
        return np.array(documents, dtype=np.int64), np.array(columns, dtype=np.int64)


def word_grams(ngrams: Sequence[str]) -> WordGrams:
    """The vocabulary of the given words and pairs; there may be none.

    Raises:
        ValueError: one is there twice.
    """
    places = {ngram: at for at, ngram in enumerate(ngrams)}
    if len(places) != len(ngrams):
        raise ValueError("a word is there twice")
    meaningful = np.array([ngram.isalpha() for ngram in ngrams], dtype=np.bool_)
    return WordGrams(tuple(ngrams), places, meaningful)


def cut_words(text: str) -> Iterator[str]:
    """All words and pairs of a normalised text."""
    words = _WORD.findall(text)
    yield from words
    for i in range(len(words) - 1):
        yield f"{words[i]} {words[i + 1]}"
