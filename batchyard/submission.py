"""From what a caller hands in to what is pushed: jobs checked, encoded once, cut into chunks, counted.

Pure: needs no Redis. What the yard's catalogue allows is handed in.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from batchyard.errors import InvalidConfig, InvalidJob, YardBusy, YardError, shown
from batchyard.job import Job, new_job_id, parse_job
from batchyard.names import AUTO, DEFAULT_TENANT, full_name, tenant_of
from batchyard.signing import signed
from batchyard.tenant import WRONG_TENANT, owned
from batchyard.wire import dumps

OnError = Callable[[int, object, YardError], None]
"""Called with the position of an item in the input, the item, and why it was not accepted."""

CHUNK_BYTES = 4_000_000
"""A chunk is cut before its bodies come to more bytes than this, so that memory and messages stay bounded
however long the prompts are. One job may be larger; it then travels alone."""

MAX_CHUNK = 10_000

MAX_FIELDS_BYTES = 1_048_576
"""What a job's JSON may have beside its text: schema, stop strings, metadata. Everybody who handles the job
holds all of it in memory."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A checked job in the form that travels. `id` and `batch` are full names, see `batchyard.tenant`; `body`
    is its JSON of `size` bytes; `digest` tells bodies apart, the batch left out. `expects` is the model that
    the job is known to go to, empty where the router decides; `deadline` in seconds since the epoch. `index`
    and `item` are the caller's position and item."""

    id: str
    body: str
    size: int
    digest: str
    priority: int
    tenant: str
    batch: str
    expects: str
    deadline: float | None
    images: tuple[str, ...]
    index: int
    item: object


@dataclass(frozen=True, slots=True)
class Refusal:
    """A prepared job that was not accepted, and why."""

    job: Prepared
    error: YardError


@dataclass(frozen=True, slots=True)
class Pushed:
    """What became of one chunk: jobs newly accepted, jobs that were known already, jobs refused; and what is
    left of it because there is no room, with the reason."""

    new: int
    duplicates: int
    refused: tuple[Refusal, ...] = ()
    left: tuple[Prepared, ...] = ()
    busy: YardBusy | None = None


@dataclass(frozen=True, slots=True)
class BatchHandle:
    """What became of `submit_many`: the batch's name, jobs newly accepted, jobs that were known already
    (they stay in the batch they were first submitted in), jobs refused (each was reported to `on_error`)."""

    batch: str
    submitted: int
    duplicates: int
    refused: int


@dataclass(frozen=True, slots=True)
class Known:
    """Names that the yard's catalogue has; empty before the first router published it (no check then)."""

    tasks: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    only_models: Mapping[str, str] = field(default_factory=dict)
    """The one model of each task that has no other."""

    @staticmethod
    def of(catalogue: dict[str, Any] | None) -> "Known":
        """The names in a catalogue document, as the router publishes it."""
        if catalogue is None:
            return Known()
        models_of: dict[str, list[str]] = {}
        for entry in catalogue["model_list"]:
            for task in entry.get("tasks", ()):
                models_of.setdefault(task, []).append(entry["model_name"])
        return Known(
            frozenset(entry["task"] for entry in catalogue["task_list"]),
            frozenset(entry["model_name"] for entry in catalogue["model_list"]),
            {task: models[0] for task, models in models_of.items() if len(models) == 1},
        )

    def model_of(self, job: Job) -> str:
        """The model that a job is known to go to; empty where the router decides."""
        return self.only_models.get(job.task, "") if job.model == AUTO else job.model

    def check(self, job: Job) -> None:
        """Raise InvalidJob (`unknown_task`, `unknown_model`) if the job names what the yard has not."""
        for kind, name, known in (("task", job.task, self.tasks), ("model", job.model, self.models)):
            if known and name != AUTO and name not in known:
                raise InvalidJob(
                    f"no {kind} {shown(name)}; there are {', '.join(sorted(known))}",
                    code=f"unknown_{kind}",
                    field=kind,
                    remedy=f"name one of these or auto, or add it to configs/models.yaml under {kind}_list",
                )


def prepare(
    item: object,
    known: Known,
    max_prompt_bytes: int,
    batch: str | None = None,
    index: int = 0,
    own: str = DEFAULT_TENANT,
    key: bytes | None = None,
) -> Prepared:
    """One job, checked and encoded, under the names by which the yard knows it; signed with `key` if there is
    one.

    A job that names no tenant is `own`'s. With `own` the tenant `default` and no `batch` (a full name) it may
    name any.

    Raises:
        InvalidJob: naming the field, the value and the remedy.
    """
    job = _addressed(parse_job(item, max_prompt_bytes), own, batch)
    known.check(job)
    try:
        fields = job.wire()
        fields.pop("batch", None)
        body = dumps(fields)
        encoded = body.encode("utf-8")
    except (ValueError, RecursionError) as exc:
        raise _unsendable(job, exc) from None
    if len(encoded) > MAX_FIELDS_BYTES:
        _check_fields(fields, len(encoded))
    # The same job in another batch is the same job, so the batch is no part of what is compared.
    digest = hashlib.blake2b(encoded, digest_size=8).hexdigest()
    size = len(encoded)
    if job.batch is not None:
        tail = f',"batch":{dumps(job.batch)}}}'
        body, size = body[:-1] + tail, size - 1 + len(tail)
    if key is not None:
        size -= len(body)
        body = signed(body, key)
        size += len(body)
    return Prepared(
        job.id, body, size, digest, job.priority, job.tenant, job.batch or "", known.model_of(job),
        job.deadline, job.images, index, item,
    )  # fmt: skip


