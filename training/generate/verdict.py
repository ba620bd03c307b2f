"""The verdict of one report and the category it implies: the answer format of `defect_detect`."""

import json
from dataclasses import dataclass
from typing import Literal

Defect = Literal[
    "none",
    "bridge",
    "open",
    "tombstone",
    "missing",
    "wrong_part",
    "polarity",
    "shift",
    "insufficient",
    "excess",
    "foreign_matter",
]
Category = Literal["soldering", "placement", "contamination", "none"]

CATEGORIES: tuple[Category, ...] = ("soldering", "placement", "contamination", "none")
CATEGORY_OF: dict[Defect, Category] = {
    "none": "none",
    "bridge": "soldering",
    "open": "soldering",
    "insufficient": "soldering",
    "excess": "soldering",
    "tombstone": "placement",
    "missing": "placement",
    "wrong_part": "placement",
    "polarity": "placement",
    "shift": "placement",
    "foreign_matter": "contamination",
}
FAULTS: tuple[Defect, ...] = tuple(defect for defect in CATEGORY_OF if defect != "none")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a report says: `ref` and `location` are phrases of the report, or None."""

    defect: Defect
    ref: str | None
    location: str | None

    @property
    def category(self) -> Category:
        """The text_cls label of the same report."""
        return CATEGORY_OF[self.defect]

    def as_dict(self) -> dict[str, str | None]:
        """Return the JSON object with its keys in the contract's order."""
        return {
            "verdict": "pass" if self.defect == "none" else "fail",
            "defect": self.defect,
            "ref": self.ref,
            "location": self.location,
        }

    def as_json(self) -> str:
        """Return the compact JSON text that the model learns to write."""
        return json.dumps(self.as_dict(), ensure_ascii=False, separators=(",", ":"))
