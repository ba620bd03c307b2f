"""The demonstration's jobs: a held-out mix of every task, with the expected answers where labels exist."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from training.generate import chat, contract, defects, ner, oos, tech_doc, text_cls
from training.generate.verdict import CATEGORIES
from training.generate.wording import pick_lang, seeded

_MIX = (
    "defect_detect",
    "defect_detect",
    "greeting",
    "faq",
    "defect_detect",
    "text_cls",
    "defect_detect",
    "ner",
    "oos",
    "defect_detect",
    "contract",
    "text_cls",
    "defect_detect",
    "faq",
    "tech_doc",
)


@dataclass(frozen=True, slots=True)
class DemoJob:
    """One job of the demonstration as the client reads it."""

    id: str
    prompt: str
    task: str
    expected_task: str
    expected: dict[str, str | None] | str | None
    choices: tuple[str, ...] = field(default=())

    def as_row(self) -> dict[str, object]:
        """Return the JSONL row."""
        row: dict[str, object] = {"id": self.id, "prompt": self.prompt, "task": self.task}
        if self.choices:
            row["output"] = {"type": "choices", "choices": list(self.choices)}
        row["metadata"] = {"expected_task": self.expected_task, "expected": self.expected}
        return row


def jobs(seed: int) -> Iterator[DemoJob]:
    """Yield demonstration jobs without end, no prompt twice; about one in ten names its task."""
    rng = seeded("jobs", "test", seed)
    seen: set[str] = set()
    number = 0
    while True:
        kind = _MIX[number % len(_MIX)]
        prompt, expected = _draw(rng, kind)
        if prompt in seen:
            continue
        seen.add(prompt)
        number += 1
        named = kind != "oos" and rng.random() < 0.1
        yield DemoJob(
            f"demo-{number:04d}",
            prompt,
            kind if named else "auto",
            kind,
            expected,
            CATEGORIES if kind == "text_cls" else (),
        )


def _draw(rng: random.Random, kind: str) -> tuple[str, dict[str, str | None] | str | None]:
    """Draw the prompt of one task and what it should answer, None where no label exists."""
    lang = pick_lang(rng)
    if kind == "defect_detect":
        report = defects.report(rng, "test")
        return report.text, report.verdict.as_dict()
    if kind == "text_cls":
        request = text_cls.labelled(rng, "test")
        return request.text, request.label
    texts = {
        "greeting": chat.greeting_text,
        "faq": chat.faq_text,
        "contract": contract.text,
        "tech_doc": tech_doc.text,
        "ner": ner.text,
        "oos": oos.text,
    }
    return texts[kind](rng, "test", lang), None
