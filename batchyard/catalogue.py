"""The model catalogue: which models there are, how each is loaded, which tasks the yard knows.

Parameter names are llama-cpp-python's. The file is `configs/models.yaml`; its JSON Schema
(`configs/models.schema.json`) is generated from these classes.
"""

from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, ValidationError, model_validator

from batchyard.entry import (
    Entry,
    Finite,
    OnnxEntry,
    OpenaiEntry,
    ServedModel,
    Size,
    TenantEntry,
    Whole,
    twice,
)
from batchyard.errors import InvalidConfig, shown
from batchyard.job import Job, Name
from batchyard.jsonvalue import printable
from batchyard.model_settings import ModelSettings
from batchyard.output import Output
from batchyard.sampling import Sampling
from batchyard.yaml_file import read_yaml


class LlamaEntry(ServedModel, ModelSettings):
    """A GGUF model that llama.cpp runs. What it leaves out of `ModelSettings`, the machine's hardware profile
    decides."""

    engine: Annotated[Literal["llama_cpp"], Field(description="llama.cpp; may be left out.")] = "llama_cpp"
    model_path: Annotated[
        str, Field(description="GGUF file; relative to the folder above the catalogue's own folder.")
    ]
    n_ctx: Annotated[
        Whole, Field(ge=16, description="Tokens one job may use, prompt and answer together.")
    ] = 2048
    n_cells: Annotated[
        Whole | None,
        Field(
            ge=80,
            description="Tokens in the KV memory of all jobs together; null is n_ctx for each slot. "
            "With fewer, batch jobs give way to each other when it is full.",
        ),
    ] = None
    kept_cells: Annotated[
        Whole | None,
        Field(
            ge=0,
            description="Tokens of the KV memory for beginnings that jobs share; null is n_ctx for every 8 "
            "slots, and one more.",
        ),
    ] = None
    use_mmap: bool = True
    use_mlock: bool = False
    chat_format: Annotated[
        str | None, Field(description="Jinja chat template; null takes the one in the GGUF.")
    ] = None
    prefix_cache: Annotated[
        bool, Field(description="Compute the instruction that jobs share once a worker.")
    ] = True
    step_control: Annotated[
        bool,
        Field(
            description="Keep the targets of a step and of 99 %, and refuse early what misses its deadline."
        ),
    ] = True
    target_p99_ms: Annotated[
        Finite | None,
        Field(gt=0, description="Time that 99 % of jobs may spend in a slot, in ms: fewer slots if need be."),
    ] = None
    interactive_slowdown: Annotated[
        Finite, Field(ge=1, description="How much longer batch jobs may make the steps of interactive ones.")
    ] = 1.5
    jump_forward: Annotated[
        bool,
        Field(description="Append what a schema or grammar forces without asking the model for it."),
    ] = True
    json_whitespace: Annotated[
        bool,
        Field(description="Allow spaces and line ends between the parts of JSON; false is compact JSON."),
    ] = False
    embedding: Annotated[
        bool, Field(description="Make vectors instead of text: an encoder, or a decoder with pooling.")
    ] = False
    pooling_type: Annotated[
        Literal["mean", "cls", "last"] | None,
        Field(
            description="How an embedding model makes one vector of a text; null takes what the file says."
        ),
    ] = None
    choices_temperature: Annotated[
        dict[Name, Annotated[Finite, Field(ge=0.001, le=1000)]],
        Field(
            default_factory=dict,
            description="By task: softens (above 1) or sharpens what choices answer; from workers.calibrate.",
        ),
    ]
    mmproj_path: Annotated[
        str | None,
        Field(description="GGUF with the image encoder that belongs to the model (llama.cpp's --mmproj)."),
    ] = None
    mmproj_offload: Annotated[bool, Field(description="Put the image encoder on the GPU too.")] = True
    image_min_tokens: Annotated[
        Whole | None,
        Field(ge=1, description="Least positions of an image, for encoders with a choice; null as trained."),
    ] = None
    image_max_tokens: Annotated[
        Whole | None,
        Field(ge=1, description="Most positions of an image, for encoders with a choice; null as trained."),
    ] = None
    image_cache_bytes: Annotated[
        Size, Field(description="Memory for encoded images; the least recently used leave first.")
    ] = 268_435_456
    verbose: bool = False

    @property
    def wants_gpu(self) -> bool:
        """Whether some of its layers go onto a GPU where there is one."""
        return self.n_gpu_layers != 0

    @model_validator(mode="after")
    def _pools_embeddings(self) -> "LlamaEntry":
        if self.pooling_type is not None and not self.embedding:
            raise ValueError("pooling_type goes with embedding: true")
        return self


def _engine_of(entry: object) -> object:
    """The engine that an entry of the file names; llama.cpp where it names none."""
    if isinstance(entry, dict):
        return entry.get("engine", "llama_cpp")
    return getattr(entry, "engine", "llama_cpp")


ModelEntry = Annotated[
    Annotated[LlamaEntry, Tag("llama_cpp")]
    | Annotated[OpenaiEntry, Tag("openai")]
    | Annotated[OnnxEntry, Tag("onnx")],
    Discriminator(
        _engine_of,
        custom_error_type="unknown_engine",
        custom_error_message="engine must be llama_cpp, openai or onnx",
    ),
]
"""One model of the catalogue; `engine` says of which kind."""
_ENGINES = ("llama_cpp", "openai", "onnx")


