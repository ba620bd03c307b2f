"""The job: one unit of work, frozen. It knows no queue, no store and no app."""

import difflib
import os
import time
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StrictBool,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from batchyard.errors import InvalidJob, shown
from batchyard.jsonvalue import json_fault, printable
from batchyard.names import AUTO, DEFAULT_TENANT
from batchyard.output import Output
from batchyard.sampling import Finite, Sampling, Whole
from batchyard.tenant import TenantName

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:/@+-]{0,127}$")]
"""What tasks and models may be called."""

FullName = Annotated[
    str, Field(pattern=r"^(?:[A-Za-z0-9][A-Za-z0-9_.-]{0,63}~)?[A-Za-z0-9][A-Za-z0-9_.:/@+-]{0,127}$")
]
"""What ids and batches may be called: a name, behind `tenant~` where it is not the default tenant's."""

MAX_IMAGES = 100

PRIORITIES = {"interactive": 0, "batch": 6}
"""Named priorities on Celery's Redis scale: 0 goes first, 9 last."""

_PRIORITY_SCHEMA = {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 9}, {"enum": list(PRIORITIES)}]}


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TextPart(_Frozen):
    """Text within a message."""

    type: Literal["text"]
    text: str


class ImagePart(_Frozen):
    """An image within a message, by the SHA-256 of its bytes; the bytes travel once (`Client.attach`)."""

    type: Literal["image"]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class Message(_Frozen):
    """One chat message, as in OpenAI's API: `content` is text or a list of parts."""

    role: Literal["system", "user", "assistant"]
    content: str | Annotated[tuple[Part, ...], Field(max_length=1000)]

    @property
    def text(self) -> str:
        """The text of the message, without its images."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content if isinstance(part, TextPart))

    @property
    def images(self) -> tuple[str, ...]:
        """The hashes of the images of the message, in order."""
        if isinstance(self.content, str):
            return ()
        return tuple(part.sha256 for part in self.content if isinstance(part, ImagePart))


_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def new_job_id() -> str:
    """A new id of 26 characters that sorts by time of creation (48 bits of milliseconds, 80 random)."""
    number = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))


class Job(_Frozen):
    """One unit of work.

    Exactly one of `prompt` (a user's text, or with `raw` the whole prompt as the model sees it) and
    `messages` is given. `id` is new, or the caller's idempotency key: the same id with the same body is
    the same job. `deadline` is in seconds since the epoch; `time_limit` in seconds of running. `tenant` is
    the client's (`BATCHYARD_TENANT`) where it is left out.
    """

    id: FullName = Field(default_factory=new_job_id)
    task: Name = AUTO
    model: Name = AUTO
    prompt: str | None = None
    raw: StrictBool = False
    messages: Annotated[tuple[Message, ...], Field(min_length=1, max_length=1000)] | None = None
    sampling: Sampling = Sampling()
    output: Output | None = None
    priority: Annotated[Whole, Field(ge=0, le=9), WithJsonSchema(_PRIORITY_SCHEMA)] = PRIORITIES["batch"]
    # from 2001, so that a number of seconds from now is no deadline, to the year 10000
    deadline: Annotated[Finite, Field(ge=1_000_000_000, lt=253_402_300_800)] | None = None
    time_limit: Annotated[Finite, Field(gt=0)] | None = None
    max_retries: Annotated[Whole, Field(ge=0, le=100)] = 3
    batch: FullName | None = None
    tenant: TenantName = DEFAULT_TENANT
    metadata: dict[str, JsonValue] = {}

    @field_validator("priority", mode="before")
    @classmethod
    def _named_priority(cls, value: object) -> object:
        if isinstance(value, str) and value in PRIORITIES:
            return PRIORITIES[value]
        return value

    @model_validator(mode="after")
    def _one_prompt(self) -> "Job":
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give exactly one of prompt and messages")
        if self.messages is not None and self.raw:
            raise ValueError("raw goes with prompt, not with messages")
        if not self.text.strip() and not self.images:
            raise ValueError("the prompt is empty")
        return self

    @property
    def text(self) -> str:
        """All the text that a user gave, for classification and limits (system messages left out)."""
        if self.prompt is not None:
            return self.prompt
        return "\n".join(message.text for message in self.messages or () if message.role != "system")

    @property
    def images(self) -> tuple[str, ...]:
        """Hashes of all images of the job, in order."""
        return tuple(sha for message in self.messages or () for sha in message.images)

    def wire(self) -> dict[str, Any]:
        """The job as the JSON object that travels: what differs from the defaults, and the id."""
        body = self.model_dump(mode="json", exclude_defaults=True, by_alias=True)
        body["id"] = self.id
        return body


def parse_job(data: object, max_prompt_bytes: int = 1_048_576) -> Job:
    """The job that `data` (a Job or a mapping of its fields) describes.

    Raises:
        InvalidJob: naming the field, the value and the remedy.
    """
    if isinstance(data, Job):
        _check_values(vars(data))
        job = data
    else:
        if not isinstance(data, dict):
            raise InvalidJob(
                f"a job is a mapping of its fields, not {type(data).__name__}",
                remedy='such as {"prompt": "…"}',
            )
        _check_values(data)
        try:
            job = Job.model_validate(data)
        except ValidationError as exc:
            raise _invalid(exc) from None
    _check_text(job, max_prompt_bytes)
    _check_images(job)
    return job


def _check_values(fields: dict[Any, Any]) -> None:
    """Refuse what cannot travel as JSON, before pydantic or a message about it recurses into it."""
    for name, value in fields.items():
        if value is None or (name == "prompt" and isinstance(value, str)):  # _check_text looks at the prompt
            continue
        fault = json_fault(name) or json_fault(value)
        if fault is not None:
            field = printable(".".join((str(name), *fault.path)), _LONGEST_FIELD)
            raise InvalidJob(fault.message, code=fault.code, field=field, remedy=fault.remedy)


def _check_text(job: Job, max_prompt_bytes: int) -> None:
    field = "prompt" if job.prompt is not None else "messages"
    text = job.text if job.prompt is not None else "\n".join(m.text for m in job.messages or ())
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError as exc:
        raise InvalidJob(
            f"not valid Unicode at character {exc.start}: {shown(text[exc.start : exc.start + 1])}",
            code="invalid_utf8",
            field=field,
            remedy="decode the bytes with the encoding they were written in before submitting",
        ) from None
    if size > max_prompt_bytes:
        raise InvalidJob(
            f"{size:,} bytes of text, the limit is {max_prompt_bytes:,}",
            code="prompt_too_large",
            field=field,
            remedy="split the document, or raise BATCHYARD_MAX_PROMPT_BYTES",
        )
    if "\x00" in text:
        raise InvalidJob(
            "contains a NUL character",
            code="invalid_utf8",
            field=field,
            remedy="remove \\x00 from the text; is it binary data?",
        )


def _check_images(job: Job) -> None:
    if len(job.images) > MAX_IMAGES:
        raise InvalidJob(
            f"{len(job.images):,} images, the limit is {MAX_IMAGES}",
            field="messages",
            remedy="make several jobs of it",
        )


_LONGEST_FIELD = 200

_REMEDIES = {
    "string_pattern_mismatch": "use letters, digits and _.:/@+- (128 at most, a letter or digit first)",
    "missing": "give it a value",
    "finite_number": "give a finite number",
    "string_unicode": "decode the bytes with the encoding they were written in before submitting",
    "union_tag_invalid": "use text or image; no address or path in a job is ever opened: attach the image's "
    "bytes, and name them by their hash",
}


_FIELD_REMEDIES = {
    "priority": "interactive, batch, or a number from 0 (goes first) to 9 (goes last)",
    "deadline": "seconds since the epoch, such as time.time() + 60",
    "time_limit": "seconds of running, more than 0",
    "output": 'such as {"type": "text"} or {"type": "choices", "choices": ["a", "b"]}',
}


def _remedy(kind: str, loc: list[str]) -> str:
    """What the reader can do about a fault of pydantic's `kind` at `loc`."""
    field = loc[0] if loc else ""
    if kind == "extra_forbidden":
        if len(loc) == 1 and field in Sampling.model_fields:
            return f"put it under sampling: {{'{field}': …}}"
        known = [*Job.model_fields] if len(loc) == 1 else [*Sampling.model_fields]
        close = difflib.get_close_matches(loc[-1][:40], known, n=1)
        return f"did you mean {close[0]}?" if close else "remove it, or put it under metadata"
    if kind == "string_pattern_mismatch" and loc == ["tenant"]:
        return "use letters, digits and _.- (64 at most, a letter or digit first)"
    if loc and loc[-1] == "sha256":
        return "attach the image's bytes: sha256 = client.attach(data); no address or path is ever opened"
    if kind in _REMEDIES:
        return _REMEDIES[kind]
    if len(loc) == 1 and field in _FIELD_REMEDIES:
        return _FIELD_REMEDIES[field]
    return "see the fields of a job: batchyard schema job"


def _invalid(exc: ValidationError) -> InvalidJob:
    """Our error for the first fault pydantic found, with the value as the caller wrote it."""
    faults = exc.errors(include_url=False, include_context=False)
    # a list is no text; what is said about it as a list helps more
    as_list = (one for one in faults if one["type"] != "string_type" or not isinstance(one["input"], list))
    first = next(as_list, faults[0])
    branches = {"text", "image", "json_schema", "grammar", "choices", "embedding", "str"}
    loc = [str(part) for part in first["loc"] if not str(part).startswith("tuple[")]
    field = ".".join(
        part for i, part in enumerate(loc) if i == 0 or not (part in branches and i + 1 < len(loc))
    )
    message = first["msg"].removeprefix("Value error, ")
    if "prompt is empty" in message or "exactly one of" in message:
        field = field or "prompt"
        remedy = "put the text to work on into prompt or messages"
    else:
        remedy = _remedy(first["type"], loc)
        if not isinstance(first["input"], dict) or first["type"] == "extra_forbidden":
            message = f"{message}, got {shown(first['input'])}"
    return InvalidJob(
        printable(message), field=printable(field, _LONGEST_FIELD) or None, remedy=printable(remedy)
    )
