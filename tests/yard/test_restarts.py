"""Redis, routers and workers are stopped and started again under load; no job is lost, none fails."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
import redis

from batchyard import names
from batchyard.client import Client
from batchyard.errors import UnknownJob
from batchyard.names import UNACKED_KEY
from batchyard.settings import Settings
from local.redis_server import RedisServer, start_redis
from tests.workers.test_worker import endless
from tests.yard.roles import READY, Role, Roles, until

pytestmark = pytest.mark.yard

QUICK = {"prompt": "Board A17: solder bridge at U12, pin 3 to pin 4.", "task": "defect_detect"}
GIVEN_BACK_BY_LEASE = "whose consumer is gone were given back"


@contextmanager
def started(folder: Path) -> Iterator[tuple[Roles, RedisServer]]:
    """A Redis with an append-only file, and whatever the test starts."""
    server = start_redis(folder / "redis", append_only=True, password="tests-only")
    roles = Roles(folder, server.url)
    try:
        yield roles, server
    finally:
        roles.end()
        server.stop()


def answered(client: Client, batch: str) -> int:
    """Wait until every job of a batch has ended well; returns how many."""
    results = list(client.results(batch, timeout=90))
    assert [result.error for result in results if not result.ok] == []
    assert len({result.job_id for result in results}) == len(results)
    return len(results)


class Load:
    """A caller that submits ten jobs, waits for their results, and so on, until it is told to stop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stop = threading.Event()
        self.answered = 0
        self._fault: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            with Client(self._settings) as client:
                for number in count():
                    if self._stop.is_set():
                        return
                    batch = f"load-{number}"
                    client.submit_many([QUICK] * 10, batch=batch)
                    self.answered += answered(client, batch)
        except BaseException as exc:  # noqa: BLE001  # told to whoever stops the load
            self._fault = exc

    def goes_on(self) -> None:
        """Wait until twenty more jobs have been answered."""
        goal = self.answered + 20
        until(lambda: self.answered >= goal or self._fault is not None, "answers under load")
        assert self._fault is None, repr(self._fault)

    def stop(self) -> None:
        """Let the last batch end."""
        self._stop.set()
        self._thread.join()
        assert self._fault is None, repr(self._fault)


def test_redis_is_killed_restarted_and_comes_back_empty(tmp_path: Path) -> None:
    with started(tmp_path) as (roles, server):
        cables = [roles.cable(), roles.cable()]
        for cable in cables:
            cable.cut()
        router, worker = roles.router(cables[0]), roles.worker(cables[1])
        for role in (router, worker):
            role.says("Redis does not answer")
        for cable in cables:
            cable.mend()
        for role in (router, worker):
            role.says(READY)
        settings = Settings(redis_url=roles.cable().url)
        with Client(settings) as client:
            jobs = [endless(f"k-{number}", task="defect_detect") for number in range(12)]
            client.submit_many(jobs, batch="killed", chunk_size=4)
            until(lambda: client.batch("killed").done > 0, "the first result")
            server.process.kill()
            server.process.wait()
            again = start_redis(tmp_path / "redis", append_only=True, password="tests-only")
            try:
                roles.move(again.port)
                assert answered(client, "killed") == 12
            finally:
                again.stop()
            empty = start_redis(tmp_path / "empty", append_only=True, password="tests-only")
            try:
                roles.move(empty.port)
                with redis.Redis.from_url(empty.url) as raw:
                    until(lambda: bool(raw.exists(names.CATALOGUE_KEY)), "the router to be back")
                with pytest.raises(UnknownJob):
                    client.result("k-0", timeout=5)
                client.submit_many([QUICK] * 5, batch="new")
                assert answered(client, "new") == 5
                assert router.alive
                assert worker.alive
            finally:
                empty.stop()


def test_a_rolling_restart_under_load(tmp_path: Path) -> None:
    with started(tmp_path) as (roles, server):
        workers, routers = [roles.worker(), roles.worker()], [roles.router(), roles.router()]
        for role in roles.roles:
            role.says(READY)
        settings = Settings(redis_url=server.url)
        with Client(settings) as client:
            client.submit_many([QUICK] * 100, batch="long", chunk_size=10)
            load = Load(settings)
            try:
                for old, start in ((routers[0], roles.router), (workers[0], roles.worker)):
                    load.goes_on()
                    assert old.ends(signal.SIGTERM) == 0
                    start().says(READY)
                for old in (routers[1], workers[1]):
                    load.goes_on()
                    assert old.ends(signal.SIGTERM) == 0
                load.goes_on()
            finally:
                load.stop()
            assert answered(client, "long") == 100
        with redis.Redis.from_url(server.url) as raw:
            until(lambda: raw.hlen(UNACKED_KEY) == 0, "every message to be acknowledged")
        assert not any(GIVEN_BACK_BY_LEASE in role.text() for role in roles.roles)


def test_whoever_is_told_to_stop_ends_in_time_and_his_jobs_go_to_others(tmp_path: Path) -> None:
    with started(tmp_path) as (roles, server):
        router = roles.router()
        hanging, cut_off, interrupted, heir = (roles.worker(drain=drain) for drain in (0.5, 0.5, 600.0, 30.0))
        for role in roles.roles:
            role.says(READY)
        others = [cut_off, interrupted, heir]
        for role in others:
            role.process.send_signal(signal.SIGSTOP)
        with Client(Settings(redis_url=server.url)) as client, redis.Redis.from_url(server.url) as raw:
            jobs = [endless(f"s-{number}", task="defect_detect") for number in range(4)]
            # its engine hangs: it ends after the drain limit, and gives the jobs back
            hanging.engine.suspend()
            client.submit_many(jobs, batch="stopped")
            _holds(raw, 4)
            assert hanging.ends(signal.SIGTERM, signal.SIGTERM) == 0
            assert raw.hlen(UNACKED_KEY) == 0
            assert GIVEN_BACK_BY_LEASE not in router.text()
            # Redis is away from it: it ends as well, and the leases give the jobs back
            cut_off.engine.suspend()
            _goes_on(cut_off)
            _holds(raw, 4)
            cut_off.cable.cut()
            assert cut_off.ends(signal.SIGTERM) == 0
            router.says(GIVEN_BACK_BY_LEASE)
            # it is interrupted twice, and does not wait for its engine
            interrupted.engine.suspend()
            _goes_on(interrupted)
            _holds(raw, 4)
            interrupted.process.send_signal(signal.SIGINT)
            interrupted.says("initiate cold shutdown")
            interrupted.ends(signal.SIGINT)
            _goes_on(heir)
            assert answered(client, "stopped") == 4
            # a router without Redis ends, too
            router.cable.cut()
            router.says("Trying again in")
            assert router.ends(signal.SIGTERM) == 0


def _goes_on(role: Role) -> None:
    role.process.send_signal(signal.SIGCONT)


def _holds(raw: redis.Redis, jobs: int) -> None:
    until(lambda: raw.hlen(UNACKED_KEY) == jobs, f"a worker to hold {jobs} jobs")
