"""Held-out accuracy of a GGUF through llama.cpp: greedy answers, no constraint, field by field."""

import json
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from training.examples import ModelName, examples
from training.generate.verdict import CATEGORIES
from training.generate.wording import Split
from training.llama import Runner
from training.template import SYSTEM_TEXT_CLS, Example
from training.tokens import Tokeniser

FIELDS = ("verdict", "defect", "ref", "location")
HELD_OUT_SEED = 1000


@dataclass(slots=True)
class Tally:
    """Hits and tries by name."""

    hits: Counter[str] = field(default_factory=Counter)
    tries: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, hit: bool) -> None:
        """Count one try."""
        self.tries[name] += 1
        self.hits[name] += hit

    def shares(self) -> dict[str, float]:
        """Return the accuracy by name, to four places."""
        return {name: round(self.hits[name] / count, 4) for name, count in sorted(self.tries.items())}


@dataclass(frozen=True, slots=True)
class Outcome:
    """Accuracies, how many examples they rest on, and the first wrong answers for a reader to look at."""

    accuracy: dict[str, float]
    examples: dict[str, int]
    wrong: tuple[tuple[str, str, str], ...]


def evaluate(
    path: Path,
    model: ModelName,
    tokeniser: Tokeniser,
    count: int,
    split: Split = "test",
    seed: int = HELD_OUT_SEED,
) -> Outcome:
    """Answer `count` examples (held-out ones by default) greedily and compare with what was expected."""
    tally = Tally()
    wrong: list[tuple[str, str, str]] = []
    with Runner(path) as runner:
        for example in islice(examples(model, split, seed), count):
            ids, ended = runner.greedy(tokeniser.prompt(example.system, example.user), tokeniser.end)
            answer = tokeniser.decode(ids)
            score(tally, model, example, answer, ended)
            if example.system == SYSTEM_TEXT_CLS:
                tally.add("text_cls.choices", choice(runner, tokeniser, example) == example.answer)
            if answer != example.answer and len(wrong) < 40:
                wrong.append((example.user, example.answer, answer))
    return Outcome(tally.shares(), dict(sorted(tally.tries.items())), tuple(wrong))


def choice(runner: Runner, tokeniser: Tokeniser, example: Example) -> str:
    """Return the likeliest of the four categories, as an output of the form *choices* would."""
    prompt = tokeniser.prompt(example.system, example.user)
    return max(
        CATEGORIES, key=lambda name: runner.log_probability(prompt, (*tokeniser.encode(name), tokeniser.end))
    )


def score(tally: Tally, model: ModelName, example: Example, answer: str, ended: bool) -> None:
    """Count one answer: whole, by language, and for verdicts by field."""
    lang = "zh" if any("\u4e00" <= char <= "\u9fff" for char in example.user) else "en"
    kind = model if example.system != SYSTEM_TEXT_CLS else "text_cls"
    tally.add(f"{kind}.whole", answer == example.answer)
    tally.add(f"{kind}.whole.{lang}", answer == example.answer)
    tally.add(f"{kind}.ended", ended)
    if kind != "defect_detect":
        return
    expected: dict[str, str | None] = json.loads(example.answer)
    given = parsed(answer)
    tally.add("defect_detect.json", given is not None)
    for name in FIELDS:
        tally.add(f"defect_detect.{name}", given is not None and given.get(name, 0) == expected[name])


def parsed(answer: str) -> dict[str, object] | None:
    """Return the verdict object of an answer, None when it is no JSON object."""
    try:
        value = json.loads(answer)
    except json.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None
