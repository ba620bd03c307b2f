"""Requests about technical documents: data sheets, manuals, standards."""

import random

from training.generate.wording import Lang, Split, capitalised, expand

_PATTERNS: dict[tuple[Split, Lang], tuple[str, ...]] = {
    ("train", "en"): (
        "what [is|are] the {prop} of the {thing} [according to|in|from] the {doc}?",
        "[look up|find|give me] the {prop} of the {thing} in the {doc}",
        "[summarise|summarize] [chapter|section|page] {n} of the {doc}",
        "how do I {verb} the {thing}? [See the {doc}|Use the {doc}|]",
        "explain the [diagram|table|figure] on page {n} of the {doc}",
        "[which|what] {prop} does the {doc} [give|state] for the {thing}?",
        "according to the {doc}, how [is|must] the {thing} [maintained|mounted|configured]?",
        "write [a short description|instructions] for the {thing} from this {doc}",
        "what does error E{n} [mean|stand for] in the {doc}?",
        "the {doc} says the {prop} is {n}, [is that the maximum|under which conditions]?",
        "how [do I|to] {verb} the {thing}",
        "I [want|have] to know the {prop} of [our|the] {thing}, the {doc} [should say|is here|has it]",
        "[where|on which page] in the {doc} [is|do I find] the {prop}?",
        "[open|read|search] the {doc}: {prop} of the {thing}",
        "list the [steps|tools|parts] [needed |]to {verb} the {thing}",
        "{thing}: {prop} [as in|per] {doc}",
        "the {doc} has a table of {prop}, [what does it mean|read it to me]",
        "is {n} within the {prop} of the {thing}?",
        "compare the {prop} of two [versions|types] of the {thing} in the {doc}",
        "our technician must {verb} the {thing}, what does the {doc} say?",
        "[simplify|shorten|rephrase|translate] [section|chapter|paragraph] {n} of the {doc}",
        "what spare parts does the {doc} list for the {thing}?",
        "safety notes for the {thing} in the {doc}",
        "wiring of the {thing}, see {doc} page {n}",
    ),
    ("test", "en"): (
        "I need the {prop} for the {thing}, it must be somewhere in the {doc}",
        "which page of the {doc} treats the {prop}?",
        "steps to {verb} our {thing} as the {doc} has them",
        "put section {n} of the {doc} into plain words",
    ),
    ("train", "zh"): (
        "[根据|查一下]{doc}，{thing}的{prop}是多少？",
        "[总结|概括]{doc}第{n}[章|节|页]",
        "[怎么|如何]{verb}{thing}？[请参考{doc}|]",
        "解释{doc}第{n}页的[图|表]",
        "{doc}里{thing}的{prop}是怎么[规定|说明]的？",
        "按照{doc}，{thing}应该怎么[维护|安装|配置]？",
        "根据这份{doc}写一段{thing}的说明",
        "{doc}里错误代码E{n}是什么意思？",
        "{doc}写{prop}为{n}，是最大值吗？",
        "在{doc}里找{thing}的{prop}",
        "我想知道{thing}的{prop}，{doc}里[应该有|写了]",
        "{prop}在{doc}的[哪里|第几页]？",
        "[打开|查阅|搜索]{doc}：{thing}的{prop}",
        "列出{verb}{thing}的[步骤|工具|零件]",
        "{thing}：{doc}中的{prop}",
        "{doc}里有一张{prop}表，是什么意思？",
        "{n}在{thing}的{prop}范围内吗？",
        "比较{doc}里两种{thing}的{prop}",
        "技术员要{verb}{thing}，{doc}怎么说？",
        "[简化|缩写|改写|翻译]{doc}第{n}[节|章|段]",
        "{doc}列出了{thing}的哪些备件？",
        "{doc}里{thing}的安全注意事项",
        "{thing}接线，见{doc}第{n}页",
    ),
    ("test", "zh"): (
        "我需要{thing}的{prop}，应该在{doc}某处",
        "{prop}写在{doc}哪一页？",
        "照{doc}列出{verb}{thing}的步骤",
        "用通俗的话讲讲{doc}第{n}节",
    ),
}
_SLOTS: dict[tuple[Split, Lang], dict[str, tuple[str, ...]]] = {
    ("train", "en"): {
        "prop": (
            "maximum voltage",
            "operating temperature",
            "torque",
            "current limit",
            "accuracy",
            "baud rate",
        ),
        "thing": (
            "pick and place machine",
            "reflow oven",
            "servo drive",
            "pump",
            "sensor",
            "power supply",
            "PLC",
        ),
        "doc": (
            "data sheet",
            "user manual",
            "service manual",
            "specification",
            "installation guide",
            "standard",
        ),
        "verb": (
            "calibrate",
            "install",
            "reset",
            "configure",
            "replace the filter of",
            "update the firmware of",
        ),
    },
    ("test", "en"): {
        "prop": ("leakage current", "flow rate", "insulation class", "response time"),
        "thing": ("screen printer", "frequency converter", "compressor", "encoder"),
        "doc": ("reference manual", "application note", "maintenance handbook", "wiring guide"),
        "verb": ("commission", "lubricate", "align", "descale"),
    },
    ("train", "zh"): {
        "prop": ("最大电压", "工作温度", "扭矩", "电流限值", "精度", "波特率"),
        "thing": ("贴片机", "回流焊炉", "伺服驱动器", "水泵", "传感器", "电源", "控制器"),
        "doc": ("数据手册", "用户手册", "维修手册", "规格书", "安装指南", "标准"),
        "verb": ("校准", "安装", "复位", "配置", "更换滤芯的", "升级固件的"),
    },
    ("test", "zh"): {
        "prop": ("漏电流", "流量", "绝缘等级", "响应时间"),
        "thing": ("锡膏印刷机", "变频器", "空压机", "编码器"),
        "doc": ("参考手册", "应用笔记", "保养手册", "接线指南"),
        "verb": ("调试", "润滑", "对中", "除垢"),
    },
}


def text(rng: random.Random, split: Split, lang: Lang) -> str:
    """Draw one request about a technical document."""
    slots = {**_SLOTS[split, lang], "n": (str(rng.randint(1, 180)),)}
    filled = expand(rng, expand_nested(rng, rng.choice(_PATTERNS[split, lang])), slots)
    return capitalised(filled) if rng.random() < 0.5 else filled


def expand_nested(rng: random.Random, pattern: str) -> str:
    """Settle the alternatives before the slots, so that a slot may stand inside an alternative."""
    keep = {name: "{" + name + "}" for name in ("prop", "thing", "doc", "verb", "n")}
    return expand(rng, pattern, keep)
