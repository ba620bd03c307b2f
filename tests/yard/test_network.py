"""The network between the yard and its Redis fails in every way; everybody goes on by himself."""

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import redis

from batchyard.aclient import AsyncClient
from batchyard.app import make_app
from batchyard.client import Client
from batchyard.errors import YardUnavailable
from batchyard.names import UNACKED_KEY
from local.redis_server import start_redis
from tests.workers.test_worker import endless
from tests.yard.cut import Cable
from tests.yard.roles import READY, Role, Roles, cabled, until

pytestmark = pytest.mark.yard

QUICK = {"prompt": "Board A17: solder bridge at U12, pin 3 to pin 4.", "task": "defect_detect"}


@dataclass(frozen=True)
class Yard:
    """A router, a worker and a client, each behind its own cable, and a look at Redis past all of them."""

    router: Role
    worker: Role
    client: Client
    cables: tuple[Cable, Cable, Cable]
    raw: redis.Redis

    def fill(self, batch: str, quick: int = 12) -> None:
        """Submit a batch and wait until the worker has all it can hold of it."""
        slow = [endless(f"{batch}-{number}", task="defect_detect") for number in range(8)]
        self.client.submit_many(
            [*slow, *({**QUICK, "id": f"{batch}-q{n}"} for n in range(quick))], batch=batch
        )
        until(lambda: self.raw.hlen(UNACKED_KEY) >= 4, "the worker to be full")

    def answers(self, batch: str) -> None:
        """Every job of the batch ends well, and both roles have lived through it."""
        results = list(self.client.results(batch, timeout=90))
        assert [result.error for result in results if not result.ok] == []
        assert len({result.job_id for result in results}) == len(results) == self.client.batch(batch).total
        assert self.router.alive
        assert self.worker.alive


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    folder = tmp_path_factory.mktemp("network")
    server = start_redis(folder / "redis", append_only=False, password="tests-only")
    roles = Roles(folder, server.url)
    try:
        router, worker, cable = roles.router(), roles.worker(), roles.cable()
        router.says(READY)
        worker.says(READY)
        with redis.Redis.from_url(server.url) as raw, Client(cabled(cable)) as client:
            yield Yard(router, worker, client, (router.cable, worker.cable, cable), raw)
    finally:
        roles.end()
        server.stop()


def test_connections_that_fell_silent_are_noticed_and_made_anew(yard: Yard) -> None:
    yard.fill("silent")
    for cable in yard.cables:
        cable.darken()
        cable.mend()
    yard.answers("silent")
    yard.client.submit_many([QUICK] * 4, batch="after-silence")
    yard.answers("after-silence")
    control = make_app(cabled(yard.cables[2])).control
    until(lambda: len(control.ping(timeout=0.5)) == 2, "remote control to reach both again")


def test_in_the_dark_clients_are_told_and_the_yard_waits(yard: Yard) -> None:
    yard.fill("dark")
    for cable in yard.cables:
        cable.darken()
    with pytest.raises(YardUnavailable) as caught:
        yard.client.submit(QUICK)
    assert (caught.value.code, caught.value.retryable) == ("yard_unavailable", True)

    async def ask() -> None:
        async with AsyncClient(cabled(yard.cables[2])) as client:
            await client.status("dark-0")

    with pytest.raises(YardUnavailable) as caught:
        asyncio.run(ask())
    assert caught.value.code == "yard_unavailable"
    for cable in yard.cables:
        cable.mend(delay=0.01)
    yard.answers("dark")


def test_redis_away_for_longer_than_anybody_is_patient(yard: Yard) -> None:
    yard.fill("away")
    yard.router.cable.cut_at(b"Board A99")  # with a chunk in its hands
    later = [{**QUICK, "prompt": "Board A99: R7 missing."}] * 4
    yard.client.submit_many(later, batch="later")
    until(lambda: yard.router.cable.is_cut, "the router to publish the chunk")
    for cable in yard.cables:
        cable.cut()
    with pytest.raises(YardUnavailable):
        yard.client.status("away-0")
    yard.router.says("jobs go back to the queue")
    assert yard.worker.alive
    for cable in yard.cables:
        cable.mend()
    yard.answers("away")
    yard.answers("later")
    assert re.search(r"[1-9]\d* messages go on here", yard.worker.text())
