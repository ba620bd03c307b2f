"""What every entry of the catalogue has, and the entries of models that llama.cpp does not run.

It knows no file and no engine.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from batchyard.job import Name
from batchyard.yaml_file import ENV_PREFIX

DEFAULT_PROVIDERS = ("CPUExecutionProvider",)
"""Execution providers where neither entry nor profile names any."""
_ON_NVIDIA = frozenset(
    {"CUDAExecutionProvider", "TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider"}
)


def _no_truth(value: object) -> object:
    """YAML reads yes, on and true as a truth value, which pydantic would take for 1."""
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


Whole = Annotated[int, BeforeValidator(_no_truth), Field(le=2**31 - 1)]
"""A whole number as llama.cpp's own settings hold it."""
Finite = Annotated[float, BeforeValidator(_no_truth), Field(allow_inf_nan=False)]
Share = Annotated[Finite, Field(gt=0, lt=1)]
Size = Annotated[int, BeforeValidator(_no_truth), Field(ge=0, le=2**63 - 1)]
Bytes = Annotated[Size, Field(ge=1 << 20)]
Dialect = Literal["openai", "compatible", "vllm", "llama_cpp", "llama_cpp_python", "text_generation_webui"]


def on_nvidia(providers: Iterable[str]) -> bool:
    """Whether one of these execution providers of ONNX Runtime runs on an NVIDIA GPU."""
    return not _ON_NVIDIA.isdisjoint(providers)


def twice(names: Iterable[str]) -> str | None:
    """The first name that is there more than once."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


class Entry(BaseModel):
    """Anything in the catalogue."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ServedModel(Entry):
    """A model, served by one queue (`model.<model_name>`)."""

    model_name: Annotated[Name, Field(description="Name of the model, and of its queue model.<name>.")]
    tasks: Annotated[tuple[Name, ...], Field(description="Tasks that this model may be given.")] = ()
    n_slots: Annotated[
        Whole, Field(ge=1, le=200, description="Jobs that run at once: slots of the engine.")
    ] = 16
    max_queued: Annotated[
        Whole,
        Field(
            ge=1,
            description="Jobs that may wait for it; more are refused at submit (too_many_jobs). One takes "
            "about 2.75 kB of Redis's memory.",
        ),
    ] = 1_000_000

    @property
    def wants_gpu(self) -> bool:
        """Whether its worker is to be pinned to a GPU where there is one."""
        return False


class TenantEntry(Entry):
    """What a tenant may have."""

    tenant: Annotated[
        str,
        Field(
            pattern=r"^(\*|[A-Za-z0-9][A-Za-z0-9_.-]{0,63})$",
            description="Name of the tenant, as in Job.tenant; * is each that has no entry of its own.",
        ),
    ]
    max_open: Annotated[
        Whole,
        Field(
            ge=0,
            description="Jobs without a result that it may have; more are refused at submit (too_many_jobs).",
        ),
    ]


