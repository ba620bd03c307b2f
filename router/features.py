"""Texts as sparse rows: character n-grams and words, each family with sublinear counts and of length 1.

The weighting is the one of scikit-learn's `TfidfVectorizer(sublinear_tf=True, use_idf=False)`, once for each
family. (Inverse document frequencies lost on held-out wordings: they favour the rare nouns of the training
texts over the frame around them.) Knows no classes.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router.characters import CharacterGrams, Ints, character_grams, cut_characters
from router.normalise import normalise
from router.words import WordGrams, cut_words, word_grams

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Rows:
    """Sparse rows (CSR): row i has `columns[starts[i]:starts[i + 1]]` with `values` beside them.

    `known[i]` tells whether text i has any word that the vocabulary knows.
    """

    starts: Ints
    columns: Ints
    values: Floats
    known: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What counts in a text. Columns: the character n-grams first, then the words."""

    characters: CharacterGrams
    words: WordGrams

    def __len__(self) -> int:
        return len(self.characters.ngrams) + len(self.words.ngrams)

    def name(self, column: int) -> str:
        """The n-gram of a column, as a reader sees it: a word in bare form, a character n-gram in quotes."""
        first = len(self.characters.ngrams)
        return repr(self.characters.ngrams[column]) if column < first else self.words.ngrams[column - first]

    def rows(self, texts: Sequence[str]) -> Rows:
        """The rows of raw texts."""
        parts = [normalise(text) for text in texts]
        words = self.words.find(parts)
        families = (self.characters.find(parts), (words[0], words[1] + len(self.characters.ngrams)))
        weighted = [self._weighted(*family, len(texts)) for family in families]
        keys = np.concatenate([keys for keys, _ in weighted])
        values = np.concatenate([values for _, values in weighted])
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        starts = np.searchsorted(keys, np.arange(len(texts) + 1) * len(self))
        known = np.zeros(len(texts), dtype=np.bool_)
        known[words[0][self.words.meaningful[words[1]]]] = True
        return Rows(starts, keys % len(self), values[order], known)

    def _weighted(self, documents: Ints, columns: Ints, texts: int) -> tuple[Ints, Floats]:
        """The occurrences of one family as sorted keys (text number x size + column) with their values."""
        keys, counts = np.unique(documents * len(self) + columns, return_counts=True)
        raw = 1.0 + np.log(counts)
        owners = keys // len(self)
        norms = np.sqrt(np.bincount(owners, weights=raw**2, minlength=texts))
        return keys, (raw / norms[owners]).astype(np.float32)


def learn(texts: Sequence[str], orders: tuple[int, int], min_texts: int, largest: int) -> Vocabulary:
    """The vocabulary of what stands in at least `min_texts` of the texts.

    Args: `orders` is the shortest and the longest n of characters; `largest` bounds each family (what is in
    the most texts is kept).

    Raises:
        ValueError: nothing is common enough.
    """
    parts = [normalise(text) for text in texts]
    characters = _common(parts, lambda text: cut_characters(text, orders), min_texts, largest)
    return Vocabulary(character_grams(characters), word_grams(_common(parts, cut_words, min_texts, largest)))


def _common(
    texts: Iterable[str], cut: Callable[[str], Iterable[str]], min_texts: int, largest: int
) -> list[str]:
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(set(cut(text)))
    kept = [gram for gram, count in counts.items() if count >= min_texts]
    return sorted(kept, key=lambda gram: (-counts[gram], gram))[:largest]
