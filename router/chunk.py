"""One chunk of job bodies from the route queue: decided, and made ready to publish. Pure: no Redis, no clock.

A body that is at fault ends its own job and no other.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from batchyard import names, store
from batchyard.dead import poison
from batchyard.errors import InvalidJob, JobExpired, RouteFailed, YardError
from batchyard.job import FullName, Job, parse_job
from batchyard.route import Route
from batchyard.states import State
from batchyard.store import Publication
from batchyard.wire import task_message
from router.classifier import Classifier
from router.decide import Guess, Yard, check_names, decide, matching_rule, needs_guess
from router.gate import ForeignJob, Gate, check_tenant
from router.policy import Rule

_NAME: TypeAdapter[str] = TypeAdapter(FullName)


@dataclass(frozen=True, slots=True)
class Decided:
    """A job with its route, and the body it came in, which travels on as it is."""

    job: Job
    body: dict[str, Any]
    route: Route


@dataclass(frozen=True, slots=True)
class Refused:
    """A job that ends here. `job_id` is None where the body has none under which its tenant could ask."""

    job_id: str | None
    batch: str
    error: YardError

    @property
    def state(self) -> State:
        """The state in which the job ends."""
        return State.REVOKED if isinstance(self.error, JobExpired) else State.FAILURE

    def final(self) -> tuple[str, str, State, str] | None:
        """What `store.finish` takes for this job; None if there is no id."""
        if self.job_id is None:
            return None
        document = store.failure_document(self.job_id, self.state, self.error)
        # A lone surrogate (from a field's name) cannot be sent; escaped it is the same JSON string.
        return self.job_id, self.batch, self.state, document.encode("utf-8", "backslashreplace").decode()


@dataclass(frozen=True, slots=True)
class _Pending:
    """A job that was read, with the rule it matches."""

    job: Job
    body: dict[str, Any]
    rule: Rule | None


def decide_chunk(
    bodies: Sequence[object],
    yard: Yard,
    classifier: Classifier | None,
    now: float,
    max_prompt_bytes: int,
    gate: Gate,
) -> tuple[list[Decided], list[Refused]]:
    """Decide every job of a chunk that its gate admits; texts that need it are classified together. `now` in
    epoch seconds."""
    decided: list[Decided] = []
    refused: list[Refused] = []
    pending: list[_Pending] = []
    for body in bodies:
        try:
            pending.append(_read(body, yard, now, max_prompt_bytes, gate))
        except ForeignJob as exc:
            refused.append(Refused(None, "", exc))
        except YardError as exc:
            refused.append(_refused(body, exc))
    guesses = _guesses(pending, classifier)
    for item, guess in zip(pending, guesses, strict=True):
        try:
            decided.append(Decided(item.job, item.body, decide(item.job, item.rule, guess, yard)))
        except YardError as exc:
            refused.append(_refused(item.body, exc))
    return decided, refused


def publications(
    decided: Sequence[Decided], submitted: float, now: float, seconds: float
) -> tuple[list[Publication], list[Refused]]:
    """The message and the state document of every decided job, and the jobs no message can be made of.

    Args: `submitted` and `now` in epoch seconds; `seconds` the router spent on each job.
    """
    ready: list[Publication] = []
    refused: list[Refused] = []
    times = {"seconds": round(seconds, 6), "queued_s": round(max(0.0, now - submitted), 3)}
    for item in decided:
        try:
            ready.append(_publication(item, submitted, now, times))
        except (ValueError, OverflowError, OSError, RecursionError) as exc:
            reason = f"no message can be made of it: {type(exc).__name__}: {exc}"
            error = InvalidJob(reason, field=_field(item.job, exc), remedy="correct the value")
            refused.append(_refused(item.body, error))
    return ready, refused


def failed(body: object, exc: Exception) -> Refused:
    """The end of a job over which the router itself stumbled."""
    message = f"the router failed on this job: {type(exc).__name__}"
    return _refused(body, RouteFailed(message, remedy="report it; the router's log has the details"))


def poisoned(body: object, reason: str, gate: Gate) -> Refused:
    """The end of a job that routers die of. One that the gate does not admit ends as it says: it is kept for
    nobody to try again."""
    try:
        if isinstance(body, dict):
            gate.admit(body)
    except ForeignJob as exc:
        return Refused(None, "", exc)
    except InvalidJob as exc:
        return _refused(body, exc)
    return _refused(body, poison(reason))


def chunk_of_one(job_id: str, body: object, submitted: float) -> str:
    """The router message of one job alone, whatever is in its body, which keeps its signature; `submitted` in
    epoch seconds."""
    wanted = body.get("priority") if isinstance(body, dict) else None
    priority = wanted if wanted in names.PRIORITY_STEPS else names.PRIORITY_STEPS[-1]
    # escaped, so that a lone surrogate can be sent; and NaN is no reason to keep nothing
    arguments = json.dumps({"jobs": [body], "submitted": submitted})
    return task_message(
        names.ROUTE_TASK, f"route-{job_id}-1", arguments, names.ROUTE_QUEUE, priority, ignore_result=True
    )


def _read(body: object, yard: Yard, now: float, max_prompt_bytes: int, gate: Gate) -> _Pending:
    if not isinstance(body, dict):
        raise InvalidJob(f"a job is an object, not {type(body).__name__}", remedy="submit through the client")
    if "id" not in body:
        raise InvalidJob("has no id", field="id", remedy="submit through the client, which gives it one")
    admitted = gate.admit(body)
    job = parse_job(admitted, max_prompt_bytes)
    check_tenant(job)
    check_names(job, yard.catalogue)
    if job.deadline is not None and job.deadline <= now:
        raise JobExpired(
            f"the deadline passed {now - job.deadline:.1f} s before the job was routed",
            field="deadline",
            remedy="give it more time, or a higher priority",
        )
    return _Pending(job, admitted, matching_rule(job, yard.policy))


def _guesses(pending: Sequence[_Pending], classifier: Classifier | None) -> list[Guess | None]:
    """The classifier's best class for each job whose task only it can tell."""
    guesses: list[Guess | None] = [None] * len(pending)
    asked = [i for i, item in enumerate(pending) if needs_guess(item.job, item.rule)]
    if classifier is None or not asked:
        return guesses
    probabilities = classifier.probabilities([pending[i].job.text for i in asked])
    best = probabilities.argmax(axis=1)
    for i, row, column, scope in zip(
        asked, probabilities, best, classifier.scope(probabilities), strict=True
    ):
        guesses[i] = Guess(classifier.classes[column], float(row[column]), float(scope))
    return guesses


