"""Output forms over a real model: whatever its weights say, the form holds."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import jsonschema
import numpy as np
import pytest

from workers.engine.rows import RowWriter

VERDICT = {
    "type": "object",
    "properties": {
        "verdict": {"enum": ["pass", "fail"]},
        "defect": {"type": ["string", "null"], "maxLength": 6},
        "parts": {
            "type": "array",
            "items": {"type": "string", "pattern": "^[A-Z]{1,2}[0-9]{1,3}$"},
            "maxItems": 2,
        },
        "score": {"type": "integer", "minimum": 0, "maximum": 100},
        "note": {"$ref": "#/$defs/note"},
    },
    "required": ["verdict", "score", "parts"],
    "additionalProperties": False,
    "$defs": {"note": {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}},
}


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.5])
def test_json_is_always_valid_when_it_stopped(make_yard: Callable[..., Any], temperature: float) -> None:
    yard = make_yard(n_ctx=512)
    output = {"type": "json_schema", "schema": VERDICT}
    for at in range(12):
        sampling = {"temperature": temperature, "seed": at, "max_tokens": 250}
        yard.submit(str(at), messages=user(f"report {at}"), output=output, sampling=sampling)
    done = yard.run()
    assert not yard.failed
    stopped = [one for one in done.values() if one["finish_reason"] == "stop"]
    assert stopped
    for one in stopped:
        jsonschema.validate(one["parsed"], VERDICT)
        assert json.loads(one["text"]) == one["parsed"]
    for one in done.values():
        if one["finish_reason"] == "length":
            assert one["parsed"] is None


def test_a_document_that_does_not_fit_is_not_parsed(yard: Any) -> None:
    output = {"type": "json_schema", "schema": VERDICT}
    yard.submit("a", messages=user("x"), output=output, sampling={"max_tokens": 3})
    done = yard.run()["a"]
    assert (done["finish_reason"], done["parsed"]) == ("length", None)


def test_a_grammar_holds_and_chinese_comes_out_whole(yard: Any) -> None:
    grammar = 'root ::= ("合格" | "不合格") " " [A-Z] [0-9]{2,4}'
    for at in range(8):
        sampling = {"temperature": 1.0, "seed": at, "max_tokens": 40}
        yard.submit(
            str(at), messages=user("x"), output={"type": "grammar", "grammar": grammar}, sampling=sampling
        )
    done = yard.run()
    for one in done.values():
        assert one["finish_reason"] == "stop"
        assert re.fullmatch(r"(合格|不合格) [A-Z][0-9]{2,4}", one["text"])
    assert len({one["text"] for one in done.values()}) > 1


def test_constrained_text_is_valid_utf8_even_from_random_weights(yard: Any) -> None:
    grammar = "root ::= [^a-z]{10,30}"
    for at in range(8):
        sampling = {"temperature": 2.0, "seed": at, "max_tokens": 120, "top_k": 0, "min_p": 0.0, "top_p": 1.0}
        yard.submit(
            str(at), messages=user("x"), output={"type": "grammar", "grammar": grammar}, sampling=sampling
        )
    done = yard.run()
    for one in done.values():
        assert one["finish_reason"] == "stop"
        assert "\ufffd" not in one["text"]
        assert 10 <= len(one["text"]) <= 30


def test_a_control_token_never_stands_for_the_text_of_its_name(yard: Any) -> None:
    output = {"type": "grammar", "grammar": 'root ::= "<|user|>" "<|end|>"'}
    for at in range(12):
        sampling = {"temperature": 2.0, "seed": at, "max_tokens": 40, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
        yard.submit(str(at), messages=user("x"), output=output, sampling=sampling)
    done = yard.run()
    assert {one["text"] for one in done.values()} == {"<|user|><|end|>"}


@pytest.mark.parametrize(
    ("output", "code"),
    [
        ({"type": "json_schema", "schema": {"type": "nonsense"}}, "schema_invalid"),
        ({"type": "json_schema", "schema": {"properties": 3}}, "schema_invalid"),
        ({"type": "json_schema", "schema": {"$ref": "#/$defs/none"}}, "schema_invalid"),
        ({"type": "json_schema", "schema": {"$ref": "#"}}, "schema_invalid"),
        ({"type": "json_schema", "schema": False}, "schema_invalid"),
        ({"type": "json_schema", "schema": {"not": {}}}, "schema_invalid"),
        ({"type": "grammar", "grammar": "root ::= ("}, "grammar_invalid"),
        ({"type": "grammar", "grammar": ""}, "grammar_invalid"),
        ({"type": "grammar", "grammar": "root ::= missing"}, "grammar_invalid"),
        ({"type": "grammar", "grammar": 'root ::= root "a" | "b"'}, "grammar_invalid"),
        ({"type": "grammar", "grammar": 'root ::= "a"{5,2}'}, "grammar_invalid"),
        ({"type": "grammar", "grammar": "root ::= " + "(" * 5000}, "grammar_invalid"),
        ({"type": "choices", "choices": ["a", "a"]}, "choices_invalid"),
    ],
)
def test_a_form_that_is_none_harms_nobody_else(yard: Any, output: dict[str, Any], code: str) -> None:
    yard.submit("neighbour", messages=user("hello"), sampling={"max_tokens": 4})
    yard.submit("bad", messages=user("hello"), output=output)
    assert yard.failed["bad"]["code"] == code
    assert yard.failed["bad"]["message"]
    assert "neighbour" in yard.run()


def score_slowly(runtime: Any, prompt: str, label: str) -> float:
    """A label's log-probability, the slow way: one context, one sequence, one decode after the other."""
    context, vocabulary = runtime.context, runtime.vocabulary
    beginning = [vocabulary.bos, *vocabulary.tokenise(prompt).tolist()]
    writer = RowWriter(context.batch)
    context.clear()
    writer.add_run(0, beginning, 0, outputs="last")
    total = 0.0
    for at, token in enumerate(vocabulary.tokenise(label).tolist()):
        assert context.decode(writer.n_rows) == 0
        row = context.logits(1)[0].astype(np.float64)
        total += row[token] - np.log(np.exp(row - row.max()).sum()) - row.max()
        writer.clear()
        writer.add_run(0, [token], len(beginning) + at, outputs="last")
    context.clear()
    return float(total)


