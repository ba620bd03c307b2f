"""`batchyard audit` on real ledgers, with Redis where the command needs it."""

import argparse
import json
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from batchyard import names, store
from batchyard.audit import stream
from batchyard.audit.auditor import Auditor
from batchyard.audit.ledger import open_ledger
from batchyard.audit.record import Entry, record_of
from batchyard.cli import main
from batchyard.cli_audit import spelled_out, when
from batchyard.settings import Settings
from batchyard.states import State
from tests.batchyard.audit.conftest import Finals, answer
from tests.batchyard.audit.test_ledger import FIRST_MS, NOW

Answer = tuple[int, str, str]


class Audit:
    """`batchyard audit` with what it prints."""

    def __init__(self, url: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.url = url
        self._capsys = capsys

    def __call__(self, *arguments: object) -> Answer:
        code = main(["audit", *map(str, arguments)])
        return code, *self._capsys.readouterr()

    def record(self, *job_ids: str, batch: str = "", **more: object) -> None:
        """Put results on record, one a second from NOW on."""
        document = store.state_document("", State.SUCCESS, answer("fine", **more)).encode()
        with closing(open_ledger(self.url)) as ledger:
            ledger.prepare()
            entries = [
                Entry(f"{FIRST_MS + 1000 * at}-0", job_id, batch, "SUCCESS")
                for at, job_id in enumerate(job_ids)
            ]
            ledger.append([record_of(entry, document, NOW) for entry in entries])


@pytest.fixture
def audit(audit_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Audit:
    monkeypatch.setenv("BATCHYARD_AUDIT_URL", audit_url)
    return Audit(audit_url, capsys)


def test_a_job_is_shown_with_everything_that_made_its_answer_and_its_reviews(audit: Audit) -> None:
    audit.record("acme~J1", batch="acme~B", parsed={"verdict": "fail"})
    assert audit(
        "review", "acme~J1", "--by", "Li", "--why", "an old scratch", "--verdict", '{"verdict": "pass"}'
    ) == (
        0,
        "review 1 of acme~J1 is on record\n",
        "",
    )
    assert audit("review", "acme~J1", "--by", "Wu", "--why", "seen")[0] == 0
    code, out, err = audit("acme~J1")
    assert (code, err) == (0, "")
    for said in (
        "acme~J1\tSUCCESS\t2026-11-24T08:00:00.000Z",
        "tenant      acme, batch acme~B",
        "task        defect_detect, model chat, policy p1",
        "why         the job says so",
        "attempt     1",
        'verdict     {"verdict":"fail"}',
        f"model_sha256        {'a' * 64}",
        f"prompt_sha256       {'b' * 64}",
        "worker              w@h",
        "review 1\tby Li",
        "why         an old scratch",
        'verdict     {"verdict":"pass"}, was {"verdict":"fail"}',
        "review 2\tby Wu",
        'verdict     stays {"verdict":"pass"}',
    ):
        assert said in out
    code, out, _ = audit("show", "acme~J1", "--json")
    shown = json.loads(out)
    assert code == 0
    assert [result["result"]["parsed"] for result in shown["results"]] == [{"verdict": "fail"}]
    assert [review["new_verdict"] for review in shown["reviews"]] == [{"verdict": "pass"}, None]


def test_a_failure_and_a_gap_are_shown_as_what_they_are(audit: Audit) -> None:
    failed = store.state_document("J1", State.FAILURE, {"exc_type": "E", "exc_message": ["it died"]}).encode()
    with closing(open_ledger(audit.url)) as ledger:
        ledger.prepare()
        ledger.append(
            [
                record_of(Entry("1-0", "J1", "", "FAILURE"), failed, NOW),
                record_of(Entry("2-0", "J2", "", "SUCCESS"), None, NOW),
            ]
        )
    assert "error       [job_failed] E: it died" in audit("J1")[1]
    assert "result      not on record: expired" in audit("J2")[1]


def test_a_job_that_is_not_on_record_is_an_error_of_one_line(audit: Audit) -> None:
    audit.record("J1")
    for command in (("J2",), ("review", "J2", "--by", "Li", "--why", "looked")):
        code, out, err = audit(*command)
        assert (code, out) == (2, "")
        assert err.startswith("batchyard: [not_recorded] JOB: no result of 'J2' is on record — ")
        assert err.count("\n") == 1
    code, _, err = audit("review", "J1", "--by", "Li", "--why", " ")
    assert (code, "--why" in err) == (2, True)
    code, _, err = audit("review", "J1", "--by", "Li", "--why", "looked", "--verdict", "pass")
    assert (code, "--verdict" in err) == (2, True)


def test_without_a_ledger_the_error_says_what_to_start(audit: Audit) -> None:
    code, _, err = audit("J1")
    assert (code, "python -m batchyard.audit" in err) == (2, True)
    assert "hunter2" not in err


def test_an_export_takes_a_range_and_carries_the_reviews(audit: Audit, tmp_path: Path) -> None:
    audit.record(*(f"J{n}" for n in range(10)), batch="B")
    audit("review", "J4", "--by", "Li", "--why", "looked", "--verdict", '"pass"')
    code, out, err = audit("export", "--from", "2026-11-24T08:00:03Z", "--to", "2026-11-24T09:00:06+01:00")
    rows = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (0, "3 results written\n")
    assert [row["job_id"] for row in rows] == ["J3", "J4", "J5"]
    assert [[review["new_verdict"] for review in row["reviews"]] for row in rows] == [[], ["pass"], []]
    assert rows[0]["result"]["text"] == "fine"
    file = tmp_path / "out.jsonl"
    file.write_text("old", encoding="utf-8")
    since = FIRST_MS / 1000 + 8
    assert (
        audit("export", "--from", since, "--batch", "B", "--model", "chat", "-o", file)[2]
        == "2 results written\n"
    )
    assert [json.loads(line)["job_id"] for line in file.read_text(encoding="utf-8").splitlines()] == [
        "J8",
        "J9",
    ]
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out.jsonl"]
    assert audit("export", "--batch", "A")[:2] == (0, "")


def test_an_export_that_cannot_be_written_says_so(audit: Audit, tmp_path: Path) -> None:
    audit.record("J1")
    code, _, err = audit("export", "-o", tmp_path / "nowhere" / "out.jsonl")
    assert (code, "name a file in an existing folder" in err) == (2, True)


def test_status_says_what_waits_and_fails_while_nobody_records(
    audit: Audit, finals: Finals, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    monkeypatch.setenv("BATCHYARD_REDIS_URL", settings.url)
    audit.record("J0")
    finals.finish("J1", "J2")
    code, out, _ = audit("status")
    assert code == 1
    assert "noted\tyes\nauditors\t0\nnot on record\t2, the oldest for " in out
    assert "last recorded\tJ0 at 2026-11-24T08:00:00.000Z" in out
    with closing(open_ledger(audit.url)) as ledger:
        auditor = Auditor(finals.redis, ledger, "one")
        auditor.step()
        auditor.step()
    code, out, _ = audit("status")
    assert code == 0
    assert "auditors\t1\nnot on record\t0\nlast recorded\tJ2 at " in out


def test_off_ends_the_noting_and_forgets_nothing_unasked(
    audit: Audit, finals: Finals, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    monkeypatch.setenv("BATCHYARD_REDIS_URL", settings.url)
    finals.finish("J1")
    store.run(finals.redis, stream.take("one", stream.NEW, 1, 1))
    code, _, err = audit("off")
    assert (code, "1 auditors run" in err) == (2, True)
    finals.redis.hset(names.AUDITING_KEY, "auditor:one", 1)
    code, _, err = audit("off")
    assert (code, "1 results are not on record yet" in err) == (2, True)
    assert finals.waiting() == 1
    assert audit("off", "--discard")[:2] == (0, "results are no longer noted; 1 were forgotten\n")
    finals.finish("J2")
    assert not finals.redis.exists(names.FINALS_KEY, names.AUDITING_KEY)


def test_show_may_be_left_out() -> None:
    assert spelled_out(["audit", "J1", "--json"]) == ["audit", "show", "J1", "--json"]
    assert spelled_out(["audit", "--json", "J1"]) == ["audit", "show", "--json", "J1"]
    assert spelled_out(["audit", "show", "export"]) == ["audit", "show", "export"]
    for words in (["audit"], ["audit", "export"], ["audit", "--help"], ["status", "audit", "J1"]):
        assert spelled_out(words) == words


def test_times_are_iso_or_seconds_and_utc_where_they_name_no_zone() -> None:
    moment = datetime(2026, 11, 24, 8, tzinfo=UTC)
    for text in (
        "2026-11-24T08:00",
        "2026-11-24T09:00+01:00",
        "2026-11-24 08:00:00Z",
        str(moment.timestamp()),
    ):
        assert when(text) == moment
    assert when("2026-11-24") == datetime(2026, 11, 24, tzinfo=UTC)
    for text in ("yesterday", "", "1" * 30, "2026-13-01"):
        with pytest.raises(argparse.ArgumentTypeError):
            when(text)


def test_the_command_line_loads_no_database() -> None:
    code = "import sys; from batchyard.cli import build_parser; build_parser(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"sqlalchemy", "psycopg", "batchyard.audit"} & set(done.stdout.split())
