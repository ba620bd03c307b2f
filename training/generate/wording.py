"""Turns patterns into texts: alternatives, slots, typos. Knows nothing of what a text means."""

import random
import re
import string
from collections.abc import Mapping, Sequence
from typing import Literal

Split = Literal["train", "test"]
Lang = Literal["en", "zh"]

_ALTERNATIVES = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{(\w+)\}")
_SYLLABLES = (
    "ka",
    "lo",
    "mi",
    "ter",
    "van",
    "os",
    "pre",
    "du",
    "shi",
    "bar",
    "ine",
    "gol",
    "fa",
    "re",
    "un",
    "es",
)


def seeded(kind: str, split: Split, seed: int) -> random.Random:
    """Return the generator of one (kind, split, seed): the same three give the same texts anywhere."""
    return random.Random(f"{kind}/{split}/{seed}")


def expand(rng: random.Random, pattern: str, slots: Mapping[str, str | Sequence[str]]) -> str:
    """Choose one of each `[a|b|]` and fill each `{slot}` (a string, or a pool to draw from).

    Raises KeyError when the pattern names a slot that is not given.
    """

    def choose(match: re.Match[str]) -> str:
        options: list[str] = match.group(1).split("|")
        return rng.choice(options)

    def fill(match: re.Match[str]) -> str:
        value = slots[match.group(1)]
        return value if isinstance(value, str) else rng.choice(value)

    while "[" in pattern:
        pattern = _ALTERNATIVES.sub(choose, pattern)
    filled: str = _SLOT.sub(fill, pattern)
    return filled


def typo(rng: random.Random, word: str) -> str:
    """Damage one lower-case word as a hurried typist would; other words come back unchanged."""
    if len(word) < 4 or not (word.isascii() and word.isalpha() and word.islower()):
        return word
    at = rng.randrange(1, len(word) - 1)
    kind = rng.randrange(3)
    if kind == 0:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if kind == 1:
        return word[:at] + word[at + 1 :]
    return word[:at] + rng.choice(string.ascii_lowercase) + word[at:]


def with_typos(rng: random.Random, text: str, rate: float) -> str:
    """Apply `typo` to each space-separated word with probability `rate`."""
    return " ".join(typo(rng, word) if rng.random() < rate else word for word in text.split(" "))


def jargon(rng: random.Random) -> str:
    """Invent a word that means nothing, so that a model learns to read past words it does not know."""
    return "".join(rng.choice(_SYLLABLES) for _ in range(rng.randint(1, 3)))


def capitalised(text: str) -> str:
    """Upper-case the first letter and leave the rest (designators must keep their form)."""
    return text[:1].upper() + text[1:]


def pick_lang(rng: random.Random, zh_share: float = 0.5) -> Lang:
    """Draw a language."""
    return "zh" if rng.random() < zh_share else "en"
