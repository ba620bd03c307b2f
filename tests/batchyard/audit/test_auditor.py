"""The auditor with a real Redis and real ledgers, as a process of its own where its death matters."""

import json
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis

from batchyard import names, store
from batchyard.audit import stream
from batchyard.audit.auditor import CLAIM_MS, FORGET_MS, PAGE, Auditor
from batchyard.audit.ledger import Ledger, open_ledger
from batchyard.client import Client
from batchyard.errors import InvalidConfig, JobFailed
from batchyard.settings import Settings
from batchyard.states import State
from local.redis_server import HOST, RedisServer, answers, redis_command, start_redis
from tests.batchyard.audit.conftest import PROVENANCE, ROOT, Finals, Start, answer, everything, until


@pytest.fixture
def auditor(settings: Settings, ledger: Ledger) -> Iterator[Auditor]:
    with redis.Redis.from_url(settings.url) as connection:
        yield Auditor(connection, ledger, "one")


def work_off(auditor: Auditor, finals: Finals) -> None:
    """Step until all is on record."""
    until(lambda: auditor.step() or not finals.waiting())


def test_every_final_state_goes_on_record_with_what_is_known_of_it(
    auditor: Auditor, ledger: Ledger, finals: Finals
) -> None:
    failed = store.failure_document("J2", State.FAILURE, JobFailed("no room", "prompt_too_long"))
    finals.store(
        [
            ("acme~J1", "acme~B", State.SUCCESS, answer("fine")),
            ("J2", "", State.FAILURE, json.loads(failed)["result"]),
        ]
    )
    work_off(auditor, finals)
    [success], [failure] = ledger.results("acme~J1"), ledger.results("J2")
    assert (success.tenant, success.batch, success.state, success.model) == (
        "acme",
        "acme~B",
        "SUCCESS",
        "chat",
    )
    assert json.loads(success.result)["provenance"] == PROVENANCE
    assert success.prompt_sha256 == "b" * 64
    assert (failure.state, failure.error, failure.tenant, failure.batch) == (
        "FAILURE",
        "prompt_too_long",
        "default",
        "",
    )
    assert abs((success.recorded - success.finished).total_seconds()) < 60


def test_a_cancelled_job_goes_on_record(
    auditor: Auditor, ledger: Ledger, finals: Finals, settings: Settings
) -> None:
    auditor.step()
    with Client(settings) as client:
        client.submit_many([{"id": "J1", "prompt": "x"}], batch="B")
        assert client.cancel("J1") == 1
    work_off(auditor, finals)
    [record] = ledger.results("J1")
    assert (record.state, record.error, record.batch) == ("REVOKED", "cancelled", "B")


def test_nothing_is_noted_before_an_auditor_was_started(auditor: Auditor, finals: Finals) -> None:
    finals.redis.delete(names.AUDITING_KEY)
    finals.finish("before")
    assert finals.waiting() == 0
    auditor.step()
    finals.finish("after")
    assert finals.waiting() == 1


def test_a_result_that_expired_meanwhile_is_recorded_as_such(
    auditor: Auditor, ledger: Ledger, finals: Finals
) -> None:
    finals.finish("J1", "J2", batch="B")
    finals.redis.delete(names.result_key("J1"))
    work_off(auditor, finals)
    [record] = ledger.results("J1")
    assert (record.gap, record.state, record.batch, record.result) == ("expired", "SUCCESS", "B", "null")
    assert ledger.results("J2")[0].gap is None


def test_a_job_that_was_opened_again_has_two_results_on_record(
    auditor: Auditor, ledger: Ledger, finals: Finals
) -> None:
    died: dict[str, Any] = {
        "exc_type": "JobFailed",
        "exc_module": "batchyard.errors",
        "exc_message": ["it killed its engine", "poison", None, None, False],
    }
    finals.store([("J1", "", State.FAILURE, died)])
    work_off(auditor, finals)
    finals.redis.set(names.result_key("J1"), store.state_document("J1", State.QUEUED))
    finals.finish("J1")
    work_off(auditor, finals)
    assert [(r.state, r.error, r.gap) for r in ledger.results("J1")] == [
        ("FAILURE", "poison", None),
        ("SUCCESS", "", None),
    ]


