"""The language of a text as far as routing rules need it: `zh`, `en` or `other`, by its letters."""

import re
from typing import Literal

Language = Literal["zh", "en", "other"]

_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_LATIN = re.compile(r"[A-Za-z]+")
_LETTER = re.compile(r"[^\W\d_]")
_READ = 2_000


def language(text: str) -> Language:
    """`zh` if Chinese characters outnumber the Latin words (codes and part numbers in a Chinese sentence are
    Latin), `en` if the letters are mostly Latin, else `other`. Reads the first 2,000 characters."""
    text = text[:_READ]
    han = len(_HAN.findall(text))
    words = _LATIN.findall(text)
    if han and han >= len(words):
        return "zh"
    latin = sum(map(len, words))
    letters = len(_LETTER.findall(text))
    return "en" if latin and latin * 2 >= letters else "other"
