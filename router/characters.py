"""Character n-grams, found in a whole chunk of texts at once with numpy.

Every character of the vocabulary has a small number, so that an n-gram packs exactly into one 64-bit integer
(no hash, no collision) and all n-grams of a chunk are found with one sorted search. Knows no weights.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

_CODE_POINTS = 0x110000
_SEPARATOR = "\uffff"
"""Stands between two texts of a chunk: a non-character, in no vocabulary, so that no n-gram spans it."""


@dataclass(frozen=True, slots=True)
class CharacterGrams:
    """The character n-grams that count, sorted by packed code.

    `alphabet[code point]` is the number of a character, 0 for those in no n-gram; `longest` is the n of the
    longest n-gram.
    """

    ngrams: tuple[str, ...]
    alphabet: NDArray[np.uint16]
    codes: Ints
    longest: int

    def find(self, texts: Sequence[str]) -> tuple[Ints, Ints]:
        """(text number, position in `ngrams`) of every occurrence in normalised texts."""
        numbers, owners = self._numbers(texts)
        documents, columns = [], []
        for codes, at in _packed(numbers, self.longest):
            found = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
            known = self.codes[found] == codes
            columns.append(found[known])
            documents.append(owners[at][known])
        return np.concatenate(documents), np.concatenate(columns)

    def _numbers(self, texts: Sequence[str]) -> tuple[Ints, Ints]:
        """Number of every character of all texts in a row, separators between, and the text it is from."""
        joined = _SEPARATOR.join(texts) + _SEPARATOR
        points = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        lengths = np.fromiter((len(text) + 1 for text in texts), dtype=np.int64, count=len(texts))
        return self.alphabet[points].astype(np.int64), np.repeat(np.arange(len(texts)), lengths)


def character_grams(ngrams: Sequence[str]) -> CharacterGrams:
    """The vocabulary of the given n-grams, in any order.

    Raises:
        ValueError: there are none, one is empty or there twice, or they use too many characters.
    """
    if not ngrams or min(map(len, ngrams)) == 0:
        raise ValueError("a vocabulary needs at least one n-gram, and none may be empty")
    longest = max(map(len, ngrams))
    characters = sorted(set("".join(ngrams)))
    bits = _bits(longest)
    if len(characters) >= 1 << bits:
        raise ValueError(f"{len(characters):,} characters do not fit n-grams of {longest}")
    alphabet = np.zeros(_CODE_POINTS, dtype=np.uint16)
    alphabet[[ord(character) for character in characters]] = np.arange(1, len(characters) + 1)
    codes = np.array([_pack(ngram, alphabet, bits) for ngram in ngrams], dtype=np.int64)
    order = np.argsort(codes)
    if np.any(np.diff(codes[order]) == 0):
        raise ValueError("an n-gram is there twice")
    return CharacterGrams(tuple(ngrams[i] for i in order), alphabet, codes[order], longest)


def cut_characters(text: str, orders: tuple[int, int]) -> Iterator[str]:
    """All n-grams of a normalised text, the shortest and the longest n given."""
    for n in range(orders[0], orders[1] + 1):
        for i in range(len(text) - n + 1):
            yield text[i : i + n]


def _bits(longest: int) -> int:
    """Bits for one character, so that `longest` of them fit a signed 64-bit integer (and each a uint16)."""
    return min(16, 63 // longest)


def _pack(ngram: str, alphabet: NDArray[np.uint16], bits: int) -> int:
    code = 0
    for character in ngram:
        code = code << bits | int(alphabet[ord(character)])
    return code


def _packed(numbers: Ints, longest: int) -> Iterator[tuple[Ints, Ints]]:
    """For each n: the codes of the n-grams made of known characters only, and where each begins."""
    bits = _bits(longest)
    at = np.flatnonzero(numbers)
    codes = numbers[at]
    yield codes, at
    for n in range(1, longest):
        inside = at + n < len(numbers)
        at, codes = at[inside], codes[inside]
        following = numbers[at + n]
        goes_on = following != 0
        at, codes = at[goes_on], codes[goes_on] << bits | following[goes_on]
        yield codes, at