def test_a_job_that_was_opened_again_before_it_was_on_record_keeps_how_it_failed(
    auditor: Auditor, ledger: Ledger, finals: Finals
) -> None:
    died = {"exc_type": "JobFailed", "exc_message": ["died"]}
    finals.store([("J1", "", State.FAILURE, died)])
    finals.redis.set(names.result_key("J1"), store.state_document("J1", State.ROUTED))
    finals.finish("J1")
    work_off(auditor, finals)
    assert [(r.state, r.error, r.gap) for r in ledger.results("J1")] == [
        ("FAILURE", "job_failed", None),
        ("SUCCESS", "", None),
    ]


def test_a_result_whose_place_was_taken_is_recorded_as_such(
    auditor: Auditor, ledger: Ledger, finals: Finals
) -> None:
    finals.finish("J1")
    finals.redis.set(names.result_key("J1"), store.state_document("J1", State.QUEUED))
    work_off(auditor, finals)
    [record] = ledger.results("J1")
    assert (record.state, record.gap, record.result) == ("SUCCESS", "replaced", "null")


def test_what_is_no_final_state_is_passed_over(auditor: Auditor, ledger: Ledger, finals: Finals) -> None:
    finals.redis.xadd(names.FINALS_KEY, {"colour": "red"})
    finals.finish("J1")
    work_off(auditor, finals)
    assert len(ledger.results("J1")) == 1


def test_a_dead_auditors_page_is_claimed_by_another_one(
    auditor: Auditor, ledger: Ledger, finals: Finals, audit_url: str
) -> None:
    store.run(finals.redis, stream.take("dead", stream.NEW, PAGE, 1))
    finals.finish(*(f"J{n}" for n in range(PAGE + 5)))
    held = store.run(finals.redis, stream.take("dead", stream.NEW, PAGE, 1))
    assert len(held) == PAGE
    until(lambda: auditor.step() or finals.waiting() == PAGE)
    assert [record.job_id for record in everything(audit_url)] == [f"J{n}" for n in range(PAGE, PAGE + 5)]
    ids = [entry.id for entry in held]
    finals.redis.execute_command(
        "XCLAIM", names.FINALS_KEY, stream.GROUP, "dead", 0, *ids, "IDLE", CLAIM_MS + 1
    )
    auditor._claim_at = 0.0
    work_off(auditor, finals)
    assert Counter(r.job_id for r in everything(audit_url)) == Counter(f"J{n}" for n in range(PAGE + 5))


def test_auditors_that_ended_long_ago_are_forgotten_unless_they_left_something(
    auditor: Auditor, finals: Finals
) -> None:
    auditor.step()
    finals.finish("J1")
    for name in ("holds", "gone"):
        store.run(finals.redis, stream.take(name, stream.NEW, PAGE, 1))
    assert store.run(finals.redis, stream.forget_consumers(FORGET_MS)) == 0
    assert store.run(finals.redis, stream.forget_consumers(-1)) == 2
    left = finals.redis.xinfo_consumers(names.FINALS_KEY, stream.GROUP)
    assert [consumer["name"] for consumer in left] == [b"holds"]


def test_a_redis_that_is_full_does_not_keep_results_from_the_record(
    auditor: Auditor, ledger: Ledger, finals: Finals
) -> None:
    finals.finish("J1")
    finals.redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.OutOfMemoryError):
            finals.redis.set("any", 1)
        work_off(auditor, finals)
    finally:
        finals.redis.config_set("maxmemory", 0)
    assert len(ledger.results("J1")) == 1


def test_what_is_on_record_leaves_nothing_in_redis(auditor: Auditor, finals: Finals) -> None:
    finals.finish(*(f"J{n}" for n in range(2 * PAGE + 1)))
    work_off(auditor, finals)
    assert finals.redis.xpending(names.FINALS_KEY, stream.GROUP)["pending"] == 0
    assert finals.redis.xlen(names.FINALS_KEY) == 0


def test_killed_with_what_it_wrote_still_on_the_stream_each_result_is_on_record_once(
    audit_url: str, finals: Finals, start: Start
) -> None:
    jobs = [f"J{n}" for n in range(PAGE + 50)]
    finals.finish(*jobs)
    assert start(audit_url, dies="after").wait(60) == -signal.SIGKILL
    assert finals.waiting() == len(jobs)
    assert len(everything(audit_url)) == PAGE
    successor = start(audit_url)
    until(lambda: not finals.waiting())
    assert Counter(record.job_id for record in everything(audit_url)) == Counter(jobs)
    assert all(record.gap is None for record in everything(audit_url))
    successor.terminate()
    assert successor.wait(60) == 0