class TaskEntry(Entry):
    """One task: what a job of this kind gets where it says nothing itself."""

    task: Annotated[Name, Field(description="Name of the task, as in Job.task.")]
    description: str = ""
    instruction: Annotated[
        str | None, Field(description="System message put before a job that brings none.")
    ] = None
    output: Annotated[Output | None, Field(description="Form of the answer; null for free text.")] = None
    sampling: Sampling = Sampling()


MAX_OPEN = 2_000_000
"""Jobs without a result that a tenant may have where the catalogue says nothing."""


class Catalogue(Entry):
    """All models and tasks of a yard, and what its tenants may have."""

    model_list: Annotated[tuple[ModelEntry, ...], Field(min_length=1)]
    task_list: Annotated[tuple[TaskEntry, ...], Field(min_length=1)]
    tenant_list: Annotated[
        tuple[TenantEntry, ...],
        Field(description=f"Limits of tenants; one that no entry covers may have {MAX_OPEN:,} open jobs."),
    ] = ()

    @model_validator(mode="after")
    def _consistent(self) -> "Catalogue":
        names = [model.model_name for model in self.model_list]
        tasks = [task.task for task in self.task_list]
        tenants = [entry.tenant for entry in self.tenant_list]
        for kind, words in (("model_name", names), ("task", tasks), ("tenant", tenants)):
            again = twice(words)
            if again is not None:
                raise ValueError(f"{kind} {again!r} is there twice")
        known = set(tasks)
        for model in self.model_list:
            calibrated = model.choices_temperature if isinstance(model, LlamaEntry) else {}
            for task in (*model.tasks, *calibrated):
                if task not in known:
                    raise ValueError(f"model {model.model_name!r} names the task {task!r}, not in task_list")
        return self

    @cached_property
    def _models(self) -> dict[str, ModelEntry]:
        return {model.model_name: model for model in self.model_list}

    @cached_property
    def _tasks(self) -> dict[str, TaskEntry]:
        return {task.task: task for task in self.task_list}

    @property
    def model_names(self) -> tuple[str, ...]:
        """Names of all models, in the file's order."""
        return tuple(self._models)

    @property
    def task_names(self) -> tuple[str, ...]:
        """Names of all tasks, in the file's order."""
        return tuple(self._tasks)

    @property
    def limits(self) -> dict[str, int]:
        """The most jobs that may wait for each model (`model:<name>`) and that each tenant may have open
        (`tenant:<name>`, and `tenant:*` for the others)."""
        models = {f"model:{model.model_name}": model.max_queued for model in self.model_list}
        tenants = {f"tenant:{entry.tenant}": entry.max_open for entry in self.tenant_list}
        return {"tenant:*": MAX_OPEN} | tenants | models

    def model(self, name: str) -> ModelEntry:
        """The entry of a model.

        Raises:
            InvalidConfig: code `unknown_model`.
        """
        try:
            return self._models[name]
        except KeyError:
            raise InvalidConfig(
                f"no model {shown(name)}; there are {', '.join(self._models)}",
                code="unknown_model",
                field="model",
                remedy="name one of these, or add it under model_list",
            ) from None

    def task(self, name: str) -> TaskEntry | None:
        """The entry of a task, or None."""
        return self._tasks.get(name)


def with_task_defaults(job: Job, task: TaskEntry | None) -> Job:
    """`job` with its task's sampling and output form where it leaves them out."""
    if task is None:
        return job
    return job.model_copy(
        update={
            "sampling": job.sampling.over(task.sampling),
            "output": job.output if job.output is not None else task.output,
        }
    )


def load_catalogue(path: Path) -> Catalogue:
    """The catalogue in the YAML file `path`; `os.environ/NAME` is replaced from the environment.

    Raises:
        InvalidConfig: naming the key, the value and the remedy.
    """
    return parse_catalogue(read_yaml(path), str(path))


def parse_catalogue(data: object, source: str) -> Catalogue:
    """The catalogue in plain data; `source` names it in errors."""
    try:
        return Catalogue.model_validate(data)
    except ValidationError as exc:
        raise config_error(exc, source) from None


def config_error(exc: ValidationError, source: str) -> InvalidConfig:
    """The first fault of a configuration file, as our error."""
    first = exc.errors(include_url=False, include_context=False)[0]
    loc = first["loc"]
    # pydantic names the branch of a union after its index; the file has no such key
    where = ".".join(str(part) for at, part in enumerate(loc) if at != 2 or part not in _ENGINES)
    # a key that is not known may be a misspelt api_key
    secret = loc[-1:] in (("api_key",), ("api_base",)) or first["type"] == "extra_forbidden"
    value = "" if secret or isinstance(first["input"], dict | list) else f", got {shown(first['input'])}"
    return InvalidConfig(
        printable(f"{first['msg'].removeprefix('Value error, ')}{value}"),
        field=printable(f"{source}: {where}", 300) if where else source,
        remedy="correct the file; its JSON Schema stands beside it",
    )


def catalogue_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the catalogue file."""
    schema = Catalogue.model_json_schema(by_alias=True)
    own = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Batchyard model catalogue"}
    schema["properties"]["model_list"]["items"] = _by_engine("openai", "onnx")
    return own | {key: value for key, value in schema.items() if key not in own}


def _by_engine(*others: str) -> dict[str, Any]:
    """The schema of a model: by its `engine`, so that a fault is shown in its own branch and not in three."""
    if not others:
        return {"$ref": "#/$defs/LlamaEntry"}
    this = {"properties": {"engine": {"const": others[0]}}, "required": ["engine"]}
    return {
        "if": this,
        "then": {"$ref": f"#/$defs/{others[0].capitalize()}Entry"},
        "else": _by_engine(*others[1:]),
    }