@pytest.mark.parametrize("unified", [True, False])
def test_choice_probabilities_equal_brute_force(
    load_tiny: Callable[..., Any], make_yard: Callable[..., Any], unified: bool
) -> None:
    labels = ["pass", "pQx", "qRz", "pZ", "合格"]
    prompt = "verdict: "
    expected = np.exp([score_slowly(load_tiny(), prompt, label) for label in labels])
    expected /= expected.sum()
    yard = make_yard(kv_unified=unified)
    yard.submit("c", prompt=prompt, output={"type": "choices", "choices": labels})
    done = yard.run()["c"]
    probabilities = np.array([done["choice_probabilities"][label] for label in labels])
    assert probabilities.sum() == pytest.approx(1.0)
    assert np.allclose(probabilities, expected, rtol=0.02, atol=1e-6)
    assert done["choice"] == done["text"] == labels[int(expected.argmax())]
    assert done["finish_reason"] == "choice"
    assert done["confidence"]["mean"] == pytest.approx(probabilities.max())


def test_forks_and_one_branch_after_the_other_agree(make_yard: Callable[..., Any]) -> None:
    labels = [
        f"{first}{second}"
        for first in ("solder bridge", "open joint", "尺寸")
        for second in ("", " left", " right 1")
    ]
    found = []
    for unified in (True, False):
        yard = make_yard(kv_unified=unified)
        yard.submit("text", messages=user("beside it"), sampling={"max_tokens": 40})
        for name in ("a", "b"):
            yard.submit(name, messages=user("which defect?"), output={"type": "choices", "choices": labels})
        done = yard.run()
        assert not yard.failed
        assert done["a"]["choice_probabilities"] == pytest.approx(done["b"]["choice_probabilities"], abs=0.02)
        found.append((done["a"]["choice_probabilities"], done["text"]["text"]))
    assert found[0][0] == pytest.approx(found[1][0], abs=0.02)


@pytest.mark.parametrize("unified", [True, False])
def test_labels_of_several_tokens_take_two_steps_where_forks_are_free(
    make_yard: Callable[..., Any], unified: bool
) -> None:
    labels = ["pass", "solder bridge", "open joint", "尺寸"]
    output = {"type": "choices", "choices": labels}
    yard = make_yard(kv_unified=unified)
    yard.submit("free", messages=user("which defect?"), output=output)
    free = yard.run()["free"]
    assert free["timings"]["steps"] == 2
    for at in range(3):
        yard.submit(f"busy {at}", messages=user("write"), sampling={"max_tokens": 60})
    yard.submit("busy", messages=user("which defect?"), output=output)
    busy = yard.run()["busy"]
    assert busy["choice_probabilities"] == pytest.approx(free["choice_probabilities"], abs=0.02)
    assert busy["timings"]["steps"] == 2
    assert yard.engine._memory.free_slots == 4


def test_many_choices_at_once_among_running_texts(make_yard: Callable[..., Any]) -> None:
    yard = make_yard(n_slots=8, n_batch=8)
    labels = [f"label {number}" for number in range(40)]
    for at in range(12):
        if at % 2:
            yard.submit(str(at), messages=user(f"pick {at}"), output={"type": "choices", "choices": labels})
        else:
            yard.submit(str(at), messages=user(f"write {at}"), sampling={"max_tokens": 20})
    done = yard.run()
    assert len(done) == 12
    for at in range(1, 12, 2):
        assert sum(done[str(at)]["choice_probabilities"].values()) == pytest.approx(1.0)


def test_single_token_labels_cost_no_step(yard: Any) -> None:
    yard.submit("a", messages=user("?"), output={"type": "choices", "choices": ["A", "B", "C"]})
    done = yard.run()["a"]
    assert done["timings"]["steps"] == 1
    assert sum(done["choice_probabilities"].values()) == pytest.approx(1.0)


def test_a_label_that_begins_another_one_can_win_or_lose(yard: Any) -> None:
    yard.submit("a", messages=user("?"), output={"type": "choices", "choices": ["A", "AB"]})
    probabilities = yard.run()["a"]["choice_probabilities"]
    assert probabilities["A"] != pytest.approx(1.0, abs=1e-9)


def test_a_label_longer_than_the_room_is_refused(yard: Any) -> None:
    choices = ["x" * 300, "y"]
    yard.submit("a", messages=user("?"), output={"type": "choices", "choices": choices})
    assert yard.failed["a"]["code"] == "prompt_too_long"
    assert yard.failed["a"]["field"] == "output.choices"


def test_images_need_an_image_encoder(yard: Any) -> None:
    part = {"type": "image", "sha256": "0" * 64}
    yard.submit("a", messages=[{"role": "user", "content": [part]}])
    assert yard.failed["a"]["code"] == "images_not_supported"
