"""What a batch of labelled jobs came to: counts, accuracy, latency, by task. Pure."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from batchyard.result import Result

OUT_OF_SCOPE = "oos"
"""The label of a job that belongs to no task."""


@dataclass(frozen=True, slots=True)
class Done:
    """A row of the input, its result, and the seconds from the start of submission to its arrival."""

    row: Mapping[str, Any]
    result: Result
    at: float


@dataclass(frozen=True, slots=True)
class Line:
    """One task. `routed` and `answered` are (right, labelled); latencies in seconds, NaN without a success;
    `mean_batch` is the mean number of sequences that shared a step."""

    task: str
    models: tuple[str, ...]
    jobs: int
    failed: int
    routed: tuple[int, int]
    answered: tuple[int, int]
    p50: float
    p95: float
    mean_batch: float
    per_second: float


def lines(done: Iterable[Done]) -> list[Line]:
    """A line a task (as labelled, else as routed), most jobs first, and at the end one for all."""
    everything = list(done)
    groups: dict[str, list[Done]] = {}
    for one in everything:
        groups.setdefault(_task(one), []).append(one)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return [*(_line(task, group) for task, group in ordered), _line("all", everything)]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0-1) of the values do not exceed; NaN of none."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def routed_right(row: Mapping[str, Any], result: Result) -> bool | None:
    """Whether the router took the job for what its label says; None without label or route."""
    expected = _metadata(row).get("expected_task")
    if expected is None or result.route is None:
        return None
    if expected == OUT_OF_SCOPE:
        return result.route.out_of_scope
    return bool(result.route.task == expected)


def answered_right(row: Mapping[str, Any], result: Result) -> bool | None:
    """Whether the answer is the expected one, in every field; None without an expected answer."""
    expected = _metadata(row).get("expected")
    if expected is None:
        return None
    if isinstance(expected, str):
        answer = result.choice if result.choice is not None else (result.text or "").strip()
        return answer == expected
    return bool(result.parsed == expected)


def failures(done: Iterable[Done]) -> list[tuple[str, int, str]]:
    """(code, count, an example) of the jobs that failed, the most frequent reason first."""
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for one in done:
        if one.result.error is not None:
            code = one.result.error.code
            counts[code] += 1
            examples.setdefault(code, f"{one.result.job_id}: {one.result.error.message}")
    return [(code, count, examples[code]) for code, count in counts.most_common()]


def _metadata(row: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = row.get("metadata")
    return metadata if isinstance(metadata, dict) else {}


def _task(one: Done) -> str:
    label = _metadata(one.row).get("expected_task")
    if label is not None:
        return str(label)
    return one.result.route.task if one.result.route is not None else str(one.row.get("task", "auto"))


def _line(task: str, group: Sequence[Done]) -> Line:
    good = [one.result for one in group if one.result.ok]
    latencies = [result.timings.total_s for result in good]
    models = Counter(one.result.route.model for one in group if one.result.route is not None)
    span = max((one.at for one in group), default=0.0)
    return Line(
        task=task,
        models=tuple(model for model, _ in models.most_common()),
        jobs=len(group),
        failed=sum(not one.result.ok for one in group),
        routed=_share(routed_right(one.row, one.result) for one in group),
        answered=_share(answered_right(one.row, one.result) for one in group),
        p50=percentile(latencies, 0.5),
        p95=percentile(latencies, 0.95),
        mean_batch=sum(result.timings.mean_batch for result in good) / len(good) if good else math.nan,
        per_second=len(group) / span if span > 0 else math.nan,
    )


def _share(verdicts: Iterable[bool | None]) -> tuple[int, int]:
    known = [verdict for verdict in verdicts if verdict is not None]
    return sum(known), len(known)
