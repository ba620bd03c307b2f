"""What the `chat` model learns: greetings, questions about the yard, honest refusals of the rest."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from training.generate import contract, ner, oos, tech_doc
from training.generate.faq_jobs import JOBS
from training.generate.faq_more_jobs import MORE_JOBS
from training.generate.faq_more_yard import MORE_YARD
from training.generate.faq_yard import YARD
from training.generate.greetings import GREETINGS
from training.generate.intent import Intent
from training.generate.wording import (
    Lang,
    Split,
    capitalised,
    expand,
    jargon,
    pick_lang,
    seeded,
    with_typos,
)

INTENTS: tuple[Intent, ...] = GREETINGS + YARD + JOBS
REFUSALS: dict[str, dict[Lang, str]] = {
    "contract": {
        "en": "No contract model is loaded in this yard; add one to configs/models.yaml.",
        "zh": "本车场没有加载合同模型；请在 configs/models.yaml 中添加。",
    },
    "tech_doc": {
        "en": "No technical document model is loaded in this yard; add one to configs/models.yaml.",
        "zh": "本车场没有加载技术文档模型；请在 configs/models.yaml 中添加。",
    },
    "ner": {
        "en": "No entity extraction model is loaded in this yard; add one to configs/models.yaml.",
        "zh": "本车场没有加载实体抽取模型；请在 configs/models.yaml 中添加。",
    },
    "oos": {
        "en": "That is out of scope here; I only answer about the yard.",
        "zh": "这超出了范围；我只回答关于车场的问题。",
    },
}
_OPENERS: dict[tuple[Split, Lang], tuple[str, ...]] = {
    ("train", "en"): (
        "please tell me, ",
        "hi, ",
        "a question: ",
        "sorry, ",
        "excuse me, ",
        "quick one: ",
        "ok so ",
    ),
    ("test", "en"): ("I was wondering, ", "pardon, ", "hey yard, "),
    ("train", "zh"): ("请问，", "请问", "你好，", "问一下，", "不好意思，", "想问一下，", "那么"),
    ("test", "zh"): ("劳驾，", "打听一下，", "我想知道，"),
}


@dataclass(frozen=True, slots=True)
class Turn:
    """One question and the one right answer; `intent` is an intent's name or a refused task's."""

    text: str
    answer: str
    intent: str
    task: str
    lang: Lang

    def as_row(self) -> dict[str, object]:
        """Return the JSONL row."""
        return {"text": self.text, "answer": self.answer, "intent": self.intent, "task": self.task}


def wordings(chosen: Intent, split: Split, lang: Lang) -> tuple[str, ...]:
    """Return an intent's patterns of one split and language."""
    more = (MORE_YARD | MORE_JOBS)[chosen.name][0 if lang == "en" else 1] if split == "train" else ()
    return chosen.wordings[split, lang] + more


def worn(rng: random.Random, text: str, lang: Lang) -> str:
    """Lose or invent a word of a training text: what it asks must be clear from what is left."""
    words = text.split(" ") if lang == "en" else list(text)
    if len(words) > 3 and rng.random() < 0.5:
        del words[rng.randrange(len(words))]
    else:
        noise = jargon(rng) if lang == "en" else chr(rng.randint(0x4E00, 0x9F00))
        words.insert(rng.randint(0, len(words)), noise)
    return (" " if lang == "en" else "").join(words)


def question(rng: random.Random, split: Split, lang: Lang, intents: tuple[Intent, ...]) -> tuple[str, Intent]:
    """Draw one wording of one of the intents, dressed with an opener, case, punctuation and typos."""
    chosen = rng.choice(intents)
    text = expand(rng, rng.choice(wordings(chosen, split, lang)), {})
    if chosen.task == "faq" and rng.random() < 0.2:
        text = rng.choice(_OPENERS[split, lang]) + text
    if rng.random() < 0.35:
        text = text.rstrip("?？")
    elif text[-1].isalnum() and rng.random() < 0.3:
        text += rng.choice(("!", ".") if lang == "en" else ("！", "。"))
    if lang == "en":
        text = with_typos(rng, text, 0.05 if rng.random() < 0.4 else 0.0)
        text = rng.choice((text, capitalised(text), text.lower()))
    return text, chosen


def greeting_text(rng: random.Random, split: Split, lang: Lang) -> str:
    """Draw one greeting."""
    return question(rng, split, lang, GREETINGS)[0]


def faq_text(rng: random.Random, split: Split, lang: Lang) -> str:
    """Draw one question about the yard."""
    return question(rng, split, lang, YARD + JOBS)[0]


def turn(rng: random.Random, split: Split) -> Turn:
    """Draw one turn; a quarter are requests that this yard has no specialist for."""
    lang = pick_lang(rng)
    draw = rng.random()
    if draw < 0.75:
        text, chosen = question(rng, split, lang, INTENTS if draw < 0.6 else YARD + JOBS)
        if split == "train" and rng.random() < 0.35:
            text = worn(rng, text, lang)
        return Turn(text, chosen.answer[lang], chosen.name, chosen.task, lang)
    task = rng.choice(("contract", "tech_doc", "ner", "oos", "oos"))
    draws = {"contract": contract.text, "tech_doc": tech_doc.text, "ner": ner.text, "oos": oos.text}
    return Turn(draws[task](rng, split, lang), REFUSALS[task][lang], task, task, lang)


def turns(split: Split, seed: int) -> Iterator[Turn]:
    """Yield turns without end."""
    rng = seeded("chat", split, seed)
    while True:
        yield turn(rng, split)
