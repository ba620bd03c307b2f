"""What the engine is asked for a job, and what its answer becomes."""

import pytest

from batchyard.catalogue import Catalogue, parse_catalogue
from batchyard.hardware import Profile
from batchyard.job import Job
from batchyard.model_settings import ModelSettings
from batchyard.route import Route
from batchyard.states import State
from workers.engine.model import EngineModel
from workers.profile import resolve
from workers.requests import engine_model, engine_request, success

VERDICT = {"type": "json_schema", "schema": {"type": "object"}}


@pytest.fixture
def catalogue() -> Catalogue:
    return parse_catalogue(
        {
            "model_list": [{"model_name": "m", "model_path": "models/m.gguf", "tasks": ["look"]}],
            "task_list": [
                {
                    "task": "look",
                    "instruction": "Look closely.",
                    "output": VERDICT,
                    "sampling": {"max_tokens": 7, "temperature": 0},
                },
                {"task": "plain"},
            ],
        },
        "test",
    )


def test_a_silent_job_gets_what_its_task_says(catalogue: Catalogue) -> None:
    request = engine_request(Job(id="j", prompt="板"), "look", catalogue, catalogue.model("m"))
    assert request["messages"] == [
        {"role": "system", "content": "Look closely."},
        {"role": "user", "content": "板"},
    ]
    assert request["output"] == VERDICT
    assert request["sampling"] == {"max_tokens": 7, "temperature": 0.0}


def test_what_the_job_says_itself_stands(catalogue: Catalogue) -> None:
    job = Job.model_validate(
        {
            "messages": [{"role": "system", "content": "Mine."}, {"role": "user", "content": "x"}],
            "sampling": {"max_tokens": 99, "stop": ["\n"]},
            "output": {"type": "choices", "choices": ["a", "b"]},
            "priority": "interactive",
            "deadline": 2e9,
        }
    )
    request = engine_request(job, "look", catalogue, catalogue.model("m"))
    assert [message["content"] for message in request["messages"]] == ["Mine.", "x"]
    assert request["output"] == {
        "type": "choices",
        "choices": ("a", "b"),
        "prior": None,
        "length_normalization": "none",
        "temperature": 1.0,
    }
    assert request["sampling"] == {"max_tokens": 99, "temperature": 0.0, "stop": ("\n",)}
    assert (request["priority"], request["deadline"]) == (0, 2e9)


def test_a_silent_job_is_greedy_as_the_contract_says(catalogue: Catalogue) -> None:
    request = engine_request(Job(id="1", prompt="x"), "plain", catalogue, catalogue.model("m"))
    assert request["sampling"] == {"temperature": 0.0}


def test_choices_get_the_temperature_fitted_for_task_and_model(catalogue: Catalogue) -> None:
    job = Job.model_validate({"prompt": "x", "output": {"type": "choices", "choices": ["a", "b"]}})
    fitted = catalogue.model("m").model_copy(update={"choices_temperature": {"look": 2.5}})
    assert engine_request(job, "look", catalogue, fitted)["output"]["temperature"] == 2.5
    assert engine_request(job, "plain", catalogue, fitted)["output"]["temperature"] == 1.0
    load = engine_model(fitted, "/yard", resolve(fitted, Profile(profile_name="p")))
    assert "choices_temperature" not in load


def test_a_text_to_embed_follows_its_task_s_instruction_without_a_chat(catalogue: Catalogue) -> None:
    for fields, prompt in (
        ({"prompt": "board"}, "Look closely.board"),
        (
            {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "board"}]},
            "Look closely.board",
        ),
        ({"prompt": "board", "raw": True}, "board"),
    ):
        job = Job.model_validate(fields | {"output": {"type": "embedding", "dimensions": 8}})
        request = engine_request(job, "look", catalogue, catalogue.model("m"))
        assert request["prompt"] == prompt
        assert "messages" not in request
        assert request["output"] == {"type": "embedding", "normalize": True, "dimensions": 8}


def test_a_raw_prompt_gets_no_template_and_no_instruction(catalogue: Catalogue) -> None:
    request = engine_request(Job(prompt="<s>as it is", raw=True), "look", catalogue, catalogue.model("m"))
    assert request["prompt"] == "<s>as it is"
    assert "messages" not in request