def test_killed_before_it_wrote_nothing_is_missing(finals: Finals, start: Start, tmp_path: Path) -> None:
    url = f"jsonl:{tmp_path}/audit"
    finals.finish("J1", "J2")
    assert start(url, dies="before").wait(60) == -signal.SIGKILL
    start(url)
    until(lambda: not finals.waiting())
    assert Counter(record.job_id for record in everything(url)) == Counter(["J1", "J2"])


def test_killed_at_any_moment_under_load_it_loses_and_doubles_nothing(
    audit_url: str, finals: Finals, start: Start
) -> None:
    jobs = [f"J{n}" for n in range(2000)]

    def finish() -> None:
        for at in range(0, len(jobs), 10):
            finals.finish(*jobs[at : at + 10])

    process = start(audit_url)
    load = threading.Thread(target=finish)
    load.start()
    for goal in (len(jobs) // 4, len(jobs) // 2):
        until(lambda goal=goal: recorded(audit_url) >= goal)
        process.kill()
        process.wait()
        process = start(audit_url)
    load.join()
    until(lambda: not finals.waiting())
    assert Counter(record.job_id for record in everything(audit_url)) == Counter(jobs)


def recorded(url: str) -> int:
    """The number in the id of the job that was recorded last; jobs are recorded in their order."""
    with closing(open_ledger(url)) as ledger:
        try:
            last = ledger.last()
        except InvalidConfig:  # nothing is on record yet
            return -1
    return -1 if last is None else int(last.job_id[1:])


def test_two_at_once_record_each_result_once(audit_url: str, finals: Finals, start: Start) -> None:
    jobs = [f"J{n}" for n in range(1500)]
    both = [start(audit_url, name=name) for name in ("one", "two")]
    for at in range(0, len(jobs), 100):
        finals.finish(*jobs[at : at + 100])
    until(lambda: not finals.waiting())
    for process in both:
        process.terminate()
        assert process.wait(60) == 0
    assert Counter(record.job_id for record in everything(audit_url)) == Counter(jobs)


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = start_redis(tmp_path / "redis", append_only=False, password=None)
    yield server
    server.stop()


def test_redis_loses_everything_and_the_record_stays_and_goes_on(
    own_redis: RedisServer, tmp_path: Path, start: Start
) -> None:
    url = f"sqlite:///{tmp_path}/audit.db"
    finals = Finals(own_redis.url)
    finals.note()
    finals.finish(*(f"J{n}" for n in range(100)))
    auditor = start(url, url=own_redis.url)
    until(lambda: not finals.waiting())
    own_redis.process.kill()
    own_redis.process.wait()
    assert len(everything(url)) == 100
    assert auditor.poll() is None
    again = redis_command(tmp_path / "empty", own_redis.port, append_only=False, password=None)
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(again, stdout=log) as successor:
        try:
            until(lambda: answers(own_redis.url) and finals.redis.exists(names.AUDITING_KEY))
            finals.finish("after")
            until(lambda: not finals.waiting())
            auditor.terminate()
            assert auditor.wait(60) == 0
        finally:
            successor.kill()
    assert Counter(r.job_id for r in everything(url)) == Counter(["after", *(f"J{n}" for n in range(100))])
    assert own_redis.url.startswith(f"redis://{HOST}")


def test_a_ledger_that_is_away_holds_nothing_up_but_itself(
    settings: Settings, finals: Finals, tmp_path: Path, start: Start
) -> None:
    (tmp_path / "blocked").write_text("a file where a folder should be", encoding="utf-8")
    url = f"jsonl:{tmp_path}/blocked/audit"
    process = start(url)
    finals.finish("J1")
    until(lambda: process.poll() is not None or not process_is_starting(process))
    assert finals.waiting() == 1
    (tmp_path / "blocked").unlink()
    until(lambda: not finals.waiting())
    assert [record.job_id for record in everything(url)] == ["J1"]
    process.terminate()
    assert process.wait(60) == 0


def process_is_starting(process: "subprocess.Popen[bytes]") -> bool:
    """Whether the process has not yet set its own way to end (SIGTERM is caught by then)."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    caught = int(next(line for line in status.splitlines() if line.startswith("SigCgt")).split()[1], 16)
    return not caught & (1 << (signal.SIGTERM - 1))


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("BATCHYARD_AUDIT_URL", "mysql://h/d", "must be sqlite"),
        ("BATCHYARD_AUDIT_URL_FILE", "/nowhere", "cannot read /nowhere"),
    ],
)
def test_what_it_cannot_be_started_with_is_said(variable: str, value: str, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "batchyard.audit"],
        cwd=ROOT, env={variable: value, "PATH": ""}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert said in done.stderr and variable in done.stderr