class OpenaiEntry(ServedModel):
    """A model behind an OpenAI-compatible endpoint: a cloud, vLLM, llama.cpp's server, …"""

    engine: Annotated[Literal["openai"], Field(description="An OpenAI-compatible endpoint.")]
    api_base: Annotated[
        str, Field(description="URL of the endpoint, up to and with its version: https://host/v1.")
    ]
    api_key: Annotated[
        str | None,
        Field(
            pattern=r"^os\.environ/[A-Za-z_][A-Za-z0-9_]*$",
            description="os.environ/NAME: only this model's worker reads it, or the file that NAME_FILE "
            "names; null for none.",
        ),
    ] = None
    model: Annotated[str, Field(min_length=1, description="The endpoint's own name of the model.")]
    check_model: Annotated[
        bool,
        Field(
            description="Refuse to start where the endpoint's list of models lacks it; false where that list "
            "has other names, such as those of deployments."
        ),
    ] = True
    dialect: Annotated[
        Dialect,
        Field(description="How the endpoint spells what differs between them; see docs/engine.md."),
    ] = "compatible"
    timeout: Annotated[
        Finite,
        Field(gt=0, le=3600, description="Seconds one request may take; a job's deadline may be sooner."),
    ] = 60.0
    connect_timeout: Annotated[
        Finite, Field(gt=0, le=600, description="Seconds until the connection must stand.")
    ] = 5.0
    max_retries: Annotated[
        Whole, Field(ge=0, le=20, description="Further attempts before a job is given back to the queue.")
    ] = 2
    logprobs: Annotated[
        bool, Field(description="Ask for log-probabilities, for confidence and choices; false where refused.")
    ] = True
    images: Annotated[bool, Field(description="The model sees images; they go to it as data URLs.")] = False
    drop_params: Annotated[
        tuple[Literal["temperature", "top_p", "presence_penalty", "frequency_penalty", "seed", "stop"], ...],
        Field(description="Sampling options never sent, where the endpoint refuses them."),
    ] = ()
    allowed_fails: Annotated[
        Whole,
        Field(ge=1, le=1000, description="Failures in a row after which jobs fail at once for a while."),
    ] = 5
    cooldown_time: Annotated[
        Finite, Field(gt=0, le=300, description="Seconds of that while; doubled each time, up to 300.")
    ] = 10.0

    @field_validator("api_key", mode="before")
    @classmethod
    def _no_secret(cls, key: object) -> object:
        if key is not None and not (isinstance(key, str) and key.startswith(ENV_PREFIX)):
            raise ValueError("must be os.environ/NAME: a key does not belong in a file")
        return key

    @field_validator("api_base")
    @classmethod
    def _plain_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be an http or https URL, such as https://host/v1")
        try:
            parts.port  # noqa: B018  # raises if it is no number, or none that a port can be
        except ValueError:
            raise ValueError("the port behind the host must be a number up to 65535") from None
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("must hold no user, password or query: put the secret under api_key")
        return url


class OnnxEntry(ServedModel):
    """A text classifier in ONNX Runtime."""

    engine: Annotated[Literal["onnx"], Field(description="A text classifier in ONNX Runtime.")]
    model_path: Annotated[
        str, Field(description="ONNX file; relative to the folder above the catalogue's own folder.")
    ]
    tokenizer_path: Annotated[
        str | None, Field(description="Tokenizer of the tokenizers library; null: tokenizer.json beside it.")
    ] = None
    labels: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=256)], ...] | None,
        Field(
            min_length=2,
            description="Labels in the order of the model's outputs; null: those in its metadata.",
        ),
    ] = None
    execution_providers: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...] | None,
        Field(
            min_length=1,
            description="ONNX Runtime's execution providers, the preferred one first; null takes the "
            "hardware profile's.",
        ),
    ] = None
    max_length: Annotated[Whole, Field(ge=1, le=1_000_000, description="Tokens that a text may have.")] = 512
    n_threads: Annotated[
        Whole | None, Field(ge=1, description="Threads of a run; null takes the cores but one.")
    ] = None
    timeout: Annotated[
        Finite,
        Field(
            gt=0,
            le=3600,
            description="Seconds one run may take; the engine is ended and started again after that.",
        ),
    ] = 300.0
    memory_budget: Annotated[
        Share | Bytes | None,
        Field(
            description="GPU memory of one worker: bytes, or a share of the card below 1; null takes the "
            "hardware profile's. CUDAExecutionProvider alone is held to it."
        ),
    ] = None

    @property
    def wants_gpu(self) -> bool:
        """Whether one of its execution providers runs on an NVIDIA GPU, or may: a profile decides."""
        return self.execution_providers is None or on_nvidia(self.execution_providers)

    @field_validator("labels")
    @classmethod
    def _distinct(cls, labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if labels is not None and len(set(labels)) != len(labels):
            raise ValueError("labels must differ from each other")
        return labels
