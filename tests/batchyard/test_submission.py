"""From items to chunks, without a Redis: what is compared, where chunks are cut, who is told what."""

import json
from typing import Any

import pytest

from batchyard import submission
from batchyard.errors import InvalidConfig, InvalidJob, YardError
from batchyard.job import Job
from batchyard.submission import Intake, Known, OnError, Prepared, Pushed, Refusal, batch_name, prepare

LIMIT = 10_000_000


def intake(items: object, size: int = 500, on_error: OnError | None = None) -> Intake:
    return Intake(items, "b", Known(), LIMIT, size, on_error)  # type: ignore[arg-type]


def rows(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [{"id": f"j{number}", "prompt": "x"} | fields for number in range(count)]


def test_the_body_is_the_job_and_the_batch_is_no_part_of_the_digest() -> None:
    item = {"id": "a", "prompt": "板", "metadata": {"line": 1}}
    alone, first, second = (prepare(item, Known(), LIMIT, batch) for batch in (None, "one", "two"))
    assert alone.digest == first.digest == second.digest
    assert prepare(item | {"batch": "one"}, Known(), LIMIT).digest == alone.digest
    assert prepare(item | {"prompt": "other"}, Known(), LIMIT).digest != alone.digest
    assert json.loads(alone.body) == item
    assert json.loads(first.body) == item | {"batch": "one"}
    assert Job.model_validate(json.loads(first.body)).batch == "one"
    for prepared in (alone, first):
        assert prepared.size == len(prepared.body.encode())


def test_chunks_are_cut_by_count_and_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [len(chunk) for chunk in intake(rows(7), size=3).chunks()] == [3, 3, 1]
    monkeypatch.setattr(submission, "CHUNK_BYTES", 1000)
    chunks = list(intake([*rows(8, prompt="x" * 250), {"id": "big", "prompt": "x" * 5000}]).chunks())
    assert [len(chunk) for chunk in chunks] == [3, 3, 2, 1]
    assert all(sum(job.size for job in chunk) <= 1000 for chunk in chunks[:-1])


def test_four_megabytes_are_about_the_most_in_one_chunk() -> None:
    chunks = list(intake(rows(10, prompt="x" * 900_000)).chunks())
    assert [len(chunk) for chunk in chunks] == [4, 4, 2]


@pytest.mark.parametrize("size", [0, -5, 10_001, 2.5])
def test_a_chunk_size_out_of_bounds_is_named(size: Any) -> None:
    with pytest.raises(InvalidConfig) as caught:
        intake(rows(1), size=size)
    assert caught.value.field == "chunk_size"
    assert str(size) in str(caught.value)


def test_nothing_that_a_caller_hands_in_aborts_the_others() -> None:
    deep: Any = "x"
    for _ in range(3000):
        deep = [deep]
    tampered = Job(id="tampered", prompt="x", metadata={"a": 1})
    tampered.metadata["a"] = b"\xff"  # type: ignore[assignment]
    bad: list[Any] = [
        {"prompt": "x", "output": {"type": "json_schema", "schema": {"type": [["a"]]}}},
        {"prompt": "x", "output": {"type": "json_schema", "schema": {"const": deep}}},
        {"prompt": "x", "metadata": {"a": deep}},
        {"prompt": "x", "metadata": {"a": "\ud800"}},
        {"prompt": "x", "output": {"type": "choices", "choices": ["a", "\ud800"]}},
        {"prompt": "x", "sampling": {"stop": ["\ud800"]}},
        {"prompt": "x", "priority": 10**5000},
        {"prompt": "x", "metadata": {"a": 10**5000}},
        {"prompt": deep},
        deep,
        None,
        7,
        "text",
        {1: 2},
        tampered,
    ]
    refused: list[tuple[int, object, YardError]] = []
    items = [item for one in bad for item in (one, {"prompt": "good"})]
    work = intake(items, on_error=lambda *told: refused.append(told))
    assert [len(chunk) for chunk in work.chunks()] == [len(bad)]
    assert [index for index, _, _ in refused] == list(range(0, len(items), 2))
    assert all(item is items[index] for index, item, _ in refused)
    assert all(isinstance(error, InvalidJob) and error.remedy for _, _, error in refused)
    assert refused[-1][2].field == "metadata"
    assert work.handle().refused == len(bad)


def test_without_a_handler_what_stands_before_the_bad_item_comes_first() -> None:
    chunks = intake([*rows(2), {"prompt": ""}, {"prompt": "later"}]).chunks()
    assert [job.id for job in next(chunks)] == ["j0", "j1"]
    with pytest.raises(InvalidJob) as caught:
        next(chunks)
    assert "item 2 of the input" in caught.value.__notes__[0]


def refusal(job: Prepared) -> Refusal:
    return Refusal(job, InvalidJob("no", field="id"))


def test_what_was_pushed_is_counted_and_what_was_refused_is_reported() -> None:
    items = rows(5)
    told: list[tuple[int, object]] = []
    work = intake(items, on_error=lambda index, item, _error: told.append((index, item)))
    (chunk,) = work.chunks()
    work.add(Pushed(2, 1, (refusal(chunk[1]), refusal(chunk[4]))))
    handle = work.handle()
    assert (handle.submitted, handle.duplicates, handle.refused) == (2, 1, 2)
    assert told == [(1, items[1]), (4, items[4])]
    strict = intake(items)
    with pytest.raises(InvalidJob):
        strict.add(Pushed(1, 0, (refusal(chunk[1]),)))
    assert strict.handle().submitted == 1


@pytest.mark.parametrize(
    ("item", "own", "batch", "found"),
    [
        ({}, "acme", None, ("acme", "acme~j", "")),
        ({"batch": "b"}, "acme", None, ("acme", "acme~j", "acme~b")),
        ({"id": "acme~j", "batch": "acme~b"}, "acme", None, ("acme", "acme~j", "acme~b")),
        ({"tenant": "acme"}, "acme", "acme~p", ("acme", "acme~j", "acme~p")),
        ({"batch": "beta~b"}, "acme", "acme~p", ("acme", "acme~j", "acme~p")),
        ({}, "default", None, ("default", "j", "")),
        ({"tenant": "acme", "batch": "b"}, "default", None, ("acme", "acme~j", "acme~b")),
        ({"tenant": "acme", "id": "acme~j"}, "default", None, ("acme", "acme~j", "")),
    ],
)
def test_a_job_gets_its_tenant_and_full_names(
    item: dict[str, Any], own: str, batch: str | None, found: tuple[str, str, str]
) -> None:
    for row in ({"id": "j", "prompt": "x"} | item, Job(**({"id": "j", "prompt": "x"} | item))):
        job = prepare(row, Known(), LIMIT, batch, own=own)
        assert (job.tenant, job.id, job.batch) == found
        body = json.loads(job.body)
        assert (body.get("tenant", "default"), body["id"], body.get("batch", "")) == found
        assert Job.model_validate(body).tenant == job.tenant


@pytest.mark.parametrize(
    ("item", "own", "batch", "field", "words"),
    [
        ({"tenant": "beta"}, "acme", None, "tenant", "this client is acme's"),
        ({"tenant": "default"}, "acme", None, "tenant", "the job is default's"),
        ({"tenant": "beta"}, "default", "b", "tenant", "in a batch beta~NAME"),
        ({"id": "acme~j", "tenant": "beta"}, "default", None, "id", "'acme~j' is the tenant acme's"),
        ({"id": "acme~j"}, "default", None, "id", "'acme~j' is the tenant acme's"),
        ({"id": "default~j"}, "default", None, "id", "write 'j'"),
        ({"batch": "acme~b"}, "beta", None, "batch", "'acme~b' is the tenant acme's"),
    ],
)
def test_what_is_another_tenants_is_refused(
    item: dict[str, Any], own: str, batch: str | None, field: str, words: str
) -> None:
    with pytest.raises(InvalidJob) as caught:
        prepare({"id": "j", "prompt": "x"} | item, Known(), LIMIT, batch, own=own)
    assert (caught.value.code, caught.value.field) == ("wrong_tenant", field)
    assert words in str(caught.value)


def test_a_batch_is_its_clients_and_a_gateway_may_name_any() -> None:
    assert batch_name("b", "acme") == batch_name("acme~b", "acme") == "acme~b"
    assert (batch_name("b"), batch_name("acme~b")) == ("b", "acme~b")
    assert batch_name(None, "acme").startswith("acme~")
    for batch, own in (("beta~b", "acme"), ("default~b", "default")):
        with pytest.raises(InvalidJob) as caught:
            batch_name(batch, own)
        assert caught.value.field == "batch"


def test_the_jobs_of_a_pile_are_its_batchs_tenants() -> None:
    told: list[int] = []
    items = [*rows(2), {"prompt": "x", "tenant": "beta"}]
    work = Intake(items, "acme~b", Known(), LIMIT, 500, lambda index, _item, _error: told.append(index))
    [chunk] = work.chunks()
    assert [(job.tenant, job.id, job.batch) for job in chunk] == [
        ("acme", "acme~j0", "acme~b"),
        ("acme", "acme~j1", "acme~b"),
    ]
    assert told == [2]


def test_what_stands_beside_the_text_is_bounded_and_its_largest_field_named() -> None:
    large = {"id": "a", "prompt": "x" * 3_000_000, "metadata": {"page": "y" * 1_040_000}}
    assert prepare(large, Known(), LIMIT).size > 4_000_000
    with pytest.raises(InvalidJob) as caught:
        prepare(large | {"metadata": {"page": "y" * 1_050_000}}, Known(), LIMIT)
    assert (caught.value.code, caught.value.field) == ("job_too_large", "metadata")


def test_a_prompt_within_its_limit_is_never_too_large_for_how_json_writes_it() -> None:
    prepared = prepare({"id": "a", "prompt": "\x01" * 1_000_000}, Known(), LIMIT)
    assert prepared.size > 6_000_000
