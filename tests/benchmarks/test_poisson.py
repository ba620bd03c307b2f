"""Open-loop arrivals at a real engine: every job is accounted for."""

from collections.abc import Iterator

import pytest

from batchyard.catalogue import load_catalogue
from benchmarks.child import ROOT
from benchmarks.engine_client import engine_child
from benchmarks.poisson import LONG, MODEL, REPORT, Mix, Run, body_of, capacity, run
from workers.engine_process import EngineProcess


@pytest.fixture(scope="module")
def mix() -> Mix:
    return Mix(load_catalogue(ROOT / "configs/models.yaml"))


@pytest.fixture(scope="module")
def engine() -> Iterator[EngineProcess]:
    with engine_child(MODEL, slots=4, n_ctx=256, n_batch=256, threads=1) as engine:
        yield engine


def test_every_fifth_job_is_a_long_one_without_a_deadline(mix: Mix) -> None:
    offers = list(mix.offers([0.0] * 10, deadline=1.0))
    assert [offer.kind for offer in offers].count(LONG) == 2
    assert {offer.kind: offer.deadline for offer in offers} == {REPORT: 1.0, LONG: None}
    assert len({str(offer.request["messages"]) for offer in offers}) == 10


def test_each_job_is_counted_once(engine: EngineProcess, mix: Mix) -> None:
    assert capacity(engine, mix, slots=4, jobs=8) > 0
    found = run(engine, list(mix.offers([0.001 * number for number in range(20)], deadline=60.0)))
    assert found.offered == {REPORT: 16, LONG: 4}
    assert {kind: len(latencies) for kind, latencies in found.latencies.items()} == found.offered
    assert (found.in_time, found.refused, found.share_in_time) == (16, 0, 1.0)


def test_what_cannot_be_in_time_is_no_latency(engine: EngineProcess, mix: Mix) -> None:
    found = run(engine, list(mix.offers([0.0] * 10, deadline=-1.0)))
    assert (found.refused, found.in_time, found.latencies[REPORT]) == (8, 0, [])
    assert len(found.latencies[LONG]) == 2


def test_the_table_has_a_row_for_each_load_and_control() -> None:
    done = Run({REPORT: [0.1, 0.3], LONG: [1.0]}, {REPORT: 4, LONG: 1}, in_time=1, refused=2, lag=0.002)
    rows = body_of({(0.5, False): [done], (0.5, True): [done]}, "limits").splitlines()[4:]
    assert [row.split() for row in rows] == [
        ["50", "%", "of", "capacity", control, "4", "100", "300", "25.0", "2", "1000", "1000", "2"]
        for control in ("off", "on")
    ]
