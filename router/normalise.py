"""Text as the classifier sees it: one form for what a reader takes for the same.

Knows no features and no classes. The rules are part of the trained artefact (`NORMALISER`): change them and
every artefact must be trained again.
"""

import re
import unicodedata

NORMALISER = 1
"""Version of the rules below, kept in the artefact."""

HEAD = 1_500
TAIL = 500
"""Characters read from both ends of a long text; what a job is stands there, and the cost stays bounded."""

_DIGITS = re.compile(r"[0-9]+")


def clip(text: str) -> str:
    """The first `HEAD` and the last `TAIL` characters of a text longer than both together."""
    if len(text) <= HEAD + TAIL:
        return text
    return f"{text[:HEAD]} {text[-TAIL:]}"


def normalise(text: str) -> str:
    """`text` with full-width and compatibility forms folded (NFKC), lower case, every run of digits as one 0,
    every run of white space as one blank, and a blank at both ends (so that an n-gram can tell where a text
    begins)."""
    text = clip(text)
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    words = " ".join(text.casefold().split())
    return f" {_DIGITS.sub('0', words)} "
