"""One thing people ask the yard: its wordings by language and split, and its one correct answer."""

from dataclasses import dataclass
from typing import Literal

from training.generate.wording import Lang, Split

ChatTask = Literal["greeting", "faq"]


@dataclass(frozen=True, slots=True)
class Intent:
    """Wordings are patterns for `wording.expand`; test wordings are never trained on."""

    name: str
    task: ChatTask
    answer: dict[Lang, str]
    wordings: dict[tuple[Split, Lang], tuple[str, ...]]


def intent(
    name: str,
    task: ChatTask,
    en: tuple[str, tuple[str, ...], tuple[str, ...]],
    zh: tuple[str, tuple[str, ...], tuple[str, ...]],
) -> Intent:
    """Build an intent from (answer, train wordings, test wordings) for each language."""
    return Intent(
        name,
        task,
        {"en": en[0], "zh": zh[0]},
        {("train", "en"): en[1], ("test", "en"): en[2], ("train", "zh"): zh[1], ("test", "zh"): zh[2]},
    )
