"""The classifier's child process over its socket."""

import math
import select
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchyard.errors import InvalidConfig
from tests.workers.child import Child
from tests.workers.onnx.tiny_classifier import LABELS, write_hanging
from workers.engine.lifeline import EXIT_HUNG


def onnx_child(path: Path, cache: Path, **settings: object) -> Child:
    model = {"engine": "onnx", "model_name": "kind", "model_path": str(path), "n_slots": 8, "n_threads": 1}
    return Child("workers.onnx", model | settings, {"XDG_CACHE_HOME": str(cache)})


@pytest.fixture(scope="module")
def child(classifier_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    with onnx_child(classifier_path, tmp_path_factory.mktemp("cache")) as child:
        yield child


def test_ready_says_what_it_is(child: Child) -> None:
    info = child.process.info
    assert info["labels"] == list(LABELS)
    assert info["execution_providers"] == ["CPUExecutionProvider"]
    assert info["engine"].startswith("onnxruntime ")
    assert len(info["model_sha256"]) == 64


def test_choices_are_probabilities_over_what_was_asked(child: Child) -> None:
    child.submit("all", "bridge at board")
    child.submit("two", "bridge at board", output={"type": "choices", "choices": ["none", "placement"]})
    every, two = child.done("all"), child.done("two")
    assert every["choice"] == every["text"] == "soldering"
    assert set(every["choice_probabilities"]) == set(LABELS)
    assert set(two["choice_probabilities"]) == {"none", "placement"}
    child.submit(
        "soft", "bridge at board", output={"type": "choices", "choices": list(LABELS), "temperature": 3}
    )
    soft = child.done("soft")
    assert soft["choice_probabilities"]["soldering"] < every["choice_probabilities"]["soldering"]
    assert soft["choice_logprobs"] == every["choice_logprobs"]
    for label, chance in every["choice_probabilities"].items():
        assert math.exp(every["choice_logprobs"][label]) == pytest.approx(chance)
    for completion in (every, two):
        assert sum(completion["choice_probabilities"].values()) == pytest.approx(1)
        assert completion["finish_reason"] == "choice"
        best, second = sorted(completion["choice_probabilities"].values(), reverse=True)[:2]
        lead = pytest.approx(best - second)
        assert completion["confidence"] == {"min": best, "mean": best, "q10": best, "first_margin": lead}
    assert every["usage"] == {"prompt_tokens": 3, "cached_tokens": 0, "completion_tokens": 0}
    assert every["provenance"]["model_sha256"] == child.process.info["model_sha256"]
    assert (every["provenance"]["quantisation"], every["provenance"]["seed"]) == ("int8", None)


def test_an_instruction_is_not_part_of_the_text(child: Child) -> None:
    system = {"role": "system", "content": "shifted missing rotated"}
    child.submit("a", messages=[system, {"role": "user", "content": "bridge"}])
    child.submit("b", prompt="bridge")
    assert child.done("a")["choice_probabilities"] == child.done("b")["choice_probabilities"]


def test_jobs_that_come_together_share_runs(child: Child) -> None:
    before = child.stats()
    words = ["bridge", "shifted", "clean"]
    with child.held_up():
        for number in range(24):
            child.submit(f"job-{number}", words[number % 3])
    done = [child.done(f"job-{number}") for number in range(24)]
    assert [one["choice"] for one in done] == [LABELS[number % 3] for number in range(24)]
    after = child.stats()
    assert after["texts"] - before["texts"] == 24
    assert after["runs"] - before["runs"] < 24
    assert max(one["timings"]["mean_batch"] for one in done) > 1
    assert (after["running"], after["waiting"]) == (0, 0)


@pytest.mark.parametrize(
    ("request_", "code", "field"),
    [
        ({"output": {"type": "json_schema", "schema": {}}}, "request_invalid", "output.type"),
        ({"output": {"type": "choices", "choices": ["none", "rust"]}}, "choices_invalid", "output.choices"),
        (
            {"output": {"type": "choices", "choices": ["none", "soldering"], "prior": "content_free"}},
            "choices_invalid",
            "output.prior",
        ),
        (
            {"output": {"type": "choices", "choices": ["none", "soldering"], "length_normalization": "mean"}},
            "choices_invalid",
            "output.length_normalization",
        ),
        ({"sampling": {"logprobs": 3}}, "request_invalid", "sampling.logprobs"),
        ({"messages": [{"role": "system", "content": "x"}]}, "prompt_empty", "messages"),
        ({"deadline": time.time() - 1}, "deadline_exceeded", None),
        ({"priority": 99}, "request_invalid", "priority"),
    ],
)
def test_a_request_that_is_wrong_fails_alone(
    child: Child, request_: dict[str, object], code: str, field: str | None
) -> None:
    child.submit("bad", "" if "messages" in request_ else "bridge", **request_)
    child.submit("good", "bridge")
    error = child.failed("bad")
    assert (error["code"], error["field"], error["retryable"]) == (code, field, False)
    assert child.done("good")["choice"] == "soldering"


def test_a_wrong_model_is_said_before_it_is_ready(classifier_path: Path, tmp_path: Path) -> None:
    providers = ["VitisAIExecutionProvider"]
    with (
        pytest.raises(InvalidConfig, match=r"VitisAI.*it has .*CPUExecutionProvider"),
        onnx_child(classifier_path, tmp_path, execution_providers=providers),
    ):
        pass


def test_a_run_that_hangs_ends_the_child_so_that_the_pool_notices(tmp_path: Path) -> None:
    path = write_hanging(tmp_path, "rotated")
    child = onnx_child(path, tmp_path, timeout=0.5)
    process = child.process
    process.wait_ready(60)
    child.submit("good", "bridge")
    assert child.done("good")["choice"] == "soldering"
    child.submit("bad", "rotated")
    while process.read() is not None:
        ready, _, _ = select.select([process], [], [], 60)
        assert ready, "nobody noticed"
    assert process.end() == f"exit code {EXIT_HUNG}"
