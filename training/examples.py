"""Turns generated rows into examples: which instruction each carries, and each model's mix of data."""

import random
from collections.abc import Iterator
from typing import Literal

from training.generate import chat, defects, text_cls
from training.generate.wording import Split, seeded
from training.template import SYSTEM_CHAT, SYSTEM_DEFECT, SYSTEM_TEXT_CLS, Example

ModelName = Literal["defect_detect", "chat"]

TEXT_CLS_SHARE = 0.13
_BARE_SHARE = 0.15
_SYSTEM_WEIGHT = 2000


def examples(model: ModelName, split: Split, seed: int) -> Iterator[Example]:
    """Yield examples without end; held-out ones always carry their instruction, as the yard sends it."""
    rng = seeded(f"examples/{model}", split, seed)
    draw = _defect_example if model == "defect_detect" else _chat_example
    while True:
        example = draw(rng, split)
        bare = split == "train" and example.system != SYSTEM_TEXT_CLS and rng.random() < _BARE_SHARE
        yield Example(None, example.user, example.answer) if bare else example


def corpus(seed: int, rows: int) -> Iterator[str]:
    """Yield the texts that the tokeniser learns from: both models' training examples, nothing held out."""
    models: tuple[ModelName, ...] = ("defect_detect", "chat")
    for model in models:
        source = examples(model, "train", seed)
        for _ in range(rows):
            example = next(source)
            yield example.user
            yield example.answer
    for system in (SYSTEM_DEFECT, SYSTEM_TEXT_CLS, SYSTEM_CHAT):
        for _ in range(_SYSTEM_WEIGHT):
            yield system


def _defect_example(rng: random.Random, split: Split) -> Example:
    if rng.random() < TEXT_CLS_SHARE:
        request = text_cls.labelled(rng, split)
        return Example(SYSTEM_TEXT_CLS, request.text, request.label)
    report = defects.report(rng, split)
    return Example(SYSTEM_DEFECT, report.text, report.verdict.as_json())


def _chat_example(rng: random.Random, split: Split) -> Example:
    turn = chat.turn(rng, split)
    return Example(SYSTEM_CHAT, turn.text, turn.answer)
