"""Between a job and the engine: a job as the engine's request, its completion as our result. Pure."""

from collections.abc import Sequence
from typing import Any

from batchyard.catalogue import Catalogue, LlamaEntry, ModelEntry, with_task_defaults
from batchyard.entry import OnnxEntry, OpenaiEntry
from batchyard.job import Job, Message
from batchyard.output import ChoicesOutput, EmbeddingOutput, Output
from batchyard.result import Confidence, Provenance, Result, Timings, Usage
from batchyard.route import Route
from batchyard.states import State
from workers.blobs import engine_name
from workers.profile import Resolved

_GREEDY = {"temperature": 0.0}
"""What a silent job gets, as `batchyard.sampling` says; the engine's own default is llama.cpp's, 0.8."""

_NO_GPU: dict[str, Any] = {"memory_budget": None, "load_locks": []}


def engine_model(
    entry: ModelEntry, root: str, resolved: Resolved, *, on_gpu: bool = False,
    memory_budget: int | None = None, load_locks: Sequence[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """The engine's `load` parameters for a catalogue entry whose settings are `resolved`; relative paths are
    taken from `root`, and without a GPU no layer goes onto one."""
    values = {name: setting.value for name, setting in resolved.settings.items()}
    if isinstance(entry, OpenaiEntry):
        return entry.model_dump(mode="json")
    if isinstance(entry, OnnxEntry):
        values["model_path"] = root_path(root, entry.model_path)
        values |= {"memory_budget": memory_budget, "load_locks": list(load_locks)} if on_gpu else _NO_GPU
        if entry.tokenizer_path is not None:
            values["tokenizer_path"] = root_path(root, entry.tokenizer_path)
        return entry.model_dump(mode="json") | values
    model = entry.model_dump(exclude={"engine", "tasks", "choices_temperature", "max_queued"}) | values
    model |= {"memory_budget": memory_budget, "load_locks": list(load_locks)}
    if entry.mmproj_path is not None:
        model["mmproj_path"] = root_path(root, entry.mmproj_path)
    if not on_gpu:
        model |= _NO_GPU | {"n_gpu_layers": 0}
    return model | {"model_path": root_path(root, entry.model_path)}


def root_path(root: str, path: str) -> str:
    """`path`, from `root` if it is relative."""
    return path if path.startswith("/") else f"{root}/{path}"


def engine_request(job: Job, task: str, catalogue: Catalogue, model: ModelEntry) -> dict[str, Any]:
    """The engine's request for `job`, taken for `task` by `model`: the task's instruction, output form and
    sampling stand in where the job is silent, and choices get the temperature fitted for task and model."""
    entry = catalogue.task(task)
    job = with_task_defaults(job, entry)
    request: dict[str, Any] = {
        "id": job.id,
        "sampling": _GREEDY | job.sampling.model_dump(exclude_none=True),
        "output": _engine_output(job.output, _temperature(model, task)),
        "priority": job.priority,
        "deadline": job.deadline,
    }
    if isinstance(job.output, EmbeddingOutput):
        # no chat template goes around it; an instruction such as "query: " belongs to the text
        before = "" if job.raw or entry is None else entry.instruction or ""
        return request | {"prompt": before + job.text}
    if job.raw:
        return request | {"prompt": job.prompt}
    messages = job.messages or (Message(role="user", content=job.prompt or ""),)
    if entry is not None and entry.instruction and all(m.role != "system" for m in messages):
        messages = (Message(role="system", content=entry.instruction), *messages)
    return request | {"messages": [_message(message, job.tenant) for message in messages]}


def _message(message: Message, tenant: str) -> dict[str, Any]:
    """A message for the engine, its images under their names there."""
    fields = message.model_dump()
    if not isinstance(message.content, str):
        fields["content"] = [
            part | {"sha256": engine_name(tenant, part["sha256"])} if part["type"] == "image" else part
            for part in fields["content"]
        ]
    return fields


def _temperature(model: ModelEntry, task: str) -> float:
    return model.choices_temperature.get(task, 1.0) if isinstance(model, LlamaEntry) else 1.0


def _engine_output(output: Output | None, temperature: float) -> dict[str, Any]:
    if output is None:
        return {"type": "text"}
    form: dict[str, Any] = output.model_dump(by_alias=True)
    return form | {"temperature": temperature} if isinstance(output, ChoicesOutput) else form


def success(
    job: Job, route: Route, completion: dict[str, Any], *, worker: str, gpu: str | None, attempt: int,
    submitted: float, routed: float, received: float, finished: float,
) -> Result:  # fmt: skip
    """The result of a finished job. Times are seconds since the epoch."""
    engine = completion["timings"]
    return Result(
        job_id=job.id,
        state=State.SUCCESS,
        text=completion["text"],
        parsed=completion.get("parsed"),
        choice=completion.get("choice"),
        choice_probabilities=completion.get("choice_probabilities"),
        choice_logprobs=completion.get("choice_logprobs"),
        embedding=completion.get("embedding"),
        finish_reason=completion["finish_reason"],
        usage=Usage.model_validate(completion["usage"]),
        timings=Timings(
            queue_s=route.queued_s,
            route_s=route.seconds,
            broker_s=max(0.0, received - routed),
            wait_s=engine["wait_s"],
            prefill_s=engine["prefill_s"],
            decode_s=engine["decode_s"],
            total_s=max(0.0, finished - submitted),
            mean_batch=engine["mean_batch"],
            steps=engine["steps"],
        ),
        confidence=Confidence.model_validate(completion["confidence"]) if completion["confidence"] else None,
        logprobs=completion.get("logprobs"),
        route=route,
        provenance=Provenance.model_validate(
            {**completion["provenance"], "policy": route.policy, "worker": worker, "gpu": gpu}
        ),
        attempt=attempt,
        metadata=job.metadata,
    )
