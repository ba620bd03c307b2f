"""How operators name each defect, as a noun (`N`) and as what a part does (`V`), by language.

These are the trade's words and are shared by train and held-out texts; everything around them is not.
"""

from collections.abc import Mapping

from training.generate.verdict import Defect
from training.generate.wording import Lang

NOUNS: Mapping[Lang, Mapping[Defect, tuple[str, ...]]] = {
    "en": {
        "bridge": ("[solder |]bridge", "solder short", "[solder |]bridging", "short between pins"),
        "open": ("open joint", "[cold|dry] joint", "open solder joint", "lifted lead", "unsoldered pin"),
        "tombstone": ("tombstone", "tombstoning", "tombstoned part", "part standing on end"),
        "missing": ("missing part", "missing component", "empty footprint", "absent component"),
        "wrong_part": ("wrong part", "wrong component", "incorrect part", "wrong value", "part mismatch"),
        "polarity": ("reversed polarity", "polarity error", "reversed part", "wrong orientation"),
        "shift": ("[part |]shift", "misalignment", "offset part", "placement offset", "skewed part"),
        "insufficient": ("insufficient solder", "too little solder", "low solder volume", "starved joint"),
        "excess": ("excess solder", "too much solder", "solder blob", "excessive solder"),
        "foreign_matter": (
            "foreign matter",
            "contamination",
            "flux residue",
            "debris",
            "solder ball",
            "fiber",
        ),
    },
    "zh": {
        "bridge": ("[|焊锡]桥连", "连锡", "短路", "锡桥"),
        "open": ("虚焊", "开路", "冷焊", "假焊", "引脚翘起"),
        "tombstone": ("立碑", "墓碑[|现象]", "立件"),
        "missing": ("缺件", "漏贴", "漏件", "少件"),
        "wrong_part": ("错件", "错料", "用错料", "料号不符"),
        "polarity": ("极性反", "反向", "极性错误", "方向贴反"),
        "shift": ("偏移", "移位", "贴偏", "歪斜"),
        "insufficient": ("少锡", "锡量不足", "锡少", "焊锡不足"),
        "excess": ("多锡", "锡量过多", "锡多", "焊锡过多"),
        "foreign_matter": ("异物", "脏污", "助焊剂残留", "锡珠", "纤维", "杂质"),
    },
}

VERBS: Mapping[Lang, Mapping[Defect, tuple[str, ...]]] = {
    "en": {
        "bridge": ("is bridged", "is shorted with solder", "shows a [solder |]bridge", "has bridged"),
        "open": (
            "is open",
            "is not soldered",
            "has an open joint",
            "has a [cold|dry] joint",
            "has a lifted lead",
        ),
        "tombstone": ("is tombstoned", "has tombstoned", "stands on end", "is standing up"),
        "missing": ("is missing", "is not mounted", "was never placed", "is absent"),
        "wrong_part": (
            "is the wrong part",
            "has the wrong value",
            "is an incorrect part",
            "does not match the BOM",
        ),
        "polarity": ("is reversed", "is mounted backwards", "has reversed polarity", "is turned around"),
        "shift": ("is shifted", "is misaligned", "has moved off its pads", "is offset", "sits skewed"),
        "insufficient": (
            "has too little solder",
            "lacks solder",
            "has insufficient solder",
            "is starved of solder",
        ),
        "excess": (
            "has too much solder",
            "has excess solder",
            "carries a solder blob",
            "is flooded with solder",
        ),
        "foreign_matter": (
            "is contaminated",
            "is covered with debris",
            "has flux residue",
            "carries a solder ball",
        ),
    },
    "zh": {
        "bridge": ("桥连", "连锡", "短路了", "有锡桥"),
        "open": ("虚焊", "开路", "没焊上", "冷焊", "引脚翘起"),
        "tombstone": ("立碑", "立起来了", "竖起来了", "有墓碑现象"),
        "missing": ("缺件", "漏贴", "没贴上", "漏件"),
        "wrong_part": ("错件", "贴错料", "用错料", "与料单不符"),
        "polarity": ("极性反了", "贴反", "反向", "方向装反"),
        "shift": ("偏移", "移位", "贴偏", "贴歪了"),
        "insufficient": ("少锡", "锡量不足", "焊锡不足", "吃锡不够"),
        "excess": ("多锡", "锡太多", "锡量过多", "焊锡过多"),
        "foreign_matter": ("有异物", "脏污", "有助焊剂残留", "沾有锡珠", "有纤维"),
    },
}