def _addressed(job: Job, own: str, batch: str | None) -> Job:
    """The job with its tenant, and with its id and batch as the yard knows them."""
    tenant = job.tenant if "tenant" in job.model_fields_set else own
    if tenant != own and (batch is not None or own != DEFAULT_TENANT):
        by = f"this client is {own}'s" if batch is None else f"the batch {shown(batch)} is {own}'s"
        raise InvalidJob(
            f"the job is {tenant}'s, and {by}",
            code=WRONG_TENANT,
            field="tenant",
            remedy=f"submit it through a client of {tenant} (BATCHYARD_TENANT), or through one of "
            f"{DEFAULT_TENANT}, alone or in a batch {full_name(tenant, 'NAME')}",
        )
    if batch is None and job.batch is not None:
        batch = owned(tenant, "batch", job.batch)
    settled = {"id": owned(tenant, "id", job.id), "batch": batch, "tenant": tenant}
    if settled == {"id": job.id, "batch": job.batch, "tenant": job.tenant}:
        return job
    return job.model_copy(update=settled)


def _check_fields(fields: dict[str, Any], size: int) -> None:
    text = {name: fields[name] for name in ("prompt", "messages") if name in fields}
    rest = size - len(dumps(text).encode("utf-8"))
    if rest > MAX_FIELDS_BYTES:
        largest = max(fields.keys() - text.keys(), key=lambda name: len(dumps(fields[name])))
        raise InvalidJob(
            f"{rest:,} bytes beside the text, the limit is {MAX_FIELDS_BYTES:,}",
            code="job_too_large",
            field=largest,
            remedy="shorten it, or keep it where you keep the job's id",
        )


def _unsendable(job: Job, exc: Exception) -> InvalidJob:
    """The error for a job that was changed after it was checked into something that is no JSON."""
    culprit = None
    for name in type(job).model_fields:
        try:
            dumps(job.model_dump(mode="json", include={name}, by_alias=True)).encode("utf-8")
        except (ValueError, RecursionError):
            culprit = name
            break
    return InvalidJob(
        f"cannot be written as JSON ({type(exc).__name__})",
        field=culprit,
        remedy="use text, finite numbers, lists and objects only",
    )


class Intake:
    """The jobs of one `submit_many`, all of one tenant: cut into chunks, and counted as they are pushed.

    With `on_error` a bad job is reported and the others go on. Without it, `strict`, the jobs before the
    first bad one are pushed and then its error is raised.
    """

    def __init__(
        self,
        items: Iterable[object],
        batch: str,
        known: Known,
        max_prompt_bytes: int,
        size: int,
        on_error: OnError | None,
        key: bytes | None = None,
    ) -> None:
        if not isinstance(size, int) or not 1 <= size <= MAX_CHUNK:
            raise InvalidConfig(
                f"must be from 1 to {MAX_CHUNK:,}, got {shown(size)}",
                field="chunk_size",
                remedy="leave it out for BATCHYARD_CHUNK_SIZE",
            )
        self._items = items
        self._batch = batch
        self._tenant = tenant_of(batch)
        self._known = known
        self._max_prompt_bytes = max_prompt_bytes
        self._size = size
        self._on_error = on_error
        self._key = key
        self.strict = on_error is None
        self._new = self._duplicates = self._refused = 0

    def chunks(self) -> Iterator[list[Prepared]]:
        """The jobs, prepared, in chunks of bounded count and size; one at a time is held in memory.

        Raises:
            InvalidJob: if strict, after what stands before the bad job was yielded.
        """
        chunk: list[Prepared] = []
        size = 0
        for index, item in enumerate(self._items):
            try:
                job = prepare(
                    item, self._known, self._max_prompt_bytes, self._batch, index,
                    own=self._tenant, key=self._key,
                )  # fmt: skip
            except YardError as exc:
                if self.strict and chunk:
                    yield chunk
                self._refuse(index, item, exc)
                continue
            if chunk and (len(chunk) >= self._size or size + job.size > CHUNK_BYTES):
                yield chunk
                chunk, size = [], 0
            chunk.append(job)
            size += job.size
        if chunk:
            yield chunk

    def add(self, pushed: Pushed) -> None:
        """Count what became of a chunk and report what was refused.

        Raises:
            InvalidJob, IdConflict: if strict and something was refused.
        """
        self._new += pushed.new
        self._duplicates += pushed.duplicates
        for refusal in pushed.refused:
            self._refuse(refusal.job.index, refusal.job.item, refusal.error)

    def _refuse(self, index: int, item: object, error: YardError) -> None:
        if self._on_error is None:
            error.add_note(f"item {index} of the input; those before it were submitted")
            raise error
        self._refused += 1
        self._on_error(index, item, error)

    def handle(self) -> BatchHandle:
        """What has become of all of it."""
        return BatchHandle(self._batch, self._new, self._duplicates, self._refused)


def batch_name(batch: str | None, own: str = DEFAULT_TENANT) -> str:
    """The full name of a batch that a client of the tenant `own` submits: of the name given, or a new one.

    Raises:
        InvalidJob: it is no name, or another tenant's.
    """
    name = new_job_id() if batch is None else parse_job({"batch": batch, "prompt": "-"}).batch or ""
    return owned(tenant_of(name) if own == DEFAULT_TENANT else own, "batch", name)