def test_a_task_without_defaults_or_an_unknown_one_is_free_text(catalogue: Catalogue) -> None:
    for task in ("plain", "never heard of"):
        request = engine_request(Job(prompt="x"), task, catalogue, catalogue.model("m"))
        assert request["output"] == {"type": "text"}
        assert request["messages"] == [{"role": "user", "content": "x"}]


def test_the_model_is_found_from_the_root_and_needs_no_gpu(catalogue: Catalogue) -> None:
    entry = catalogue.model("m")
    profile = Profile(profile_name="p", settings=ModelSettings(n_gpu_layers=-1, n_batch=77, n_threads=3))
    resolved = resolve(entry, profile)
    on_cpu = engine_model(entry, "/yard", resolved, on_gpu=False, memory_budget=1 << 30, load_locks=["a"])
    assert (on_cpu["model_path"], on_cpu["n_threads"], on_cpu["n_batch"]) == ("/yard/models/m.gguf", 3, 77)
    assert (on_cpu["n_gpu_layers"], on_cpu["memory_budget"], on_cpu["load_locks"]) == (0, None, [])
    absolute = entry.model_copy(update={"model_path": "/abs.gguf"})
    on_gpu = engine_model(absolute, "/yard", resolved, on_gpu=True, memory_budget=1 << 30, load_locks=["a"])
    assert (on_gpu["model_path"], on_gpu["n_gpu_layers"], on_gpu["n_threads"]) == ("/abs.gguf", -1, 3)
    assert (on_gpu["memory_budget"], on_gpu["load_locks"]) == (1 << 30, ["a"])
    EngineModel.parse(on_cpu)
    EngineModel.parse(on_gpu)


def test_entries_of_other_engines_go_as_they_are_with_their_paths_found() -> None:
    far = {
        "model_name": "f",
        "engine": "openai",
        "api_base": "http://h",
        "model": "x",
        "api_key": "os.environ/K",
    }
    kind = {"model_name": "k", "engine": "onnx", "model_path": "a/m.onnx", "tokenizer_path": "a/t.json"}
    models = parse_catalogue({"model_list": [far, kind], "task_list": [{"task": "t"}]}, "test")
    profile = Profile(profile_name="p", execution_providers=("SomeProvider",))
    far_model, kind_model = models.model("f"), models.model("k")
    load = engine_model(far_model, "/yard", resolve(far_model, profile))
    assert (load["api_key"], load["dialect"]) == ("os.environ/K", "compatible")
    load = engine_model(kind_model, "/yard", resolve(kind_model, profile).with_threads(3, 1))
    assert (load["model_path"], load["tokenizer_path"]) == ("/yard/a/m.onnx", "/yard/a/t.json")
    assert (load["n_threads"], load["execution_providers"]) == (3, ("SomeProvider",))


def test_times_add_up_from_submission_to_result() -> None:
    route = Route(task="look", model="m", by="job", reason="said so", policy="1", queued_s=2.0, seconds=0.5)
    timings = {
        "wait_s": 1.0,
        "prefill_s": 0.1,
        "decode_s": 0.2,
        "total_s": 1.3,
        "mean_batch": 3.0,
        "steps": 4,
    }
    completion = {
        "text": "ok",
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 5, "cached_tokens": 2, "completion_tokens": 1},
        "timings": timings,
        "confidence": None,
        "provenance": {
            "model_sha256": "a", "quantisation": "Q4", "llama_build": "b", "prompt_sha256": "c", "seed": 7,
        },
    }  # fmt: skip
    result = success(
        Job(id="j", prompt="x", metadata={"k": 1}), route, completion,
        worker="w@h", gpu="GPU-1", attempt=2, submitted=100.0, routed=103.0, received=104.0, finished=106.0,
    )  # fmt: skip
    assert (result.state, result.text, result.attempt, result.metadata) == (State.SUCCESS, "ok", 2, {"k": 1})
    assert (result.timings.queue_s, result.timings.broker_s, result.timings.total_s) == (2.0, 1.0, 6.0)
    assert result.provenance is not None
    assert (result.provenance.worker, result.provenance.gpu, result.provenance.policy) == (
        "w@h",
        "GPU-1",
        "1",
    )
