"""People, towns, firms and days for the extraction requests; train and held-out names share no part."""

import random

from training.generate.wording import Lang, Split

_FIRST: dict[tuple[Split, Lang], str] = {
    (
        "train",
        "en",
    ): "Anna John Paul Maria Tom Eva Omar Lucy Ivan Rosa Ken Julia Marc Nina Hugo Clara Felix Irene Adam",
    ("test", "en"): "Greta Pedro Nils Zara Victor Helen",
    ("train", "zh"): "伟 娜 芳 洋 强 敏 磊 杰 丽 军 涛 明 超 秀英 建国 小红 海燕 志强 晓东 文博",
    ("test", "zh"): "静 昊 凯 婷 雪梅 国华",
}
_LAST: dict[tuple[Split, Lang], str] = {
    (
        "train",
        "en",
    ): "Weber Miller Novak Rossi Baker Lind Haddad Smith Tanaka Dubois Kim Silva Brown Moreau Fischer Khan",
    ("test", "en"): "Olsen Alves Berg Petrov Murphy",
    ("train", "zh"): "张 李 王 刘 陈 赵 孙 周 徐 朱 林 高 罗 宋 梁 韩",
    ("test", "zh"): "何 吴 郑 许 马 唐",
}
_TOWNS: dict[tuple[Split, Lang], str] = {
    (
        "train",
        "en",
    ): "Berlin Shenzhen Lyon Osaka Boston Madrid Wuhan Turin Seoul Dublin Hanoi Zurich Denver Leeds Shanghai",
    ("test", "en"): "Prague Chengdu Porto Ghent Austin",
    ("train", "zh"): "深圳 上海 北京 杭州 东京 武汉 重庆 首尔 天津 苏州 广州 南京 柏林 巴黎 长沙 厦门",
    ("test", "zh"): "成都 青岛 布拉格 郑州 宁波",
}
_FIRMS: dict[tuple[Split, Lang], tuple[str, ...]] = {
    ("train", "en"): (
        *(
            "Siebert Electronics",
            "Northwind",
            "Tianhe Motors",
            "Acorn Labs",
            "Delta Parts",
            "Huaxin",
            "Meyer and Co",
        ),
        *(
            "Blue Harbor",
            "Kestrel Systems",
            "Vega Tools",
            "Stone Bridge Ltd",
            "Lumen Works",
            "Oak Street Bank",
        ),
    ),
    ("test", "en"): ("Falcon Optics", "Ruitong", "Baltic Steel", "Summit Foods"),
    ("train", "zh"): (
        *(
            "天河电机",
            "华芯科技",
            "北方电子",
            "联达公司",
            "三角零件厂",
            "宏图公司",
            "远大集团",
            "新光仪器",
            "金桥银行",
        ),
        *("长江物流", "蓝海软件", "星辰制药", "中原钢厂"),
    ),
    ("test", "zh"): ("瑞通光学", "海鹰仪表", "东钢", "顺丰食品厂"),
}
_DAYS: dict[Lang, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "en": (
        ("January", "March", "April", "May", "June", "July", "September", "October", "December"),
        ("Monday", "Tuesday", "Thursday", "last Friday", "next Sunday", "the weekend"),
    ),
    "zh": ((), ("周一", "周二", "周四", "上周五", "下周日", "周末")),
}


def person(rng: random.Random, split: Split, lang: Lang) -> str:
    """Draw a full name."""
    first, last = rng.choice(_FIRST[split, lang].split()), rng.choice(_LAST[split, lang].split())
    return f"{first} {last}" if lang == "en" else last + first


def town(rng: random.Random, split: Split, lang: Lang) -> str:
    """Draw a town."""
    return rng.choice(_TOWNS[split, lang].split())


def firm(rng: random.Random, split: Split, lang: Lang) -> str:
    """Draw a company."""
    return rng.choice(_FIRMS[split, lang])


def day(rng: random.Random, lang: Lang) -> str:
    """Draw a date or a day of the week."""
    months, days = _DAYS[lang]
    kind = rng.randrange(3)
    if kind == 0:
        return rng.choice(days)
    number, month, year = rng.randint(1, 28), rng.randint(1, 12), rng.randint(2021, 2026)
    if lang == "zh":
        return f"{month}月{number}日" if kind == 1 else f"{year}年{month}月{number}日"
    return f"{number} {rng.choice(months)}" if kind == 1 else f"{year}-{month:02d}-{number:02d}"
