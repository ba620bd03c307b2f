"""What the scripts promise when chunks are large and names look like keys."""

from collections.abc import Iterator

import pytest
import redis

from batchyard import names, store
from batchyard.client import Client
from batchyard.settings import Settings
from batchyard.states import State
from tests.waiting import messages


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    with Client(settings) as client:
        yield client


def test_the_largest_chunk_is_taken_whole(client: Client, settings: Settings) -> None:
    jobs = ({"id": f"j{number}", "prompt": "x"} for number in range(10_000))
    assert client.submit_many(jobs, batch="large", chunk_size=10_000).submitted == 10_000
    assert client.batch("large").total == 10_000
    with redis.Redis.from_url(settings.url) as raw:
        assert len(messages(raw, names.ROUTE_QUEUE)) == 1
        assert raw.llen(names.batch_jobs_key("large")) == 10_000


def test_batches_named_like_each_others_keys_do_not_meet(client: Client, settings: Settings) -> None:
    batches = ["b", "b:jobs", "b:done", "jobs:b"]
    for batch in batches:
        client.submit_many([{"id": f"{batch}-1", "prompt": "x"}], batch=batch)
    with redis.Redis.from_url(settings.url) as raw:
        for batch in batches:
            document = store.state_document(f"{batch}-1", State.SUCCESS, {"text": batch})
            store.run(raw, store.finish([(f"{batch}-1", batch, State.SUCCESS, document)], 60))
    for batch in batches:
        assert [result.text for result in client.results(batch)] == [batch]


def test_queues_named_like_each_others_bells_do_not_meet() -> None:
    assert names.bell_key("model.a") != names.model_queue("a:bell")


@pytest.mark.parametrize(
    "document",
    [
        {"status": "SUCCESS"},
        {"status": "SUCCESS", "result": None},
        {"status": "SUCCESS", "result": "an answer"},
        {"status": "SUCCESS", "result": {"text": 5}},
        {"status": "SUCCESS", "result": {"text": "half a pair \ud800"}},
        {"status": "SUCCESS", "result": {"timings": {"queue_s": float("nan")}}},
        {"status": "SUCCESS", "result": {"embedding": "no base64"}},
    ],
    ids=range(7),
)
def test_a_result_that_cannot_be_read_is_a_failure_of_its_job(document: dict) -> None:
    result = store.result_of("J1", document)
    assert result is not None and result.error is not None
    assert (result.job_id, result.state, result.error.code) == ("J1", State.FAILURE, "result_unreadable")
    assert result.model_dump_json()


@pytest.mark.parametrize("document", [[], "SUCCESS", 5, {}, {"status": ["SUCCESS"]}, {"status": {"a": 1}}])
def test_a_document_that_is_none_of_ours_is_no_result(document: object) -> None:
    assert store.result_state(document) is State.STARTED  # type: ignore[arg-type]
    assert store.result_of("J1", document) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "words",
    [
        [5, "code", None, None, False],
        ["m", "c", "f", "r", "perhaps"],
        ["\ud800", "c", None, None, True],
        [{}],
    ],
)
def test_an_error_that_is_not_as_ours_are_is_shown_as_it_is(words: list[object]) -> None:
    value = {"exc_type": "InvalidJob", "exc_module": "batchyard.errors", "exc_message": words}
    result = store.result_of("J1", {"status": "FAILURE", "result": value})
    assert result is not None and result.error is not None and result.error.code == "job_failed"
    assert result.error.message.startswith("InvalidJob: ")
    assert result.model_dump_json()


def test_the_name_of_an_error_that_cannot_be_written_is_shown_escaped() -> None:
    value = {
        "exc_type": "\ud800",
        "exc_module": "batchyard.errors",
        "exc_message": ["m", "c", None, None, False],
    }
    result = store.result_of("J1", {"status": "FAILURE", "result": value})
    assert result is not None and result.error is not None and result.error.kind == "\\ud800"
    assert result.model_dump_json()


def test_a_success_with_an_error_beside_it_is_a_success() -> None:
    document = {"status": "SUCCESS", "result": {"text": "a", "error": {"code": "c", "message": "m"}}}
    result = store.result_of("J1", document)
    assert result is not None and result.ok and result.error is None
