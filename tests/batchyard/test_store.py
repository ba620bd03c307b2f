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
