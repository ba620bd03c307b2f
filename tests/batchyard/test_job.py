"""The contract: what a job may be, and what each fault says."""

from collections.abc import Callable

import jsonschema
import pytest

from batchyard.errors import InvalidJob
from batchyard.job import Job, new_job_id, parse_job
from batchyard.jsonvalue import MAX_DEPTH


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
        ({"prompt": "a", "deadline": 1e18}, "deadline", "1e+18"),
        ({"prompt": "a", "deadline": 30}, "deadline", "30"),
        ({"prompt": "a", "output": {"type": "json_schema", "schema": 5}}, "output.schema", "object"),
        ({"prompt": "a", "output": {"type": "json_schema", "schema": {"type": "ob"}}}, "output.schema", "ob"),
        ({"prompt": "a", "output": {"type": "grammar", "grammar": "sheep"}}, "output.grammar", "root"),
        ({"prompt": "a", "output": {"type": "choices", "choices": ["x"]}}, "output.choices", "2"),
        ({"prompt": "a", "output": {"type": "choices", "choices": ["x", "x"]}}, "output.choices", "differ"),
        ({"prompt": "a", "output": {"type": "embedding", "dimensions": 0}}, "output.dimensions", "0"),
        ({"prompt": "a", "output": {"type": "embedding", "size": 3}}, "output.size", "3"),
        ({"prompt": "a", "tenant": "a~b"}, "tenant", "a~b"),
        ({"prompt": "a", "tenant": "x" * 65}, "tenant", "xxx"),
        ({"prompt": "a", "id": "a~b~c"}, "id", "a~b~c"),
        ({"prompt": "a", "id": "~c"}, "id", "~c"),
        ({"prompt": "a", "batch": "a/b~c"}, "batch", "a/b~c"),
        ({"prompt": "a", "model": "a~c"}, "model", "a~c"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role", "robot"),
    ],
)  # fmt: skip
def test_a_fault_names_its_field_value_and_remedy(fields: dict, field: str, words: str) -> None:
    with pytest.raises(InvalidJob) as caught:
        parse_job(fields)
    assert caught.value.field == field
    assert words in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("fields", "remedy"),
    [
        ({"temperature": 0.5}, "sampling"),
        ({"promt": "x"}, "did you mean prompt?"),
        ({"sampling": {"temprature": 1}}, "did you mean temperature?"),
        ({"colour": "red"}, "metadata"),
        ({"priority": "urgent"}, "interactive"),
        ({"output": "text"}, '{"type": "text"}'),
        ({"deadline": "soon"}, "epoch"),
        ({"tenant": "a:b"}, "64 at most"),
        ({"id": "a b"}, "128 at most"),
    ],
)
def test_the_remedy_leads_to_what_was_meant(fields: dict, remedy: str) -> None:
    with pytest.raises(InvalidJob) as caught:
        parse_job({"prompt": "a", **fields})
    assert remedy in str(caught.value.remedy)


def test_invalid_utf8_is_refused_as_text_and_as_bytes() -> None:
    for prompt in ("half a pair \ud800", b"\xff\xfe\x00bytes"):
        with pytest.raises(InvalidJob) as caught:
            parse_job({"prompt": prompt})
        assert caught.value.field == "prompt"
        assert "decode the bytes" in str(caught.value)


def nested(levels: int, key: str | None = None) -> object:
    value: object = "x"
    for _ in range(levels):
        value = [value] if key is None else {key: value}
    return value


