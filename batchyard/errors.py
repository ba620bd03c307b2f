"""The errors of the yard, in the order in which a job meets them.

    caller ──InvalidJob──► client ──YardUnavailable──► Redis ──RouteFailed──► router
           ◄─ResultTimeout─       ◄────YardBusy──────                          │
                                      JobFailed / JobCancelled / JobExpired ◄── worker

Each says which field and value is at fault, what to do about it, and whether trying again can
help.  Every argument is plain text so that Celery's JSON result of a failed task rebuilds the same
error at the caller (`cls(*args)`).
"""

from typing import Any

_SHOWN = 80


def shown(value: object) -> str:
    """A value as it appears in a message: its repr, cut to 80 characters."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}… ({len(text)} characters)"


class YardError(Exception):
    """Base of all our errors.

    Args: message; `code` (a stable snake_case word, what programs should test); `field` (dotted
    path into the job, or None); `remedy` (what the reader can do); `retryable` (whether the same
    request may succeed later, unchanged).
    """

    code = "yard_error"
    retryable = False

    def __init__(
        self,
        message: str,
        code: str | None = None,
        field: str | None = None,
        remedy: str | None = None,
        retryable: bool | None = None,
    ) -> None:
        self.message = message
        self.code = code or type(self).code
        self.field = field
        self.remedy = remedy
        self.retryable = type(self).retryable if retryable is None else retryable
        super().__init__(message, self.code, field, remedy, self.retryable)

    def __str__(self) -> str:
        where = f"{self.field}: " if self.field else ""
        remedy = f" — {self.remedy}" if self.remedy else ""
        return f"[{self.code}] {where}{self.message}{remedy}"

    def as_dict(self) -> dict[str, Any]:
        """The error as a JSON object with the keys message, code, field, remedy, retryable."""
        return {
            "message": self.message,
            "code": self.code,
            "field": self.field,
            "remedy": self.remedy,
            "retryable": self.retryable,
        }


class InvalidJob(YardError):
    """The job itself is at fault; nothing was accepted. Raised at submit."""

    code = "invalid_job"


class IdConflict(InvalidJob):
    """A job id was used before with a different body."""

    code = "id_conflict"


class InvalidConfig(YardError):
    """A settings, catalogue or routing file is at fault. Raised when it is read."""

    code = "invalid_config"


class YardUnavailable(YardError):
    """Redis could not be reached or refused. Submitting again under the same ids is safe."""

    code = "yard_unavailable"
    retryable = True


class YardBusy(YardUnavailable):
    """The yard takes no more jobs for now: code `too_many_jobs` (a tenant's or a model's limit) or
    `yard_full` (Redis's memory). `retry_after` is in seconds."""

    code = "too_many_jobs"

    def __init__(
        self,
        message: str,
        code: str | None = None,
        field: str | None = None,
        remedy: str | None = None,
        retryable: bool | None = None,
        retry_after: float = 1.0,
    ) -> None:
        super().__init__(message, code, field, remedy, retryable)
        self.retry_after = retry_after
        self.args = (*self.args, retry_after)

    def as_dict(self) -> dict[str, Any]:
        """The error as a JSON object; its keys are those of others and retry_after."""
        return super().as_dict() | {"retry_after": self.retry_after}


class UnknownJob(YardError):
    """No job of this id is known: never submitted, or its result has expired."""

    code = "unknown_job"


class ResultTimeout(YardError):
    """The caller stopped waiting. The job goes on."""

    code = "result_timeout"
    retryable = True


class RouteFailed(YardError):
    """The router found no model for the job."""

    code = "route_failed"


class JobFailed(YardError):
    """The worker could not do the job; `code` names the reason (e.g. `prompt_too_long`)."""

    code = "job_failed"


class JobCancelled(YardError):
    """The job was cancelled (revoked) before it had a result."""

    code = "cancelled"


class JobExpired(YardError):
    """The job's deadline passed before it had a result."""

    code = "deadline_exceeded"


class EngineLost(YardError):
    """The engine process died under the job. The job may be tried again."""

    code = "engine_lost"
    retryable = True


def error_of(code: str, message: str, **rest: Any) -> YardError:
    """The error for a code of the engine: of the class that has it as its own, else `JobFailed`."""
    for cls in (JobCancelled, JobExpired, EngineLost):
        if cls.code == code:
            return cls(message, code, **rest)
    return JobFailed(message, code, **rest)


def error_named(name: str) -> type[YardError]:
    """The class of that name; `JobFailed` for any other."""
    found = globals().get(name)
    return found if isinstance(found, type) and issubclass(found, YardError) else JobFailed
