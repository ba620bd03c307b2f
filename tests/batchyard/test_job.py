"""The contract: what a job may be, and what each fault says."""

import pytest

from batchyard.errors import InvalidJob
from batchyard.job import Job, new_job_id, parse_job


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"prompt": ""}, "prompt", "empty"),
        ({"prompt": "  \n"}, "prompt", "empty"),
        ({}, "prompt", "exactly one"),
        ({"prompt": "a", "messages": [{"role": "user", "content": "b"}]}, "prompt", "exactly one"),
        ({"prompt": "a", "sampling": {"temperature": float("nan")}}, "sampling.temperature", "nan"),
        ({"prompt": "a", "sampling": {"max_tokens": -5}}, "sampling.max_tokens", "-5"),
        ({"prompt": "a", "sampling": {"top_p": 2}}, "sampling.top_p", "2"),
        ({"prompt": "a", "colour": "red"}, "colour", "red"),
        ({"prompt": "a", "id": "no spaces please"}, "id", "no spaces please"),
        ({"prompt": "a", "priority": "urgent"}, "priority", "urgent"),
        ({"prompt": "a", "deadline": float("inf")}, "deadline", "inf"),
        ({"prompt": "a", "output": {"type": "json_schema", "schema": 5}}, "output.schema", "object"),
        ({"prompt": "a", "output": {"type": "json_schema", "schema": {"type": "ob"}}}, "output.schema", "ob"),
        ({"prompt": "a", "output": {"type": "grammar", "grammar": "sheep"}}, "output.grammar", "root"),
        ({"prompt": "a", "output": {"type": "choices", "choices": ["x"]}}, "output.choices", "2"),
        ({"prompt": "a", "output": {"type": "choices", "choices": ["x", "x"]}}, "output.choices", "differ"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role", "robot"),
    ],
)  # fmt: skip
def test_a_fault_names_its_field_value_and_remedy(fields: dict, field: str, words: str) -> None:
    with pytest.raises(InvalidJob) as caught:
        parse_job(fields)
    assert caught.value.field == field
    assert words in str(caught.value)
    assert caught.value.remedy


def test_invalid_utf8_is_refused_as_text_and_as_bytes() -> None:
    for prompt in ("half a pair \ud800", b"\xff\xfe\x00bytes"):
        with pytest.raises(InvalidJob) as caught:
            parse_job({"prompt": prompt})
        assert caught.value.field == "prompt"
        assert "decode the bytes" in str(caught.value)


def test_ten_megabytes_are_refused_by_size_and_the_text_is_not_repeated() -> None:
    with pytest.raises(InvalidJob) as caught:
        parse_job({"prompt": "x" * 10_000_000})
    assert caught.value.code == "prompt_too_large"
    assert "10,000,000" in str(caught.value)
    assert len(str(caught.value)) < 300


def test_the_wire_form_gives_the_same_job_back() -> None:
    job = Job.model_validate(
        {
            "task": "defect_detect",
            "messages": [
                {"role": "system", "content": "Look."},
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "板"}, {"type": "image", "sha256": "a" * 64}],
                },
            ],
            "sampling": {"temperature": 0.5, "stop": ["\n"], "seed": 7},
            "output": {"type": "json_schema", "schema": {"type": "object"}},
            "priority": "interactive",
            "deadline": 2e9,
            "metadata": {"line": 3, "nested": {"a": [1, None]}},
        }
    )
    assert Job.model_validate(job.wire()) == job
    assert job.priority == 0
    assert job.text == "板"
    assert job.images == ("a" * 64,)


def test_the_wire_form_leaves_defaults_out() -> None:
    assert set(Job(prompt="hello").wire()) == {"id", "prompt"}


def test_ids_sort_by_time_and_differ() -> None:
    ids = [new_job_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert ids[0][:9] <= ids[-1][:9]
    assert all(len(job_id) == 26 for job_id in ids)


def test_a_job_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Job(prompt="a").prompt = "b"  # type: ignore[misc]
