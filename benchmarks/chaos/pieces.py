"""Jobs whose right answer is certain, whatever batch they run in and however often. Pure and seeded.

Most must answer with a mark that only this job has, because its own schema or labels allow nothing else: an
answer that was swapped with another job's cannot pass. The rest are choices whose answer an undisturbed run
gave with a clear lead. A greedy text would not do: rounding differs between batches.
"""

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from batchyard.names import DEFAULT_TENANT, full_name
from benchmarks.reports import labelled_reports

TASK = "defect_detect"
LABELS = ("soldering", "placement", "contamination", "none")
REFERENCE_REPORTS = 60
CLEAR_LEAD = 0.3
"""By so much the best label must lead in the undisturbed run to count as certain."""
FAR_SECONDS = 6 * 3600.0
BATCH_JOBS = 900
BATCHES_AT_ONCE = 4
RUN_JOBS = 80
"""So many jobs after another are of one batch, so that some of its chunks are large."""
TENANTS = (DEFAULT_TENANT, "acme", "globex")
FLAKY = "flaky"
"""In the id of a job whose first attempt fails for a passing reason, see `flaky_worker`."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A report and the label that it certainly gets."""

    text: str
    label: str


@dataclass(frozen=True, slots=True)
class Piece:
    """One job and how its answer is known. `id` and `batch` are full names, of its tenant; `body` is what is
    submitted, without its deadline; `deadline_in` in seconds from its submission; `cancel` whether it is to
    be cancelled."""

    id: str
    kind: str
    batch: str
    body: Mapping[str, Any]
    mark: str
    label: str | None = None
    deadline_in: float | None = None
    cancel: bool = False


def fault_of(piece: Piece, answer: object) -> str | None:
    """What is wrong with the `result` of a SUCCESS document as the answer to this job, or None."""
    if not isinstance(answer, dict):
        return f"no result object: {answer!r}"
    if answer.get("job_id") != piece.id:
        return f"the result is of {answer.get('job_id')!r}"
    if answer.get("metadata") != piece.body["metadata"]:
        return f"metadata {answer.get('metadata')!r}"
    if piece.body["output"]["type"] == "choices":
        return _choice_fault(piece, answer)
    document = answer.get("parsed")
    mark = document.get("mark") if isinstance(document, dict) else document
    return None if mark == piece.mark else f"answer {answer.get('text')!r}, its mark is {piece.mark}"


def _choice_fault(piece: Piece, answer: Mapping[str, Any]) -> str | None:
    chances = answer.get("choice_probabilities") or {}
    if set(chances) != set(piece.body["output"]["choices"]):
        return f"probabilities of {sorted(chances)}"
    choice = answer.get("choice")
    if choice not in chances or (piece.label is not None and choice != piece.label):
        return f"choice {choice!r}, not {piece.label or 'one of its own labels'!r}"
    return None


def reference_jobs() -> list[dict[str, Any]]:
    """What is asked of the undisturbed yard."""
    return [
        {"task": TASK, "prompt": report.text, "output": {"type": "choices", "choices": list(LABELS)}}
        for report in labelled_reports(REFERENCE_REPORTS)
    ]


def certain(text: str, chances: Mapping[str, float]) -> Reference | None:
    """The reference that an undisturbed answer makes, if its lead is clear."""
    best, second = sorted(chances, key=chances.__getitem__, reverse=True)[:2]
    return Reference(text, best) if chances[best] - chances[second] >= CLEAR_LEAD else None


@dataclass(frozen=True, slots=True)
class _Draw:
    """What a kind is made from."""

    random: random.Random
    mark: str
    references: Sequence[Reference]


_Made = tuple[dict[str, Any], str | None]
"""Fields of the job, and the label that is right, if only one is."""


def _schema(draw: _Draw, schema: object, **more: Any) -> dict[str, Any]:
    output = {"type": "json_schema", "schema": schema}
    return {"prompt": f"Board {draw.mark}.", "output": output, **more}


def _object(draw: _Draw, name: str, rule: Mapping[str, Any]) -> dict[str, Any]:
    properties = {"mark": {"const": draw.mark}, name: rule}
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return _schema(draw, schema)


def _mark(draw: _Draw) -> _Made:
    return _schema(draw, {"const": draw.mark}), None


def _verdict(draw: _Draw) -> _Made:
    return _object(draw, "verdict", {"enum": ["pass", "fail"]}), None


def _long(draw: _Draw) -> _Made:
    return _object(draw, "note", {"type": "string", "minLength": 50, "maxLength": 60}), None


def _labels(draw: _Draw) -> _Made:
    choices = [f"{draw.mark} {label}" for label in LABELS]
    return {"prompt": f"Board {draw.mark}.", "output": {"type": "choices", "choices": choices}}, None


def _report(draw: _Draw) -> _Made:
    if not draw.references:
        return _labels(draw)
    reference = draw.random.choice(draw.references)
    return {
        "prompt": reference.text,
        "output": {"type": "choices", "choices": list(LABELS)},
    }, reference.label


def _flaky(draw: _Draw) -> _Made:
    return _schema(draw, {"const": draw.mark}), None


_KINDS: Mapping[str, tuple[float, Callable[[_Draw], _Made]]] = {
    "mark": (57, _mark),
    "verdict": (14, _verdict),
    "long": (5, _long),
    "labels": (12, _labels),
    "report": (8, _report),
    FLAKY: (4, _flaky),
}
_INTERACTIVE_SHARE, _RULE_SHARE, _DEADLINE_SHARE, _CANCEL_SHARE = 0.08, 0.2, 0.25, 0.04


def pieces(seed: int, references: Sequence[Reference]) -> Iterator[Piece]:
    """Jobs without end; the same seed and references give the same ones, ids included."""
    source = random.Random(f"pieces {seed}")
    kinds, weights = list(_KINDS), [weight for weight, _ in _KINDS.values()]
    number = 0
    while True:
        (kind,) = source.choices(kinds, weights)
        mark = hashlib.blake2b(f"{seed} {number}".encode(), digest_size=5).hexdigest()
        fields, label = _KINDS[kind][1](_Draw(source, mark, references))
        metadata = {"mark": mark}
        # named, or left to a rule of the policy
        if source.random() < _RULE_SHARE:
            metadata["source"] = "aoi"
        else:
            fields["task"] = TASK
        if source.random() < _INTERACTIVE_SHARE:
            fields["priority"] = "interactive"
        at_once = number // RUN_JOBS % BATCHES_AT_ONCE
        tenant = TENANTS[at_once % len(TENANTS)]
        if tenant != DEFAULT_TENANT:
            fields["tenant"] = tenant
        yield Piece(
            id=full_name(tenant, f"{kind}-{seed}-{number}"),
            kind=kind,
            batch=full_name(tenant, f"batch-{number // BATCH_JOBS}-{at_once}"),
            body=fields | {"metadata": metadata, "sampling": {"temperature": 0, "max_tokens": 120}},
            mark=mark,
            label=label,
            deadline_in=FAR_SECONDS if source.random() < _DEADLINE_SHARE else None,
            cancel=source.random() < _CANCEL_SHARE,
        )
        number += 1
