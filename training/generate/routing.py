"""Texts with their task, for the router's classifier: eight tasks, out of scope among them."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from training.generate import chat, contract, defects, ner, oos, tech_doc, text_cls
from training.generate.wording import Split, expand, pick_lang, seeded, with_typos

Task = Literal["greeting", "faq", "contract", "tech_doc", "defect_detect", "ner", "text_cls", "oos"]
TASKS: tuple[Task, ...] = (
    "greeting",
    "faq",
    "contract",
    "tech_doc",
    "defect_detect",
    "ner",
    "text_cls",
    "oos",
)
_WEIGHTS = (8, 16, 12, 12, 16, 12, 12, 22)

_INSPECT: dict[Split, tuple[str, ...]] = {
    "train": (
        "[inspection report|report|inspect|judge this board|pass or fail?]: {text}",
        "[检验报告|检查结果|请判定|合格还是不合格？]：{text}",
        "{text} [verdict?|pass or fail?|ok or ng?]",
        "{text} [判定？|合格吗？]",
    ),
    "test": ("give the verdict on this: {text}", "请给出判定结果：{text}"),
}


@dataclass(frozen=True, slots=True)
class Routed:
    """One text and the task it belongs to."""

    text: str
    task: Task

    def as_row(self) -> dict[str, object]:
        """Return the JSONL row."""
        return {"text": self.text, "task": self.task}


def routed(rng: random.Random, split: Split) -> Routed:
    """Draw one text of one task."""
    task = rng.choices(TASKS, _WEIGHTS)[0]
    text = _text(rng, split, task)
    if rng.random() < 0.15 and task != "defect_detect":
        text = with_typos(rng, text, 0.12)
    return Routed(text, task)


def _text(rng: random.Random, split: Split, task: Task) -> str:
    lang = pick_lang(rng)
    match task:
        case "greeting":
            return chat.greeting_text(rng, split, lang)
        case "faq":
            return chat.faq_text(rng, split, lang)
        case "contract":
            return contract.text(rng, split, lang)
        case "tech_doc":
            return tech_doc.text(rng, split, lang)
        case "ner":
            return ner.text(rng, split, lang)
        case "text_cls":
            return text_cls.labelled(rng, split).text
        case "oos":
            return oos.text(rng, split, lang)
        case "defect_detect":
            text = defects.report(rng, split).text
            return expand(rng, rng.choice(_INSPECT[split]), {"text": text}) if rng.random() < 0.2 else text


def rows(split: Split, seed: int) -> Iterator[Routed]:
    """Yield routed texts, none twice."""
    rng = seeded("routing", split, seed)
    seen: set[str] = set()
    while True:
        row = routed(rng, split)
        if row.text not in seen:
            seen.add(row.text)
            yield row
