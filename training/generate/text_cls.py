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
        "category? {text}",
        "category of [this|the report]: {text}",
        "[we|I] need the category: {text}",
        "[can you|please] sort this: {text}",
        "type of report? {text}",
        "{text}. [Classify|Categorise] [this|it][ please|]",
        "[group|bucket|bin] for [this|the report]: {text}",
        "tell me the class: {text}",
        "is this soldering, placement or contamination: {text}",
        "[which|what] label [belongs to|has|suits]: {text}",
    ),
    ("test", "en"): (
        "into which class does this one fall: {text}",
        'please put a category label on the report "{text}"',
        "category wanted for: {text}",
        "{text} <- classify that for me",
        "which drawer of the four is right for: {text}",
        "a class for this message, please: {text}",
        'under what heading do we file "{text}"',
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
        "类别？{text}",
        "[这份报告|报告]的类别：{text}",
        "[我|我们]要知道[类别|分类]：{text}",
        "[请|麻烦]把这个分一下类：{text}",
        "报告类型？{text}",
        "{text}。[请|]分类",
        "{text}（分类）",
        "归类[一下|]：{text}",
        "这是焊接、贴装还是污染问题：{text}",
        "什么标签合适：{text}",
    ),
    ("test", "zh"): (
        "帮忙看看这条该归到哪类：{text}",
        "“{text}”请贴上类别标签",
        "需要类别：{text}",
        "请问“{text}”算哪种类型",
        "给这条消息定个类：{text}",
        "四类之中选一个：{text}",
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
