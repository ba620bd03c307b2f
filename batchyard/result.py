"""The result of a job: what the store keeps and what a caller gets."""

from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue

from batchyard.errors import YardError, error_named
from batchyard.route import Route
from batchyard.states import State
from batchyard.vector import Vector


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Usage(_Frozen):
    """Tokens: of the prompt, of it taken from a shared prefix, and generated."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0


class Timings(_Frozen):
    """Seconds: waiting for the router, being routed, in the model's queue, waiting for a slot, prompt,
    generation; and from submission to result. `mean_batch` is the mean number of sequences that shared
    a step with this one."""

    queue_s: float = 0.0
    route_s: float = 0.0
    broker_s: float = 0.0
    wait_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    total_s: float = 0.0
    mean_batch: float = 0.0
    steps: int = 0


class Confidence(_Frozen):
    """Of the probabilities of the tokens that the model chose freely: the least, the mean, the 10 % quantile.

    Under a schema only tokens within values count, neither structure nor what the schema forces; for choices
    it is the winner's probability. `first_margin` is the lead of the best over the second best, of the tokens
    where the first value begins or of the labels. All from 0 to 1.
    """

    min: float
    mean: float
    q10: float
    first_margin: float | None = None


class Provenance(_Frozen):
    """What made the answer, for whoever asks months later.

    Empty: what the engine cannot know. `engine` names the library where it is not llama.cpp; behind an
    endpoint, `endpoint` is its host, `endpoint_model` and `system_fingerprint` are as it answered.
    """

    model_sha256: str
    quantisation: str
    llama_build: str
    prompt_sha256: str
    mmproj_sha256: str | None = None
    policy: str = ""
    seed: int | None = None
    worker: str = ""
    gpu: str | None = None
    engine: str | None = None
    endpoint: str | None = None
    endpoint_model: str | None = None
    system_fingerprint: str | None = None


class ErrorInfo(_Frozen):
    """The error of a job that failed. `kind` is the class of its exception, one of `batchyard.errors`."""

    kind: str = "JobFailed"
    code: str
    message: str
    field: str | None = None
    remedy: str | None = None
    retryable: bool = False

    def exception(self) -> YardError:
        """The error as an exception."""
        return error_named(self.kind)(self.message, self.code, self.field, self.remedy, self.retryable)


class Result(_Frozen):
    """The one result of a job. `state` is SUCCESS, FAILURE or REVOKED; `error` is set unless SUCCESS.

    `choice_logprobs` are what the model itself gives each label, Σ log p of its tokens, before prior, length
    and temperature: their exponentials add up to the share of the model's belief that is in any label at all.
    `embedding` is a list of floats here and base64 of float32 in JSON, see `batchyard.vector`.
    """

    job_id: str
    state: State
    text: str | None = None
    parsed: JsonValue = None
    choice: str | None = None
    choice_probabilities: dict[str, float] | None = None
    choice_logprobs: dict[str, float] | None = None
    embedding: Vector | None = None
    finish_reason: str | None = None
    usage: Usage = Usage()
    timings: Timings = Timings()
    confidence: Confidence | None = None
    logprobs: list[dict[str, Any]] | None = None
    route: Route | None = None
    provenance: Provenance | None = None
    attempt: int = 1
    error: ErrorInfo | None = None
    metadata: dict[str, JsonValue] = {}

    @property
    def ok(self) -> bool:
        """Whether the job succeeded."""
        return self.state is State.SUCCESS

    def value(self) -> "Result":
        """This result if it is a success; else its error is raised."""
        if self.error is not None:
            raise self.error.exception()
        return self
