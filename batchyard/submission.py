"""From what a caller hands in to what is pushed: jobs checked, encoded once, cut into chunks.

Pure: needs no Redis. What the yard's catalogue allows is handed in.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from batchyard.errors import IdConflict, InvalidJob, YardError, shown
from batchyard.job import Job, new_job_id, parse_job
from batchyard.names import AUTO
from batchyard.wire import dumps

OnError = Callable[[int, object, YardError], None]
"""Called with the position of an item in the input, the item, and why it was not accepted."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A checked job in the form that travels. `body` is its JSON, `digest` tells bodies apart."""

    id: str
    body: str
    digest: str
    priority: int
    batch: str
    images: tuple[str, ...]
    index: int


@dataclass(frozen=True, slots=True)
class Known:
    """Names that the yard's catalogue has; empty before the first router published it (no check then)."""

    tasks: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()

    @staticmethod
    def of(catalogue: dict[str, Any] | None) -> "Known":
        """The names in a catalogue document, as the router publishes it."""
        if catalogue is None:
            return Known()
        return Known(
            frozenset(entry["task"] for entry in catalogue["task_list"]),
            frozenset(entry["model_name"] for entry in catalogue["model_list"]),
        )

    def check(self, job: Job) -> None:
        """Raise InvalidJob (`unknown_task`, `unknown_model`) if the job names what the yard has not."""
        for field, name, known in (("task", job.task, self.tasks), ("model", job.model, self.models)):
            if known and name != AUTO and name not in known:
                raise InvalidJob(
                    f"no {field} {shown(name)}; there are {', '.join(sorted(known))}",
                    code=f"unknown_{field}",
                    field=field,
                    remedy=f"name one of these or auto, or add it to configs/models.yaml under {field}_list",
                )


def prepare(
    item: object, known: Known, max_prompt_bytes: int, batch: str | None = None, index: int = 0
) -> Prepared:
    """One job, checked and encoded.

    Raises:
        InvalidJob: naming the field, the value and the remedy.
    """
    job = parse_job(item, max_prompt_bytes)
    if batch is not None and job.batch != batch:
        job = job.model_copy(update={"batch": batch})
    known.check(job)
    try:
        body = dumps(job.wire())
    except ValueError as exc:
        raise InvalidJob(
            f"cannot be written as JSON: {exc}", field="metadata", remedy="use finite numbers only"
        ) from exc
    digest = hashlib.blake2b(body.encode(), digest_size=8).hexdigest()
    return Prepared(job.id, body, digest, job.priority, job.batch or "", job.images, index)


def chunks(
    items: Iterable[object],
    size: int,
    prepare_one: Callable[[int, object], Prepared],
    on_error: OnError | None,
) -> Iterator[list[Prepared]]:
    """Prepared jobs, `size` at a time and of one batch each; at most one chunk is held in memory.

    A bad item goes to `on_error` and the others go on. Without `on_error` the jobs before it are yielded
    and then its error is raised.
    """
    chunk: list[Prepared] = []
    for index, item in enumerate(items):
        try:
            job = prepare_one(index, item)
        except YardError as exc:
            if on_error is None:
                if chunk:
                    yield chunk
                exc.add_note(f"item {index} of the input; those before it were submitted")
                raise
            on_error(index, item, exc)
            continue
        if chunk and (len(chunk) >= size or chunk[0].batch != job.batch):
            yield chunk
            chunk = []
        chunk.append(job)
    if chunk:
        yield chunk


def id_conflict(job_id: str) -> YardError:
    """The error for an id that was used with another body."""
    return IdConflict(
        f"{shown(job_id)} was submitted before with a different body",
        field="id",
        remedy="use a new id, or submit the same body again",
    )


def image_missing(sha256: str) -> InvalidJob:
    """The error for an image that was never attached."""
    return InvalidJob(
        f"no image {sha256[:12]}… in the yard",
        code="image_missing",
        field="messages",
        remedy="attach its bytes first: sha256 = client.attach(data)",
    )


def without_missing(chunk: list[Prepared], missing: set[str], report: OnError) -> list[Prepared]:
    """The jobs whose images are all there; each other one is reported."""
    for job in chunk:
        gone = [sha for sha in job.images if sha in missing]
        if gone:
            report(job.index, job.id, image_missing(gone[0]))
    return [job for job in chunk if not missing.intersection(job.images)]


def without_conflicts(chunk: list[Prepared], positions: Iterable[int], report: OnError) -> list[Prepared]:
    """The jobs that do not stand at one of `positions`; each other one is reported as a conflict."""
    clash = set(positions)
    for position in sorted(clash):
        report(chunk[position].index, chunk[position].id, id_conflict(chunk[position].id))
    return [job for position, job in enumerate(chunk) if position not in clash]


def batch_name(batch: str | None) -> str:
    """The name of a batch: the one given, checked, or a new one.

    Raises:
        InvalidJob: it is no name.
    """
    if batch is None:
        return new_job_id()
    return parse_job({"batch": batch, "prompt": "-"}).batch or ""
