"""Jump-forward over a real model: fewer steps, the same document, and every limit still holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from workers.engine.engine import Engine
from workers.engine.loader import load
from workers.engine.model import EngineModel
from workers.engine.notebook import Notebook

SHIPPED = Path(__file__).resolve().parents[2] / "models" / "defect_detect.Q4_K_M.gguf"
INSTRUCTION = "Read the board inspection report. Answer with the verdict as JSON."
REPORTS = (
    "R17: solder bridge between pin 3 and pin 4, seen at station 2.",
    "AOI station 5 flags C20, the joint on the left pad is open.",
    "U3 立碑，右侧焊盘未接触，第4工位发现。",
    "板件检查：Q8 外观正常，未见异常，工位1。",
)
VERDICT = {
    "type": "object",
    "properties": {
        "verdict": {"enum": ["pass", "fail"]},
        "defect": {
            "enum": ["none", "bridge", "open", "tombstone", "missing", "wrong_part", "polarity", "shift"]
        },
        "ref": {"type": ["string", "null"], "maxLength": 16},
        "location": {"type": ["string", "null"], "maxLength": 64},
    },
    "required": ["verdict", "defect", "ref", "location"],
    "additionalProperties": False,
}
FIXED = {"const": {"verdict": "pass", "checked": True}}
FIXED_TEXT = '{"verdict":"pass","checked":true}'


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def verdicts(notebook: Notebook, *, jump_forward: bool) -> dict[str, dict[str, Any]]:
    """The completions of the shipped model."""
    settings = EngineModel(
        "defect", str(SHIPPED), n_ctx=256, n_slots=4, n_threads=1, jump_forward=jump_forward
    )
    runtime = load(settings, notebook=notebook)
    engine = Engine(runtime)
    for at, text in enumerate(REPORTS):
        engine.submit(
            {
                "id": str(at),
                "messages": [{"role": "system", "content": INSTRUCTION}, *user(text)],
                "output": {"type": "json_schema", "schema": VERDICT},
                "sampling": {"temperature": 0.0, "max_tokens": 96, "logprobs": 2},
            }
        )
    done: dict[str, dict[str, Any]] = {}
    while not engine.idle:
        engine.step()
        done |= {event["id"]: event["completion"] for event in engine.events() if event["op"] == "done"}
    runtime.close()
    return done


def test_a_trained_model_gives_the_same_answers_in_far_fewer_steps(notebook: Notebook) -> None:
    with_jump, without = (verdicts(notebook, jump_forward=jumps) for jumps in (True, False))
    assert len(with_jump) == len(without) == len(REPORTS)
    for name, one in with_jump.items():
        other = without[name]
        assert one["parsed"] == other["parsed"] is not None
        assert one["text"] == other["text"]
        assert one["usage"]["completion_tokens"] == other["usage"]["completion_tokens"]
        assert one["timings"]["steps"] < 0.7 * other["timings"]["steps"]
        tokens = [[item["token"] for item in each["logprobs"]] for each in (one, other)]
        assert tokens[0] == tokens[1]
        forced = [item for item in one["logprobs"] if not item["top"]]
        assert len(forced) >= 8
        assert all(item["logprob"] == 0.0 for item in forced)
        assert all(item["top"] for item in other["logprobs"])


def test_a_document_without_a_choice_needs_no_step(yard: Any) -> None:
    output = {"type": "json_schema", "schema": FIXED}
    yard.submit("a", messages=user("x"), output=output, sampling={"max_tokens": 60, "logprobs": 1})
    yard.submit("text", messages=user("x"), sampling={"max_tokens": 3})
    one = yard.run()["a"]
    assert (one["text"], one["finish_reason"]) == (FIXED_TEXT, "stop")
    assert one["parsed"] == FIXED["const"]
    assert one["usage"]["completion_tokens"] == len(one["logprobs"]) > 10
    assert {item["logprob"] for item in one["logprobs"]} == {0.0}
    assert (one["confidence"], one["timings"]["steps"]) == (None, 0)
    assert yard.done["text"]["usage"]["completion_tokens"] == 3
    assert yard.started == ["a", "text"]


@pytest.mark.parametrize("jump_forward", [True, False])
def test_a_run_that_does_not_fit_ends_at_its_length(
    make_yard: Callable[..., Any], jump_forward: bool
) -> None:
    yard = make_yard(n_slots=8, jump_forward=jump_forward)
    output = {"type": "json_schema", "schema": FIXED}
    yard.submit("whole", messages=user("x"), output=output, sampling={"max_tokens": 60})
    size = yard.run()["whole"]["usage"]["completion_tokens"]
    for most in range(1, size + 1):
        yard.submit(str(most), messages=user("x"), output=output, sampling={"max_tokens": most})
    done = yard.run()
    assert not yard.failed
    for most in range(1, size + 1):
        one = done[str(most)]
        assert one["usage"]["completion_tokens"] == most
        assert FIXED_TEXT.startswith(one["text"])
        assert (one["finish_reason"] == "stop") == (most == size) == (one["parsed"] is not None)


@pytest.mark.parametrize("jump_forward", [True, False])
def test_a_stop_string_inside_a_run_cuts_it(make_yard: Callable[..., Any], jump_forward: bool) -> None:
    yard = make_yard(jump_forward=jump_forward)
    output = {"type": "grammar", "grammar": 'root ::= "one two" [ab] "three four five" [cd]'}
    yard.submit("a", messages=user("x"), output=output, sampling={"max_tokens": 60, "stop": ["four"]})
    one = yard.run()["a"]
    assert one["finish_reason"] == "stop"
    assert one["text"] in ("one twoathree ", "one twobthree ")


def test_only_what_was_drawn_counts_for_the_confidence(make_yard: Callable[..., Any]) -> None:
    yard = make_yard()
    output = {"type": "grammar", "grammar": 'root ::= "{\\"x\\":" [0-9] ",\\"yy\\":" [0-9] "}"'}
    yard.submit("a", messages=user("x"), output=output, sampling={"max_tokens": 60, "logprobs": 3})
    one = yard.run()["a"]
    assert json.loads(one["text"]).keys() == {"x", "yy"}
    drawn = [item for item in one["logprobs"] if item["top"]]
    assert [item["token"].isdigit() for item in drawn] == [True, True]
    assert all(item["logprob"] < 0 for item in drawn)
    assert one["confidence"]["mean"] < 1.0
    # the prompt's step draws the first digit, with what is forced before it in the same chunk
    assert one["timings"]["steps"] == 2


def test_penalties_see_the_forced_tokens(make_yard: Callable[..., Any]) -> None:
    """Whichever letter the model likes best, after a run of it another one is likelier."""
    yard = make_yard(n_slots=8)
    for letter in "abcdefghijklmnopqrstuvwxyz":
        output = {"type": "grammar", "grammar": f'root ::= "{letter * 8}" [a-z]'}
        sampling = {"max_tokens": 20, "frequency_penalty": 2.0, "presence_penalty": 2.0}
        yard.submit(letter, messages=user("x"), output=output, sampling=sampling)
    for letter, one in yard.run().items():
        assert one["text"][:8] == letter * 8
        assert one["text"][8] != letter


def test_a_job_that_gives_way_within_a_run_goes_on_where_it_was(make_yard: Callable[..., Any]) -> None:
    output = {
        "type": "grammar",
        "grammar": 'root ::= ([ab] "--- and then ---" [cd] "---- it goes on -----"){4}',
    }
    job = {"messages": user("report"), "output": output, "sampling": {"max_tokens": 200}, "priority": 5}
    alone = make_yard(n_slots=1)
    alone.submit("batch", **job)
    text = alone.run()["batch"]["text"]
    for steps in range(1, 8):
        yard = make_yard(n_slots=1)
        yard.submit("batch", **job)
        yard.step(steps)
        yard.submit("now", messages=user("hello"), sampling={"max_tokens": 3}, priority=0)
        done = yard.run()
        assert yard.engine.stats()["retreats"] == 1, steps
        assert done["batch"]["text"] == text
        assert list(done) == ["now", "batch"]
