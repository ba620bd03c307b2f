"""Board inspection reports with their verdicts: the training data of `defect_detect`."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from training.generate import defect_frames_en, defect_frames_zh, parts
from training.generate.defect_words import NOUNS, VERBS
from training.generate.frames import Frames
from training.generate.verdict import FAULTS, Defect, Verdict
from training.generate.wording import Lang, Split, capitalised, expand, jargon, pick_lang, seeded, with_typos

_FRAMES: dict[tuple[Split, Lang], Frames] = {
    ("train", "en"): defect_frames_en.TRAIN,
    ("test", "en"): defect_frames_en.TEST,
    ("train", "zh"): defect_frames_zh.TRAIN,
    ("test", "zh"): defect_frames_zh.TEST,
}
_NO_PIN: frozenset[Defect] = frozenset({"missing", "wrong_part"})


@dataclass(frozen=True, slots=True)
class Report:
    """One report and what it says."""

    text: str
    verdict: Verdict
    lang: Lang

    def as_row(self) -> dict[str, object]:
        """Return the JSONL row."""
        return {"text": self.text, "lang": self.lang, "verdict": self.verdict.as_dict()}


def frames(split: Split, lang: Lang) -> Frames:
    """Return the sentence frames of a split, so that a test can compare them."""
    return _FRAMES[split, lang]


def report(rng: random.Random, split: Split) -> Report:
    """Draw one report; about 30 % find nothing, 6 % of the failing ones name no part."""
    lang = pick_lang(rng)
    chosen = frames(split, lang)
    defect: Defect = rng.choice(FAULTS)
    draw = rng.random()
    ref: str | None = parts.designator(rng, split)
    location: str | None = None
    if draw < 0.24:
        kind, defect = chosen.clean, "none"
    elif draw < 0.30:
        kind, defect, ref = chosen.loose_clean, "none", None
    elif draw < 0.36:
        kind, defect, ref = chosen.loose_fail, "foreign_matter", None
        location = parts.board_place(rng, lang)
    elif draw < 0.80 and defect not in _NO_PIN:
        kind, location = chosen.located, parts.place(rng, lang)
    else:
        kind = chosen.bare
    text = _sentence(rng, split, lang, chosen, kind, defect, ref, location)
    return Report(text, Verdict(defect, ref, location), lang)


def reports(split: Split, seed: int) -> Iterator[Report]:
    """Yield reports without end; the same split and seed give the same ones."""
    rng = seeded("defects", split, seed)
    while True:
        yield report(rng, split)


def _sentence(
    rng: random.Random,
    split: Split,
    lang: Lang,
    chosen: Frames,
    kind: tuple[str, ...],
    defect: Defect,
    ref: str | None,
    location: str | None,
) -> str:
    """Fill one frame and dress it: prelude, coda, case, and (in training only) typos and noise words."""
    other_defect = rng.choice([fault for fault in FAULTS if fault != defect])
    other = parts.designator(rng, split)
    slots = {
        "ref": ref or "",
        "other": other if other != ref else f"{other}9",
        "loc": location or parts.place(rng, lang),
        "np": "" if defect == "none" else expand(rng, rng.choice(NOUNS[lang][defect]), {}),
        "vp": "" if defect == "none" else expand(rng, rng.choice(VERBS[lang][defect]), {}),
        "np2": expand(rng, rng.choice(NOUNS[lang][other_defect]), {}),
        "board": parts.board(rng, split, lang),
        "comp": parts.component(rng, split, lang),
        "n": str(rng.randint(1, 9) if rng.random() < 0.5 else rng.randint(10, 9999)),
    }
    body = expand(rng, rng.choice(kind), slots)
    if ref is not None and defect != "none" and rng.random() < 0.2:
        body = _beside(rng, split, lang, chosen, body, slots)
    body = _noisy(rng, split, lang, body, ref, location)
    before = expand(rng, rng.choice(chosen.prelude), slots) if rng.random() < 0.3 else ""
    after = expand(rng, rng.choice(chosen.coda), slots) if rng.random() < 0.25 else ""
    text = before + body + after
    if lang == "en" and rng.random() < 0.5 and (location is None or not text.startswith(location)):
        text = capitalised(text)
    if rng.random() < 0.5:
        text += "." if lang == "en" else "。"
    return text


def _beside(
    rng: random.Random, split: Split, lang: Lang, chosen: Frames, body: str, slots: dict[str, str]
) -> str:
    """Put a clean finding on another part beside the failing one: the verdict stays with the latter."""
    others = {**slots, "ref": slots["other"], "loc": parts.place(rng, lang)}
    others["comp"] = parts.component(rng, split, lang)
    clean = expand(rng, rng.choice(chosen.clean), others)
    first, second = (clean, body) if rng.random() < 0.6 else (body, clean)
    return first + rng.choice(chosen.joints) + second


def _noisy(
    rng: random.Random, split: Split, lang: Lang, body: str, ref: str | None, location: str | None
) -> str:
    """Add typos and invented words to some training sentences, never inside what must be copied."""
    if split == "test" or rng.random() < 0.6:
        return body
    if lang == "en":
        keep = set(f"{ref} {location}".split())
        words = [
            word if word.strip(",.:()") in keep else with_typos(rng, word, 0.04) for word in body.split(" ")
        ]
        body = " ".join(words)
    filler = (
        jargon(rng)
        if lang == "en"
        else "".join(chr(rng.randint(0x4E00, 0x9F00)) for _ in range(rng.randint(1, 2)))
    )
    space = " " if lang == "en" else "，"
    return f"{filler}{space}{body}" if rng.random() < 0.5 else f"{body}{space}{filler}"
