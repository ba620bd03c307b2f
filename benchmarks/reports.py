"""Labelled inspection reports to measure with: held-out ones, from the generator of the training data."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from training.generate.defects import reports

SEED = 77


@dataclass(frozen=True, slots=True)
class Labelled:
    """One report and the verdict that is right for it."""

    text: str
    verdict: Mapping[str, str | None]


def labelled_reports(count: int) -> list[Labelled]:
    """The first `count` reports of a fixed seed, no text twice."""
    return list(islice(_different(), count))


def _different() -> Iterator[Labelled]:
    seen: set[str] = set()
    for report in reports("test", SEED):
        if report.text not in seen:
            seen.add(report.text)
            yield Labelled(report.text, report.verdict.as_dict())


def share_right(parsed: Mapping[str, object], labelled: list[Labelled]) -> float:
    """The share of reports whose verdict is right in every field; `parsed` is the answer by report text."""
    right = sum(parsed.get(report.text) == dict(report.verdict) for report in labelled)
    return right / len(labelled) if labelled else 0.0
