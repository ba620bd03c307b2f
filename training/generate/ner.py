"""Requests to extract names, dates, amounts and other entities."""

import random

from training.generate import names
from training.generate.wording import Lang, Split, capitalised, expand

_PATTERNS: dict[tuple[Split, Lang], tuple[str, ...]] = {
    ("train", "en"): (
        "[extract|find|list|pull out] [all |the |]{ents} [from|in]: {text}",
        "[extract|list] the [|named ]entities [from|in] [this|the following] [text|sentence|mail]: {text}",
        "which {ents} [are mentioned|appear|occur] in: {text}",
        "{text} - [tag|mark|label] the {ents}",
        "[do|run] [named entity recognition|NER] on: {text}",
        "who and where? {text}",
        "give me every [name|date|place|company] in this sentence: {text}",
        "{text}. [Extract|List] {ents}",
        "[I need|please give|show|collect] the {ents} [of|in|from] this [sentence|note|line|message]: {text}",
        "[entities|names|{ents}]: {text}",
        "{text}. [Which|What] {ents} do you see?",
        "{text} ({ents} please)",
        "[name|spot|identify|highlight|detect] [the|all|any] {ents}: {text}",
        "are there {ents} in this: {text}",
        "turn this into a list of {ents}: {text}",
        "{ents} mentioned here? {text}",
        "[entity extraction|extraction task|ner]: {text}",
        "who is [named|mentioned] here: {text}",
        "put brackets around the {ents}. {text}",
        "[return|output] [only |]the {ents} as [JSON|a list|a table]: {text}",
    ),
    ("test", "en"): (
        "get me the {ents} out of this note: {text}",
        "{text} -> {ents}?",
        "underline {ents}: {text}",
        "please list {ents} that occur here: {text}",
        "I only want the {ents}, nothing else: {text}",
        'what are the {ents} in "{text}"?',
        "find {ents} in the following line. {text}",
        "make a table with {ents}: {text}",
    ),
    ("train", "zh"): (
        "[提取|抽取|找出|列出][所有|全部|]{ents}：{text}",
        "[提取|识别]下面[文本|句子|邮件]中的[实体|命名实体]：{text}",
        "{text} 这句话里有哪些{ents}？",
        "{text}，[标注|标出]{ents}",
        "对下面的句子做[命名实体识别|实体抽取]：{text}",
        "从这段话里抽出{ents}：{text}",
        "[请|]把[这句话|这段文字|下面这段]里的{ents}[写出来|列出来|找出来]：{text}",
        "{ents}：{text}",
        "{text}，[有哪些|请给出|请写出]{ents}？",
        "[识别|检测|查找]{ents}：{text}",
        "实体抽取：{text}",
        "这里提到了谁：{text}",
        "这里提到了哪些{ents}？{text}",
        "把{ents}做成[列表|表格|JSON]：{text}",
        "[高亮|标记]下文的{ents}：{text}",
        "{text}（要{ents}）",
        "请从这条消息中收集{ents}：{text}",
        "只输出{ents}：{text}",
    ),
    ("test", "zh"): (
        "把这条便签里的{ents}挑出来：{text}",
        "{text}——其中的{ents}？",
        "请圈出{ents}：{text}",
        "请列举出现的{ents}：{text}",
        "我只想要{ents}，别的不要：{text}",
        "“{text}”中的{ents}是什么？",
        "在下面这行里找{ents}。{text}",
        "用表格写出{ents}：{text}",
    ),
}
_TEXTS: dict[tuple[Split, Lang], tuple[str, ...]] = {
    ("train", "en"): (
        "{who} [met|called|visited] {who2} in {where} on {when}",
        "{firm} [ordered|bought] {n} units from {firm2} for {n} euros",
        "on {when} {who} of {firm} [sent|signed] the offer in {where}",
        "{firm} opened a plant in {where}",
        "{who} joined {firm} on {when}",
        "{who} of {firm} [travels|goes|drives] from {where} to {where2} on {when}",
        "the meeting with {who} and {who2} is on {when} in {where}",
        "{firm} [shipped|delivered] {n} boxes to {where} on {when}",
        "{who} paid {n} euros to {firm2}",
        "we expect {who2} from {firm} in {where} on {when}",
        "{firm} and {firm2} signed in {where}",
        "according to {who}, {firm} will move to {where}",
        "{n} people came to {where} on {when}, among them {who}",
        "call {who} at {firm} before {when}",
    ),
    ("test", "en"): (
        "{who} flies to {where} with {who2} on {when}",
        "{n} pallets left {where} for {firm} on {when}",
        "{who} will be in {where} until {when}",
        "{firm} hired {who} in {where}",
        "on {when} {firm2} paid {firm} {n} dollars",
        "a parcel for {who2} arrived in {where}",
    ),
    ("train", "zh"): (
        "{who}{when}在{where}[会见|拜访]了{who2}",
        "{firm}向{firm2}[采购|订购]了{n}台设备",
        "{when}，{firm}的{who}在{where}签了报价",
        "{firm}在{where}开了新厂",
        "{who}于{when}加入{firm}",
        "{firm}的{who}{when}从{where}去{where2}",
        "和{who}、{who2}的会议{when}在{where}举行",
        "{firm}{when}向{where}[发出|交付]{n}箱",
        "{who}付给{firm2}{n}元",
        "{when}{firm}的{who2}会到{where}",
        "{firm}与{firm2}在{where}签约",
        "据{who}说，{firm}要搬到{where}",
        "{when}有{n}人到{where}，其中有{who}",
        "{when}之前打电话给{firm}的{who}",
    ),
    ("test", "zh"): (
        "{who}和{who2}{when}飞往{where}",
        "{when}有{n}托货从{where}发往{firm}",
        "{who}在{where}待到{when}",
        "{firm}在{where}聘用了{who}",
        "{when}{firm2}付给{firm}{n}美元",
        "给{who2}的包裹到了{where}",
    ),
}
_ENTS: dict[tuple[Split, Lang], tuple[str, ...]] = {
    ("train", "en"): tuple(
        [
            "names",
            "dates",
            "people and places",
            "companies",
            "amounts",
            "persons",
            "locations",
            "names and dates",
            "firms",
            "towns",
        ]
    ),
    ("test", "en"): ("cities", "organisations", "people"),
    ("train", "zh"): tuple(
        ["人名", "日期", "人名和地名", "公司名", "金额", "地点", "机构", "人名和日期", "公司", "地名"]
    ),
    ("test", "zh"): ("城市", "组织", "人物"),
}


def text(rng: random.Random, split: Split, lang: Lang) -> str:
    """Draw one extraction request."""
    slots: dict[str, str | tuple[str, ...]] = {
        "ents": _ENTS[split, lang],
        "who": names.person(rng, split, lang),
        "who2": names.person(rng, split, lang),
        "where": names.town(rng, split, lang),
        "where2": names.town(rng, split, lang),
        "firm": names.firm(rng, split, lang),
        "firm2": names.firm(rng, split, lang),
        "when": names.day(rng, lang),
        "n": str(rng.randint(2, 900)),
    }
    slots["text"] = expand(rng, rng.choice(_TEXTS[split, lang]), slots)
    filled = expand(rng, rng.choice(_PATTERNS[split, lang]), slots)
    return capitalised(filled) if rng.random() < 0.5 else filled
