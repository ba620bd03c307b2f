"""Requests about contracts and clauses."""

import random

from training.generate.wording import Lang, Split, capitalised, expand

_PATTERNS: dict[tuple[Split, Lang], tuple[str, ...]] = {
    ("train", "en"): (
        "[review|check|read] [clause|section|article] {n} of the {kind}: {clause}",
        "does the {kind} [allow|permit] {act}?",
        "[summarise|summarize] the {topic} [clause|terms] [of|in] the {kind}",
        "what [is|are] the {topic} [terms|obligations] in [this|the] {kind}?",
        "is [this|the following] clause risky: {clause}",
        "{clause} - who [carries|bears] the risk under this {kind}?",
        "compare the {topic} of the {kind} with our [template|standard]",
        "find the {topic} clause in the {kind} with {party}",
        "[draft|rewrite] a {topic} clause for the {kind}",
        "which [party|side] is liable for {act} under the {kind}?",
        "when does the {kind} with {party} [end|expire|renew]?",
        "{clause}. [Explain|Comment on] this [clause|paragraph]",
        "[is|would] {act} [be |]a breach of the {kind}?",
        "we want to sign the {kind} with {party}: [any risks|what should we watch|is it fair]?",
        "{clause}. Is that [usual|fair|legal] in a {kind}?",
        "[highlight|list|extract] the [duties|obligations|deadlines|rights] of {party} in the {kind}",
        "the lawyer wants the {topic} part of the {kind}",
        "legal question: {act} under the {kind}",
        "can {party} [end|cancel|change|extend] the {kind}?",
        "[read|study] this [paragraph|clause] of the {kind} for me: {clause}",
        "what happens to the {kind} in case of {act}?",
        "who has to pay when {act} occurs, see {kind}",
        "is the {topic} clause of the {kind} valid?",
        "how long is the notice period in the {kind} with {party}?",
    ),
    ("test", "en"): (
        "our lawyer asks about {topic} in the {kind} signed with {party}",
        "before we sign the {kind}: {clause}. Any trap?",
        "mark the sentences of the {kind} that concern {topic}",
        "can {party} get out of the {kind} because of {act}?",
        "is {party} allowed to end the {kind}?",
        "tell me what the {kind} says on {topic}",
        "read this part of the {kind}: {clause}",
        "which risks does the {topic} clause carry for us?",
        "{clause} - acceptable in the {kind}?",
    ),
    ("train", "zh"): (
        "[审查|检查|看一下]{kind}第{n}条：{clause}",
        "{kind}[允许|允不允许]{act}吗？",
        "[总结|概括]{kind}里的{topic}条款",
        "{kind}中关于{topic}是怎么[约定|规定]的？",
        "[这个|以下]条款有风险吗：{clause}",
        "{clause}，按{kind}由谁承担？",
        "把{kind}的{topic}和我们的模板[对比|比较]一下",
        "找出与{party}的{kind}中的{topic}条款",
        "[起草|改写]一条{topic}条款，用于{kind}",
        "{kind}下{act}由哪一方负责？",
        "与{party}的{kind}什么时候[到期|续签]？",
        "请解释这段合同：{clause}",
        "{act}算违反{kind}吗？",
        "要和{party}签{kind}，[有什么风险|要注意什么|公平吗]？",
        "{clause}，这在{kind}里[正常|合理|合法]吗？",
        "[列出|标出|找出]{kind}里{party}的[义务|期限|权利]",
        "法务要{kind}的{topic}部分",
        "法律问题：{kind}下的{act}",
        "{party}可以[终止|取消|变更|延长]{kind}吗？",
        "帮我[读|研究]{kind}的这一段：{clause}",
        "发生{act}时{kind}怎么办？",
        "{act}时谁来付钱，见{kind}",
        "{kind}的{topic}条款有效吗？",
        "与{party}的{kind}通知期多长？",
    ),
    ("test", "zh"): (
        "律师问我们和{party}签的{kind}里{topic}怎么写",
        "签{kind}之前请把关：{clause}",
        "标出{kind}里涉及{topic}的句子",
        "{party}能因为{act}而退出{kind}吗？",
        "{party}可以结束{kind}吗？",
        "告诉我{kind}对{topic}怎么说",
        "读一下{kind}这部分：{clause}",
        "{topic}条款对我们有哪些风险？",
        "{clause}，在{kind}里能接受吗？",
    ),
}
_SLOTS: dict[tuple[Split, Lang], dict[str, tuple[str, ...]]] = {
    ("train", "en"): {
        "kind": (
            "supply agreement",
            "purchase contract",
            "lease",
            "NDA",
            "service agreement",
            "framework contract",
        ),
        "topic": (
            "liability",
            "termination",
            "payment",
            "warranty",
            "confidentiality",
            "penalty",
            "delivery",
        ),
        "act": ("late delivery", "early termination", "subcontracting", "price increases", "defective goods"),
        "party": ("the supplier", "the buyer", "Hartmann Ltd", "the landlord", "Orion Parts Inc"),
        "clause": (
            "the supplier shall deliver within {d} days after the order",
            "either party may terminate with {d} days written notice",
            "the buyer shall pay within {d} days of the invoice",
            "a penalty of {d} percent applies per week of delay",
            "the warranty period is {d} months from acceptance",
            "confidential information shall not be disclosed for {d} years",
        ),
    },
    ("test", "en"): {
        "kind": ("licence agreement", "consignment contract", "maintenance contract", "employment contract"),
        "topic": ("indemnity", "jurisdiction", "force majeure", "intellectual property"),
        "act": ("a strike", "insolvency", "missed audits"),
        "party": ("Keller and Sons", "the contractor", "the licensee"),
        "clause": (
            "the licensor grants a non-exclusive right for {d} years",
            "disputes shall be settled in court after {d} days of mediation",
            "the contractor indemnifies the client up to {d} percent of the fee",
        ),
    },
    ("train", "zh"): {
        "kind": ("采购合同", "供货协议", "租赁合同", "保密协议", "服务合同", "框架协议"),
        "topic": ("违约责任", "解除", "付款", "质保", "保密", "罚款", "交货"),
        "act": ("延迟交货", "提前解约", "分包", "涨价", "货物有瑕疵"),
        "party": ("供应商", "买方", "华东电子公司", "房东", "甲方"),
        "clause": (
            "供方应在下单后{d}日内交货",
            "任何一方可提前{d}日书面通知解除合同",
            "需方应在收到发票后{d}日内付款",
            "每逾期一周按{d}%支付违约金",
            "质保期为验收之日起{d}个月",
            "保密义务持续{d}年",
        ),
    },
    ("test", "zh"): {
        "kind": ("许可协议", "寄售合同", "维保合同", "劳动合同"),
        "topic": ("赔偿", "管辖", "不可抗力", "知识产权"),
        "act": ("罢工", "破产", "未通过审核"),
        "party": ("北方机电公司", "乙方", "被许可方"),
        "clause": (
            "许可方授予{d}年的非独占权利",
            "争议先调解{d}日再提起诉讼",
            "承包方的赔偿以费用的{d}%为限",
        ),
    },
}


def text(rng: random.Random, split: Split, lang: Lang) -> str:
    """Draw one request about a contract."""
    slots: dict[str, str | tuple[str, ...]] = {**_SLOTS[split, lang]}
    slots["n"] = f"{rng.randint(1, 20)}" + (f".{rng.randint(1, 9)}" if rng.random() < 0.5 else "")
    days = {"d": str(rng.choice((3, 5, 7, 10, 12, 14, 24, 30, 45, 60, 90)))}
    slots["clause"] = expand(rng, rng.choice(_SLOTS[split, lang]["clause"]), days)
    filled = expand(rng, rng.choice(_PATTERNS[split, lang]), slots)
    return capitalised(filled) if rng.random() < 0.5 else filled
