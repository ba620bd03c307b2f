"""The watcher sees every state, end and entry of a job once, on a real Redis that goes and comes back."""

import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest
import redis

from batchyard import store
from batchyard.client import Client
from batchyard.settings import Settings
from batchyard.states import State
from benchmarks.chaos.ending import left_over, read_ending
from benchmarks.chaos.ledger import Ledger
from benchmarks.chaos.own_redis import OwnRedis
from benchmarks.chaos.pieces import Piece, pieces
from benchmarks.chaos.verdict import LOST, judge
from benchmarks.chaos.watch import Watcher

SECONDS = 30.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OwnRedis]:
    server = OwnRedis(tmp_path)
    try:
        server.await_up()
        yield server
    finally:
        server.end()


@pytest.fixture
def watched(server: OwnRedis) -> Iterator[Ledger]:
    ledger = Ledger()
    watcher = Watcher(server.url, ledger)
    watcher.start()
    yield ledger
    watcher.stop()
    assert watcher.failure is None


def until(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)


def submit(server: OwnRedis, ledger: Ledger) -> Piece:
    piece = next(piece for piece in islice(pieces(1, []), 50) if piece.kind == "mark")
    ledger.hand_over([piece])
    with Client(Settings(redis_url=server.url)) as client:
        client.submit({**piece.body, "id": piece.id, "batch": piece.batch})
    ledger.accept([piece.id])
    return piece


def put(server: OwnRedis, piece: Piece, state: State, result: object) -> None:
    document = store.state_document(piece.id, state, result)
    with redis.Redis.from_url(server.url) as client:
        store.run(client, store.finish([(piece.id, piece.batch, state, document)], 600))


def answer(piece: Piece) -> dict[str, object]:
    provenance = {"worker": "w0-1@host"}
    metadata = dict(piece.body["metadata"])
    return {"job_id": piece.id, "parsed": piece.mark, "metadata": metadata, "provenance": provenance}


def test_from_submission_to_its_one_end(server: OwnRedis, watched: Ledger) -> None:
    piece = submit(server, watched)
    (record,) = watched.records()
    until(lambda: record.state == "QUEUED")
    put(server, piece, State.STARTED, {"hostname": "w0-1@host"})
    until(lambda: watched.started_by("w0-1") == [piece.id])
    put(server, piece, State.SUCCESS, answer(piece))
    until(lambda: record.final is not None and record.announced == 1)
    until(lambda: list(watched.entries[piece.batch].values()) == [piece.id])
    assert [(seen.state, seen.worker) for seen in record.seen] == [
        ("QUEUED", ""), ("STARTED", "w0-1"), ("SUCCESS", "w0-1")
    ]  # fmt: skip
    assert record.fault is None
    assert watched.sign_of("w0-1") > 0
    assert watched.open_count() == 0


def test_through_a_redis_that_is_killed_and_comes_back(server: OwnRedis, watched: Ledger) -> None:
    piece = submit(server, watched)
    (record,) = watched.records()
    until(lambda: record.state == "QUEUED")
    server.kill(time.monotonic(), 0.3)
    until(lambda: server.tend(time.monotonic()))
    assert len(server.outages) == 1
    put(server, piece, State.SUCCESS, answer(piece))
    until(lambda: record.final is not None)
    until(lambda: len(watched.entries[piece.batch]) == 1)


def test_what_is_still_queued_is_left_over_and_lost(server: OwnRedis, watched: Ledger) -> None:
    submit(server, watched)
    with redis.Redis.from_url(server.url) as client:
        assert len(left_over(client)) > 0
        ending = read_ending(client, watched.records(), patience=0.0)
        client.flushall()
        assert left_over(client) == {}
    assert {violation.kind for violation in judge(watched.records(), watched.entries, ending)} >= {
        LOST, "left over"
    }  # fmt: skip


def test_a_stopped_redis_goes_on(server: OwnRedis) -> None:
    began = time.monotonic()
    server.stop(began, 0.4)
    assert not server.tend(began)
    assert not server.steady
    until(lambda: server.tend(time.monotonic()))
    assert server.outages[0].end - began >= 0.4
