"""Requests to categorise a report (or, for the router only, some other text)."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from training.generate import defects
from training.generate.verdict import Category
from training.generate.wording import Lang, Split, capitalised, expand, pick_lang, seeded

_REQUESTS: dict[tuple[Split, Lang], tuple[str, ...]] = {
    ("train", "en"): (
        "[categorise|categorize|classify] [this|the|the following] report: {text}",
        "[categorise|classify]: {text}",
        "which category [is|fits|has] this [report|message|note]? {text}",
        "what [category|class|kind of defect] [is this|is it]: {text}",
        "{text} - [which|what] category?",
        "name the category: {text}",
        "[assign|give|choose] [a|the] category [for|to] [this report|this]: {text}",
        "label this [report|text]: {text}",
        "sort this report into a category: {text}",
        "soldering, placement, contamination or none? {text}",
        "text classification: {text}",
        "[report|text] to classify: {text}",
    ),
    ("test", "en"): (
        "into which class does this one fall: {text}",
        'please put a category label on the report "{text}"',
        "category wanted for: {text}",
        "{text} <- classify that for me",
    ),
    ("train", "zh"): (
        "对[下面的|这份|以下]报告[分类|归类]：{text}",
        "[请|]分类：{text}",
        "这[份报告|条记录|段话]属于哪[个类别|一类]？{text}",
        "{text}，属于[什么类别|哪一类]？",
        "[判断|给出|选择]报告的类别：{text}",
        "给[这份报告|下面的文本][打标签|归类]：{text}",
        "文本分类：{text}",
        "把这份报告归入一个类别：{text}",
        "焊接、贴装、污染还是无？{text}",
        "待分类：{text}",
    ),
    ("test", "zh"): (
        "帮忙看看这条该归到哪类：{text}",
        "“{text}”请贴上类别标签",
        "需要类别：{text}",
    ),
}


@dataclass(frozen=True, slots=True)
class Labelled:
    """One request and its label."""

    text: str
    label: Category
    lang: Lang

    def as_row(self) -> dict[str, object]:
        """Return the JSONL row."""
        return {"text": self.text, "lang": self.lang, "label": self.label}


def labelled(rng: random.Random, split: Split) -> Labelled:
    """Draw one request around one inspection report; in 8 % request and report differ in language."""
    inner = defects.report(rng, split)
    lang = inner.lang if rng.random() < 0.92 else pick_lang(rng)
    text = expand(rng, rng.choice(_REQUESTS[split, lang]), {"text": inner.text.rstrip(".。")})
    if lang == "en" and not text.startswith(inner.text[:8]) and rng.random() < 0.6:
        text = capitalised(text)
    return Labelled(text, inner.verdict.category, lang)


def requests(split: Split, seed: int) -> Iterator[Labelled]:
    """Yield labelled requests without end."""
    rng = seeded("text_cls", split, seed)
    while True:
        yield labelled(rng, split)
