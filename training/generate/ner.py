"""Requests to extract names, dates, amounts and other entities."""

import random

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
    ),
    ("test", "en"): (
        "get me the {ents} out of this note: {text}",
        "{text} -> {ents}?",
        "underline {ents}: {text}",
    ),
    ("train", "zh"): (
        "[提取|抽取|找出|列出][所有|全部|]{ents}：{text}",
        "[提取|识别]下面[文本|句子|邮件]中的[实体|命名实体]：{text}",
        "{text} 这句话里有哪些{ents}？",
        "{text}，[标注|标出]{ents}",
        "对下面的句子做[命名实体识别|实体抽取]：{text}",
        "从这段话里抽出{ents}：{text}",
    ),
    ("test", "zh"): (
        "把这条便签里的{ents}挑出来：{text}",
        "{text}——其中的{ents}？",
        "请圈出{ents}：{text}",
    ),
}
_TEXTS: dict[tuple[Split, Lang], tuple[str, ...]] = {
    ("train", "en"): (
        "{who} [met|called|visited] {who2} in {where} on {when}",
        "{firm} [ordered|bought] {n} units from {firm2} for {n} euros",
        "on {when} {who} of {firm} [sent|signed] the offer in {where}",
        "{firm} opened a plant in {where}",
        "{who} joined {firm} on {when}",
    ),
    ("test", "en"): (
        "{who} flies to {where} with {who2} on {when}",
        "{n} pallets left {where} for {firm} on {when}",
    ),
    ("train", "zh"): (
        "{who}{when}在{where}[会见|拜访]了{who2}",
        "{firm}向{firm2}[采购|订购]了{n}台设备",
        "{when}，{firm}的{who}在{where}签了报价",
        "{firm}在{where}开了新厂",
        "{who}于{when}加入{firm}",
    ),
    ("test", "zh"): ("{who}和{who2}{when}飞往{where}", "{when}有{n}托货从{where}发往{firm}"),
}
_SLOTS: dict[tuple[Split, Lang], dict[str, tuple[str, ...]]] = {
    ("train", "en"): {
        "ents": (
            "names",
            "dates",
            "people and places",
            "companies",
            "amounts",
            "persons",
            "locations",
            "names and dates",
        ),
        "who": ("Anna Weber", "John Miller", "Li Na", "Paul Novak", "Maria Rossi"),
        "who2": ("Tom Baker", "Wang Fang", "Eva Lind", "Omar Haddad"),
        "where": ("Berlin", "Shenzhen", "Lyon", "Osaka", "Boston"),
        "firm": ("Siebert Electronics", "Northwind", "Tianhe Motors", "Acorn Labs"),
        "firm2": ("Delta Parts", "Huaxin", "Meyer and Co"),
        "when": ("3 May 2024", "Monday", "12 June", "2025-03-14", "last Friday"),
    },
    ("test", "en"): {
        "ents": ("cities", "organisations", "people"),
        "who": ("Greta Olsen", "Zhou Min", "Pedro Alves"),
        "who2": ("Nils Berg", "Chen Jie"),
        "where": ("Prague", "Chengdu", "Porto"),
        "firm": ("Falcon Optics", "Ruitong"),
        "firm2": ("Baltic Steel",),
        "when": ("9 October", "2023-11-30", "Thursday"),
    },
    ("train", "zh"): {
        "ents": ("人名", "日期", "人名和地名", "公司名", "金额", "地点", "机构", "人名和日期"),
        "who": ("张伟", "李娜", "王芳", "刘洋", "陈强"),
        "who2": ("赵敏", "孙磊", "周杰"),
        "where": ("深圳", "上海", "北京", "杭州", "东京"),
        "firm": ("天河电机", "华芯科技", "北方电子", "联达公司"),
        "firm2": ("三角零件厂", "宏图公司"),
        "when": ("5月3日", "周一", "2024年6月12日", "上周五", "3月14日"),
    },
    ("test", "zh"): {
        "ents": ("城市", "组织", "人物"),
        "who": ("何静", "吴昊", "郑凯"),
        "who2": ("许婷", "马超"),
        "where": ("成都", "青岛", "布拉格"),
        "firm": ("瑞通光学", "海鹰仪表"),
        "firm2": ("东钢",),
        "when": ("10月9日", "周四", "2023年11月30日"),
    },
}


def text(rng: random.Random, split: Split, lang: Lang) -> str:
    """Draw one extraction request."""
    slots: dict[str, str | tuple[str, ...]] = {**_SLOTS[split, lang], "n": str(rng.randint(2, 900))}
    slots["text"] = expand(rng, rng.choice(_TEXTS[split, lang]), slots)
    filled = expand(rng, rng.choice(_PATTERNS[split, lang]), slots)
    return capitalised(filled) if rng.random() < 0.5 else filled
