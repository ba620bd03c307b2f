"""Character n-grams of a chunk of texts as TF-IDF rows, computed with numpy over the whole chunk at once.

Every character of the vocabulary has a small number, so that an n-gram packs exactly into one 64-bit integer
(no hash, no collision) and a chunk's n-grams are found with one sorted search. The weighting is the one of
scikit-learn's `TfidfVectorizer(analyzer="char", sublinear_tf=True)`. Knows no classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router.normalise import normalise

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

_CODE_POINTS = 0x110000
_SEPARATOR = "\uffff"
"""Stands between two texts of a chunk: a non-character, never in a vocabulary, so no n-gram spans it."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Sparse TF-IDF rows (CSR): row i has `columns[starts[i]:starts[i + 1]]` with `values` beside them."""

    starts: Ints
    columns: Ints
    values: Floats


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The n-grams that count, with their inverse document frequencies.

    `ngrams` is sorted by packed code; `idf` has the same order; `alphabet[code point]` is the number of a
    character, 0 for those in no n-gram; `longest` is the n of the longest n-gram.
    """

    ngrams: tuple[str, ...]
    idf: Floats
    alphabet: NDArray[np.uint16]
    codes: Ints
    longest: int

    def __len__(self) -> int:
        return len(self.ngrams)

    def rows(self, texts: Sequence[str]) -> Rows:
        """The TF-IDF rows of raw texts, each of length 1 (or 0 if no n-gram of the text is known)."""
        documents, columns = self._known(texts)
        size = len(self)
        keys, counts = np.unique(documents * size + columns, return_counts=True)
        documents, columns = keys // size, keys % size
        values = ((1.0 + np.log(counts)) * self.idf[columns]).astype(np.float32)
        squares = np.bincount(documents, weights=values.astype(np.float64) ** 2, minlength=len(texts))
        norms = np.sqrt(squares)[documents]
        starts = np.searchsorted(documents, np.arange(len(texts) + 1))
        return Rows(starts, columns, (values / norms).astype(np.float32))

    def _known(self, texts: Sequence[str]) -> tuple[Ints, Ints]:
        """(text number, column) of every occurrence of a known n-gram."""
        numbers, owners = _characters(texts, self.alphabet)
        documents, columns = [], []
        for codes, at in _packed(numbers, self.longest):
            found = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
            known = self.codes[found] == codes
            columns.append(found[known])
            documents.append(owners[at][known])
        return np.concatenate(documents), np.concatenate(columns)


def vocabulary(ngrams: Sequence[str], idf: Floats) -> Vocabulary:
    """The vocabulary of the given n-grams, in any order, with the idf of each.

    Raises:
        ValueError: there are none, one is empty or there twice, or they use too many characters.
    """
    longest = max(map(len, ngrams), default=0)
    if not ngrams or min(map(len, ngrams)) == 0:
        raise ValueError("a vocabulary needs at least one n-gram, and none may be empty")
    characters = sorted(set("".join(ngrams)))
    if len(characters) >= 1 << _bits(longest):
        raise ValueError(f"{len(characters):,} characters do not fit n-grams of {longest}")
    alphabet = np.zeros(_CODE_POINTS, dtype=np.uint16)
    alphabet[[ord(character) for character in characters]] = np.arange(1, len(characters) + 1)
    bits = _bits(longest)
    codes = np.array([_pack(ngram, alphabet, bits) for ngram in ngrams], dtype=np.int64)
    order = np.argsort(codes)
    if np.any(np.diff(codes[order]) == 0):
        raise ValueError("an n-gram is there twice")
    return Vocabulary(tuple(ngrams[i] for i in order), idf[order], alphabet, codes[order], longest)


def learn(texts: Sequence[str], orders: tuple[int, int], min_texts: int, largest: int) -> Vocabulary:
    """The vocabulary of n-grams that stand in at least `min_texts` of the texts.

    Args: `orders` is the shortest and the longest n; `largest` bounds the vocabulary (the n-grams of the most
    texts are kept, ties by the n-gram itself).
    """
    shortest, longest = orders
    counts: dict[str, int] = {}
    for text in map(normalise, texts):
        grams = {text[i : i + n] for n in range(shortest, longest + 1) for i in range(len(text) - n + 1)}
        for gram in grams:
            counts[gram] = counts.get(gram, 0) + 1
    kept = sorted(
        (gram for gram, count in counts.items() if count >= min_texts), key=lambda g: (-counts[g], g)
    )
    kept = kept[:largest]
    frequencies = np.array([counts[gram] for gram in kept], dtype=np.float64)
    idf = (np.log((1.0 + len(texts)) / (1.0 + frequencies)) + 1.0).astype(np.float32)
    return vocabulary(kept, idf)


def _bits(longest: int) -> int:
    """Bits for one character, so that `longest` of them fit a signed 64-bit integer (and a uint16 each)."""
    return min(16, 63 // longest)


def _pack(ngram: str, alphabet: NDArray[np.uint16], bits: int) -> int:
    code = 0
    for character in ngram:
        code = code << bits | int(alphabet[ord(character)])
    return code


def _characters(texts: Sequence[str], alphabet: NDArray[np.uint16]) -> tuple[Ints, Ints]:
    """Number of every character of all texts in a row, separators between them, and the text it is from."""
    parts = [normalise(text) for text in texts]
    joined = _SEPARATOR.join(parts) + _SEPARATOR
    points = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    lengths = np.fromiter((len(part) + 1 for part in parts), dtype=np.int64, count=len(parts))
    return alphabet[points].astype(np.int64), np.repeat(np.arange(len(parts)), lengths)


def _packed(numbers: Ints, longest: int) -> list[tuple[Ints, Ints]]:
    """For each n: the codes of the n-grams made of known characters only, and where each begins."""
    bits = _bits(longest)
    found = []
    codes, at = numbers, np.flatnonzero(numbers)
    codes = codes[at]
    for n in range(1, longest + 1):
        found.append((codes, at))
        if n == longest:
            break
        inside = at + n < len(numbers)
        at, codes = at[inside], codes[inside]
        following = numbers[at + n]
        goes_on = following != 0
        at, codes = at[goes_on], codes[goes_on] << bits | following[goes_on]
    return found
