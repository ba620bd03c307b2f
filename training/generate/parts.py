"""Reference designators, component names, boards and places on a part.

Train and held-out numbers never share a decade (U30-U39 is either all train or all held out), and component
and board names are disjoint lists. The places (pin 3, left side) are shared: they are the trade's vocabulary.
"""

import random
from dataclasses import dataclass

from training.generate.wording import Lang, Split

PREFIXES = (
    "U",
    "R",
    "C",
    "L",
    "D",
    "Q",
    "J",
    "Y",
    "F",
    "T",
    "K",
    "IC",
    "SW",
    "TP",
    "FB",
    "CN",
    "RN",
    "X",
    "LED",
    "VR",
)
_PREFIX_WEIGHTS = (9, 9, 9, 5, 5, 5, 4, 2, 2, 2, 2, 3, 1, 1, 1, 2, 1, 1, 1, 1)
HELD_OUT_DECADES = frozenset({3, 8, 14, 17, 21, 26, 32, 38, 45, 49})
MAX_NUMBER = 499

_BOARD_FAMILIES: dict[Split, tuple[str, ...]] = {
    "train": (
        "MB",
        "PWR",
        "CTL",
        "AX",
        "VT",
        "DRV",
        "IO",
        "BMS",
        "NX",
        "ECU",
        "HMI",
        "CAM",
        "INV",
        "ZK",
        "PCB",
    ),
    "test": ("GWY", "LMP", "SRV", "QB", "OBC", "MTR"),
}
_BOARD_NAMES: dict[tuple[Split, Lang], tuple[str, ...]] = {
    ("train", "en"): (
        "main board",
        "power board",
        "driver board",
        "IO board",
        "camera board",
        "control panel",
    ),
    ("test", "en"): ("gateway board", "lamp board", "charger board", "motor board"),
    ("train", "zh"): ("主板", "电源板", "驱动板", "接口板", "摄像头板", "控制板"),
    ("test", "zh"): ("网关板", "灯板", "充电板", "电机板"),
}
_COMPONENTS: dict[tuple[Split, Lang], tuple[str, ...]] = {
    ("train", "en"): (
        "QFN",
        "SOIC chip",
        "chip resistor",
        "chip capacitor",
        "electrolytic capacitor",
        "crystal",
        "USB connector",
        "MOSFET",
        "power inductor",
        "optocoupler",
        "BGA",
        "voltage regulator",
        "pin header",
        "fuse",
        "transformer",
        "microcontroller",
        "flash memory",
        "op amp",
    ),
    ("test", "en"): (
        "TVS diode",
        "ferrite bead",
        "tantalum capacitor",
        "converter module",
        "transistor",
        "HDMI socket",
        "relay",
        "thermistor",
    ),
    ("train", "zh"): (
        "贴片电阻",
        "贴片电容",
        "电解电容",
        "晶振",
        "接插件",
        "场效应管",
        "功率电感",
        "光耦",
        "稳压芯片",
        "排针",
        "保险丝",
        "变压器",
        "单片机",
        "存储芯片",
        "运放",
        "主控芯片",
    ),
    ("test", "zh"): ("瞬态抑制管", "磁珠", "钽电容", "电源模块", "三极管", "插座", "继电器", "热敏电阻"),
}
_PLACES: dict[Lang, tuple[str, ...]] = {
    "en": (
        "left side",
        "right side",
        "left end",
        "right end",
        "top side",
        "bottom edge",
        "upper left corner",
        "lower right corner",
        "upper right corner",
        "lower left corner",
        "cathode side",
        "anode end",
        "inner row",
        "outer row",
        "thermal pad",
        "center pad",
    ),
    "zh": (
        "左侧",
        "右侧",
        "左端",
        "右端",
        "上侧",
        "下边缘",
        "左上角",
        "右下角",
        "右上角",
        "左下角",
        "阴极侧",
        "阳极端",
        "内排",
        "外排",
        "散热焊盘",
        "中间焊盘",
    ),
}


@dataclass(frozen=True, slots=True)
class Places:
    """Where board-level findings sit, by language: a board edge instead of a pin."""

    en: tuple[str, ...] = (
        "top edge",
        "left edge",
        "board center",
        "mounting hole",
        "connector area",
        "lower half",
    )
    zh: tuple[str, ...] = ("上板边", "左板边", "板中央", "安装孔", "接口区", "下半区")


def is_held_out(number: int) -> bool:
    """Say whether a designator's number belongs to the held-out decades."""
    return number // 10 in HELD_OUT_DECADES


def designator(rng: random.Random, split: Split) -> str:
    """Draw a reference designator such as U12 of the given split."""
    prefix = rng.choices(PREFIXES, _PREFIX_WEIGHTS)[0]
    while True:
        number = rng.randint(1, 99) if rng.random() < 0.55 else rng.randint(100, MAX_NUMBER)
        if is_held_out(number) == (split == "test"):
            return f"{prefix}{number}"


def board(rng: random.Random, split: Split, lang: Lang) -> str:
    """Draw a board name; the number after a family code is a deliberate distractor for designators."""
    if rng.random() < 0.35:
        return rng.choice(_BOARD_NAMES[split, lang])
    family = rng.choice(_BOARD_FAMILIES[split])
    return f"{family}{rng.choice(('-', '-', ' '))}{rng.randint(10, 4999)}{rng.choice(('', '', '', 'A', 'B'))}"


def component(rng: random.Random, split: Split, lang: Lang) -> str:
    """Draw a component name of the given split."""
    return rng.choice(_COMPONENTS[split, lang])


def place(rng: random.Random, lang: Lang) -> str:
    """Draw a short location phrase on a part: a pin, a pad, a side.

    A Chinese one never begins with a digit: after a designator (R56 + 13脚) nobody could tell the two apart.
    """
    if rng.random() < 0.35:
        return rng.choice(_PLACES[lang])
    first = rng.randint(1, 32) if rng.random() < 0.8 else rng.randint(33, 144)
    kind = rng.randrange(6)
    if lang == "en":
        return (
            f"pin {first}",
            f"pin {first}",
            f"pad {first % 8 + 1}",
            f"pins {first} and {first + 1}",
            f"pins {first}-{first + rng.randint(1, 3)}",
            f"lead {first}",
        )[kind]
    return (
        f"第{first}脚",
        f"引脚{first}",
        f"焊盘{first % 8 + 1}",
        f"第{first}、{first + 1}脚",
        f"引脚{first}-{first + rng.randint(1, 3)}",
        f"第{first}引脚",
    )[kind]


def board_place(rng: random.Random, lang: Lang) -> str:
    """Draw a location on the board itself, for findings that belong to no part."""
    places = Places()
    return rng.choice(places.en if lang == "en" else places.zh)