SURROGATE = "half a pair \ud800"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"output": {"type": "json_schema", "schema": {"type": [["a"]]}}}, "output.schema"),
        ({"output": {"type": "json_schema", "schema": {"type": {"a": 1}}}}, "output.schema"),
        ({"output": {"type": "json_schema", "schema": nested(3000, "items")}}, "output.schema"),
        ({"output": {"type": "json_schema", "schema": {"const": nested(3000)}}}, "output.schema"),
        ({"output": {"type": "json_schema", "schema": {"const": float("nan")}}}, "output.schema.const"),
        ({"output": {"type": "json_schema", "schema": {"const": b"x"}}}, "output.schema"),
        ({"output": {"type": "json_schema", "schema": {"enum": [SURROGATE]}}}, "output.schema.enum.0"),
        ({"output": {"type": "json_schema", "schema": {SURROGATE: 1}}}, "output.schema"),
        ({"output": {"type": "choices", "choices": ["a", SURROGATE]}}, "output.choices.1"),
        ({"output": {"type": "grammar", "grammar": SURROGATE}}, "output.grammar"),
        ({"output": {"type": "grammar", "grammar": "rootless ::= x"}}, "output.grammar"),
        ({"output": {"type": "grammar", "grammar": "x ::= root ::="}}, "output.grammar"),
        ({"sampling": {"stop": [SURROGATE]}}, "sampling.stop.0"),
        ({"metadata": {"a": SURROGATE}}, "metadata.a"),
        ({"metadata": {SURROGATE: "a"}}, "metadata"),
        ({"metadata": {"a": nested(3000)}}, "metadata.a"),
        ({"metadata": {"a": float("nan")}}, "metadata.a"),
        ({"metadata": {"a": 10**5000}}, "metadata.a"),
        ({"messages": nested(3000)}, "messages.0"),
        ({"prompt": nested(3000)}, "prompt.0"),
        ({"priority": 10**5000}, "priority"),
        ({"priority": SURROGATE}, "priority"),
        ({"id": SURROGATE}, "id"),
        ({SURROGATE: 1}, "half a pair \\ud800"),
        ({SURROGATE: "x"}, "half a pair \\ud800"),
    ],
)
def test_what_cannot_travel_as_json_is_an_invalid_job(fields: dict, field: str) -> None:
    with pytest.raises(InvalidJob) as caught:
        parse_job({"prompt": "a"} | fields)
    assert caught.value.field == field
    assert caught.value.remedy
    assert str(caught.value).encode()
    assert len(str(caught.value)) < 400


def test_a_job_object_is_looked_at_as_closely_as_its_fields() -> None:
    for job in (
        Job(prompt="a", metadata={"a": SURROGATE}),
        Job(prompt="a", metadata={"a": float("inf")}),
    ):
        with pytest.raises(InvalidJob) as caught:
            parse_job(job)
        assert caught.value.field == "metadata.a"


def test_what_is_nested_within_the_limit_passes() -> None:
    metadata = {"a": nested(MAX_DEPTH - 1)}
    assert parse_job({"prompt": "a", "metadata": metadata}).metadata == metadata


def test_a_grammar_may_put_its_root_rule_anywhere() -> None:
    grammar = 'item ::= "x"\n  root ::= item+'
    assert parse_job({"prompt": "a", "output": {"type": "grammar", "grammar": grammar}}).output is not None


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


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"priority": True}, "priority"),
        ({"priority": "5"}, "priority"),
        ({"max_retries": False}, "max_retries"),
        ({"raw": "yes"}, "raw"),
        ({"raw": 1}, "raw"),
        ({"deadline": "2000000000"}, "deadline"),
        ({"sampling": {"max_tokens": True}}, "sampling.max_tokens"),
        ({"sampling": {"temperature": "0.5"}}, "sampling.temperature"),
        ({"sampling": {"top_k": 2**31}}, "sampling.top_k"),
        ({"sampling": {"repeat_penalty": 1e-9}}, "sampling.repeat_penalty"),
        ({"sampling": {"stop": ["x"] * 65}}, "sampling.stop"),
        ({"output": {"type": "embedding", "normalize": 1}}, "output.normalize"),
        ({"output": {"type": "embedding", "dimensions": 2**31}}, "output.dimensions"),
    ],
)
def test_a_number_is_a_number_within_what_the_engine_takes(fields: dict, field: str) -> None:
    with pytest.raises(InvalidJob) as caught:
        parse_job({"prompt": "a"} | fields)
    assert caught.value.field == field


def test_whole_numbers_may_be_written_with_a_fraction_of_zero() -> None:
    assert parse_job({"prompt": "a", "sampling": {"max_tokens": 5.0}}).sampling.max_tokens == 5


