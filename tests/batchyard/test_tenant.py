"""Two tenants and a gateway at one real yard: each sees its own, under its own names."""

import asyncio
from collections.abc import Iterator

import pytest
import redis

from batchyard import names, store
from batchyard.aclient import AsyncClient
from batchyard.app import make_app
from batchyard.client import Client
from batchyard.errors import UnknownJob
from batchyard.settings import Settings
from batchyard.states import State
from batchyard.tenant import Tenant
from tests.waiting import chunk_jobs, messages


def settings_of(settings: Settings, tenant: str) -> Settings:
    return settings.model_copy(update={"tenant": tenant})


@pytest.fixture
def acme(settings: Settings) -> Iterator[Client]:
    with Client(settings_of(settings, "acme")) as client:
        yield client


@pytest.fixture
def beta(settings: Settings) -> Iterator[Client]:
    with Client(settings_of(settings, "beta")) as client:
        yield client


@pytest.fixture
def gateway(settings: Settings) -> Iterator[Client]:
    with Client(settings) as client:
        yield client


@pytest.fixture
def raw(settings: Settings) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(settings.url, decode_responses=True) as raw:
        yield raw


def finish(raw: redis.Redis, job_id: str, batch: str = "") -> None:
    document = store.state_document(job_id, State.SUCCESS, {"job_id": job_id, "text": f"of {job_id}"})
    assert store.run(raw, store.finish([(job_id, batch, State.SUCCESS, document)], 60)) == 1


@pytest.mark.parametrize("name", ["J1", "acme~J1"])
def test_short_and_full_names_are_the_same_job_to_its_tenant(name: str) -> None:
    assert (Tenant("acme").full(name), Tenant("acme").short("acme~J1")) == ("acme~J1", "J1")
    assert (Tenant().full(name), Tenant().short(name)) == (name, name)
    assert Tenant("acme").short("acme2~J1") == "acme2~J1"


def test_the_same_id_of_two_tenants_is_two_jobs(
    acme: Client, beta: Client, gateway: Client, raw: redis.Redis
) -> None:
    assert [client.submit(id="J1", prompt="x") for client in (acme, beta, gateway)] == ["J1"] * 3
    finish(raw, "acme~J1")
    assert [client.status("J1") for client in (acme, beta, gateway)] == [
        State.SUCCESS, State.QUEUED, State.QUEUED,
    ]  # fmt: skip
    result = acme.result("J1")
    assert (result.job_id, result.text) == ("J1", "of acme~J1")
    assert acme.result("acme~J1").job_id == "J1"
    assert gateway.result("acme~J1").job_id == "acme~J1"
    assert beta.status("acme~J1") is State.UNKNOWN
    with pytest.raises(UnknownJob, match="'acme~J1'"):
        beta.result("acme~J1", timeout=0)
    assert raw.get(names.open_key("acme")) == "0"
    assert raw.get(names.open_key("beta")) == "1"


def test_a_batch_is_read_and_cancelled_under_its_tenants_name(
    acme: Client, beta: Client, gateway: Client, raw: redis.Redis
) -> None:
    handle = acme.submit_many(({"id": f"J{n}", "prompt": "x"} for n in range(4)), batch="B")
    assert (handle.batch, handle.submitted) == ("B", 4)
    assert beta.submit_many([{"id": "J9", "prompt": "x"}], batch="B").submitted == 1
    for n in range(3):
        finish(raw, f"acme~J{n}", "acme~B")
    results = acme.results("B", timeout=0)
    assert [next(results).job_id for _ in range(2)] == ["J0", "J1"]
    assert next(acme.results("B", after=results.cursor)).job_id == "J2"
    assert next(gateway.results("acme~B")).job_id == "acme~J0"
    assert list(acme.jobs("B")) == list(acme.jobs("acme~B")) == ["J0", "J1", "J2", "J3"]
    status = acme.batch("B")
    assert (status.batch, status.total, status.done) == ("B", 4, 3)
    assert gateway.batch("acme~B").batch == "acme~B"
    assert beta.cancel("acme~J3") == 0
    assert acme.cancel_batch("B") == 1
    assert (acme.status("J3"), beta.status("J9")) == (State.REVOKED, State.QUEUED)
    with pytest.raises(UnknownJob, match="no batch 'C'"):
        next(acme.results("C"))


def test_a_gateway_submits_for_others(gateway: Client, acme: Client, raw: redis.Redis) -> None:
    assert gateway.submit(id="J1", prompt="x", tenant="acme", batch="B") == "acme~J1"
    handle = gateway.submit_many([{"id": "J2", "prompt": "x"}], batch="acme~B")
    assert (handle.batch, handle.submitted) == ("acme~B", 1)
    assert list(acme.jobs("B")) == ["J1", "J2"]
    assert acme.submit(id="J1", prompt="x", batch="B") == "J1"
    bodies = [body for message in messages(raw, names.ROUTE_QUEUE) for body in chunk_jobs(message)]
    assert bodies == [
        {"id": f"acme~J{n}", "prompt": "x", "tenant": "acme", "batch": "acme~B"} for n in (1, 2)
    ]


def test_plain_celery_finds_the_job_under_its_full_name(
    acme: Client, settings: Settings, raw: redis.Redis
) -> None:
    acme.submit(id="J1", prompt="x")
    with make_app(settings) as app:
        result = app.AsyncResult("acme~J1")
        assert result.state == "QUEUED"
        finish(raw, "acme~J1")
        assert result.get(timeout=10)["text"] == "of acme~J1"


def test_the_async_client_speaks_its_tenants_names(settings: Settings, raw: redis.Redis) -> None:
    async def scenario() -> None:
        async with AsyncClient(settings_of(settings, "acme")) as client:
            handle = await client.submit_many([{"id": f"J{n}", "prompt": "x"} for n in range(3)], batch="B")
            assert handle.batch == "B"
            assert await client.submit(id="J9", prompt="x") == "J9"
            waiting = asyncio.create_task(client.result("J0", timeout=20))
            finish(raw, "acme~J0", "acme~B")
            assert (await waiting).job_id == "J0"
            assert await client.statuses(["J0", "acme~J9"]) == [State.SUCCESS, State.QUEUED]
            assert [job_id async for job_id in client.jobs("B")] == ["J0", "J1", "J2"]
            assert (await client.batch("B")).batch == "B"
            assert (await anext(client.results("B"))).job_id == "J0"
            assert await client.cancel_batch("B") == 2
            assert await client.cancel("J9", "J0") == 1

    asyncio.run(scenario())