def _publication(item: Decided, submitted: float, now: float, times: dict[str, float]) -> Publication:
    job = item.job
    route = item.route.model_dump(exclude_defaults=True) | times
    queue = names.model_queue(item.route.model)
    message = task_message(
        names.RUN_TASK,
        job.id,
        {"job": item.body, "route": route},
        queue,
        job.priority,
        expires=job.deadline,
        time_limit=job.time_limit,
        headers={
            "batch": job.batch or "",
            "submitted": submitted,
            "routed": now,
            "max_retries": job.max_retries,
        },
    )
    message.encode()  # a lone surrogate fails here, for this job alone, and not in the send of the chunk
    state = store.state_document(job.id, State.ROUTED, route)
    return Publication(job.id, queue, job.priority, job.tenant, job.batch or "", message, state)


def _field(job: Job, exc: Exception) -> str | None:
    if isinstance(exc, OverflowError | OSError) or "year" in str(exc):
        return "deadline"
    return "metadata" if job.metadata else None


def _refused(body: object, error: YardError) -> Refused:
    fields = body if isinstance(body, dict) else {}
    tenant = fields.get("tenant", names.DEFAULT_TENANT)
    return Refused(_name(fields.get("id"), tenant), _name(fields.get("batch"), tenant) or "", error)


def _name(value: object, tenant: object) -> str | None:
    """`value` if it is a name of the tenant: nobody ends another's job, nor counts in another's batch."""
    try:
        name = _NAME.validate_python(value, strict=True)
    except ValidationError:
        return None
    return name if names.tenant_of(name) == tenant else None