LONG = "k" * 100_000


@pytest.mark.parametrize(
    "fields",
    [
        {LONG: 1},
        {LONG: float("nan")},
        {"metadata": {LONG: {LONG: float("nan")}}},
        {"output": {"type": LONG}},
        {"output": {"type": "text", LONG: 1}},
        {"output": {"type": "json_schema", "schema": {"properties": {LONG: 5}}}},
        {"sampling": {LONG: 1}},
        {"messages": [{"role": LONG, "content": "x"}]},
        {"task": LONG},
    ],
    ids=range(9),
)
def test_an_error_does_not_repeat_what_is_too_long(fields: dict) -> None:
    with pytest.raises(InvalidJob) as caught:
        parse_job({"prompt": "a"} | fields)
    assert len(str(caught.value)) < 1000


def test_an_error_is_one_line_that_can_be_printed() -> None:
    for name in ("a\nforged line", "\x1b[31m", "\u2028"):
        with pytest.raises(InvalidJob) as caught:
            parse_job({"prompt": "a", name: 1})
        assert str(caught.value).isprintable()


def test_the_schema_of_a_job_knows_the_named_priorities() -> None:
    schema = Job.model_json_schema()["properties"]["priority"]
    for value, good in ((0, True), (9, True), ("interactive", True), (10, False), ("5", False)):
        assert jsonschema.Draft202012Validator(schema).is_valid(value) == good


ADDRESSES = [
    "file:///etc/passwd",
    "/etc/passwd",
    "../../secrets/redis_url",
    "http://169.254.169.254/latest",
    "data:image/png;base64,AA",
]


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize(
    "part",
    [
        lambda address: {"type": "image_url", "image_url": {"url": address}},
        lambda address: {"type": "image", "sha256": address},
        lambda address: {"type": "image", "image_url": address},
        lambda address: {"type": "image", "path": address},
        lambda address: {"type": "input_image", "image_url": address},
        lambda address: {"type": "file", "file": {"file_id": address}},
    ],
)
def test_nothing_in_a_message_is_an_address(part: Callable[[str], dict], address: str) -> None:
    with pytest.raises(InvalidJob) as caught:
        parse_job({"messages": [{"role": "user", "content": [part(address)]}]})
    assert str(caught.value.field).startswith("messages.0.content")
    assert caught.value.remedy


def test_who_names_an_address_learns_how_images_come() -> None:
    for part in (
        {"type": "image_url", "image_url": {"url": "http://h/a.png"}},
        {"type": "image", "sha256": "http://h"},
    ):
        with pytest.raises(InvalidJob) as caught:
            parse_job({"messages": [{"role": "user", "content": [part]}]})
        assert "no address or path" in str(caught.value.remedy) and "attach" in str(caught.value.remedy)


@pytest.mark.parametrize(
    "field",
    ["model_path", "mmproj_path", "chat_format", "api_base", "grammar_file", "url", "base_url", "tools"],
)
def test_a_job_cannot_name_files_hosts_or_templates(field: str) -> None:
    form = {"type": "grammar", "grammar": "root ::= a", field: "x"}
    for fields in ({field: "x"}, {"sampling": {field: "x"}}, {"output": form}):
        with pytest.raises(InvalidJob):
            parse_job({"prompt": "x", **fields})
    noted = {field: "file:///etc/passwd"}
    assert parse_job({"prompt": "x", "metadata": noted}).metadata == noted  # which nobody opens


def test_a_job_has_a_bounded_number_of_messages_parts_and_images() -> None:
    image = {"type": "image", "sha256": "f" * 64}
    text = {"type": "text", "text": "x"}

    def messages(count: int, *parts: dict) -> dict:
        return {"messages": [{"role": "user", "content": list(parts)}] * count}

    parse_job(messages(1000, text))
    parse_job(messages(50, text, image, image))
    for job in (messages(1001, text), messages(1, *[text] * 1001), messages(101, image)):
        with pytest.raises(InvalidJob) as caught:
            parse_job(job)
        assert str(caught.value.field).startswith("messages")
        assert len(str(caught.value)) < 500
