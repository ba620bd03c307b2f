"""What a record says, without Redis and without a ledger."""

import json
from datetime import UTC, datetime

import pytest

from batchyard import store
from batchyard.audit.record import (
    Entry,
    FinalRecord,
    Review,
    as_json,
    checked_verdict,
    checked_words,
    next_review,
    record_of,
    result_from,
    review_from,
    standing_verdict,
)
from batchyard.errors import InvalidConfig, JobFailed, UnknownJob
from batchyard.states import State
from tests.batchyard.audit.conftest import PROVENANCE, answer

NOW = datetime(2026, 11, 24, 8, 0, 0, 250_000, tzinfo=UTC)


def entry(state: str = "SUCCESS", job_id: str = "acme~J1", sequence: int = 0) -> Entry:
    return Entry(id=f"1795714862123-{sequence}", job_id=job_id, batch="acme~B", state=state)


def document(result: object, state: State = State.SUCCESS) -> bytes:
    return store.state_document("acme~J1", state, result).encode()


def test_a_success_says_everything_that_may_be_asked_later() -> None:
    record = record_of(entry(), document(answer("良品", parsed={"verdict": "pass"}, attempt=3)), NOW)
    assert (record.tenant, record.batch, record.state) == ("acme", "acme~B", "SUCCESS")
    assert (record.task, record.model, record.policy, record.attempt) == ("defect_detect", "chat", "p1", 3)
    assert (record.model_sha256, record.prompt_sha256) == ("a" * 64, "b" * 64)
    assert record.finished == datetime(2026, 11, 26, 17, 41, 2, 123_000, tzinfo=UTC)
    assert (record.recorded, record.gap, record.error) == (NOW, None, "")
    assert record.verdict == '{"verdict":"pass"}'
    assert json.loads(record.result)["provenance"] == PROVENANCE


def test_a_success_that_says_no_attempt_was_the_first() -> None:
    assert record_of(entry(), document(answer()), NOW).attempt == 1


def test_a_failure_says_its_code_and_no_attempt_that_nobody_counted() -> None:
    failed = store.failure_document("acme~J1", State.FAILURE, JobFailed("no room", "prompt_too_long"))
    record = record_of(entry("FAILURE"), failed.encode(), NOW)
    assert (record.state, record.error, record.attempt, record.verdict) == (
        "FAILURE",
        "prompt_too_long",
        None,
        None,
    )


@pytest.mark.parametrize(
    ("found", "gap"),
    [
        (None, "expired"),
        (document(None, State.QUEUED), "replaced"),
        (document(answer()), "replaced"),
        (b"not json", "unreadable"),
        (b"[1]", "unreadable"),
        (b'{"status": "FAILURE", "result": {"exc_message": 1}}' + b"\xff", "unreadable"),
        (b'{"status": "SUCCESS", "result": {"text": 5}}', "unreadable"),
        (b'{"status": "SUCCESS", "result": {"text": "\\ud800"}}', "unreadable"),
        (b"[" * 100_000, "unreadable"),
    ],
    ids=["gone", "queued", "another state", "no json", "list", "no utf-8", "type", "surrogate", "deep"],
)
def test_what_is_not_the_result_is_recorded_as_such_with_the_state_that_the_entry_says(
    found: bytes | None, gap: str
) -> None:
    record = record_of(entry("FAILURE"), found, NOW)
    assert (record.gap, record.state, record.verdict) == (gap, "FAILURE", None)
    kept = json.loads(record.result)
    assert kept == (found.decode("utf-8", "replace") if gap == "unreadable" and found else None)


def test_text_that_a_database_refuses_becomes_text_that_it_takes() -> None:
    route = {"task": "a\0b", "model": "m", "by": "job", "reason": "r", "policy": "p"}
    record = record_of(entry(), document({"route": route}), NOW)
    assert record.task == "a\\x00b"
    assert "\0" not in record.result


@pytest.mark.parametrize("gap", [None, "expired", "unreadable"])
def test_a_line_is_read_back_as_it_was(gap: str | None) -> None:
    found = {None: document(answer("线\n\u2028")), "expired": None, "unreadable": b"{"}[gap]
    record = record_of(entry(job_id='acme~"\\'), found, NOW)
    line = as_json(record)
    assert "\n" not in line
    assert result_from(line.encode()) == record


def test_a_review_is_read_back_as_it_was() -> None:
    for new in (None, '{"verdict":"pass"}'):
        review = Review("J", 1, "1-0", NOW, "Li", "looked", '"x"', new)
        assert review_from(as_json(review).encode()) == review


@pytest.mark.parametrize("line", [b"", b"[]", b"{}", b'{"entry": "1-0"}', b"\xff"])
def test_another_line_is_no_record(line: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        result_from(line)


def records(*texts: str) -> list[FinalRecord]:
    return [
        record_of(entry(sequence=number), document(answer(text)), NOW) for number, text in enumerate(texts)
    ]


def test_each_review_stands_on_the_one_before() -> None:
    results = records("fail")
    reviews: list[Review] = []
    for verdict in ('"pass"', None, '"scrap"'):
        reviews.append(next_review(results, reviews, "J", "Li", "looked", verdict, NOW))
    assert [(r.sequence, r.old_verdict, r.new_verdict) for r in reviews] == [
        (1, '"fail"', '"pass"'),
        (2, '"pass"', None),
        (3, '"pass"', '"scrap"'),
    ]
    assert standing_verdict(results[-1], reviews) == '"scrap"'


def test_a_review_of_an_earlier_result_says_nothing_about_a_later_one() -> None:
    first = records("fail")
    earlier = next_review(first, [], "J", "Li", "looked", '"pass"', NOW)
    both = records("fail", "scrap")
    later = next_review(both, [earlier], "J", "Wu", "again", None, NOW)
    assert (later.sequence, later.entry, later.old_verdict) == (2, both[1].entry, '"scrap"')


def test_a_job_without_a_result_cannot_be_reviewed() -> None:
    with pytest.raises(UnknownJob, match="no result of 'J' is on record"):
        next_review([], [], "J", "Li", "looked", None, NOW)


@pytest.mark.parametrize("text", ["", " \n", "x" * 201, "a\0b", "\ud800"])
def test_a_reviewer_says_something(text: str) -> None:
    with pytest.raises(InvalidConfig, match="--by"):
        checked_words(text, "--by", 200)
    assert checked_words(" Li\n", "--by", 200) == "Li"


@pytest.mark.parametrize("text", ["pass", "null", "NaN", '"\\ud800"', "[" * 100_000, ""])
def test_a_verdict_is_json_and_not_null(text: str) -> None:
    with pytest.raises(InvalidConfig, match="--verdict"):
        checked_verdict(text)
    assert checked_verdict('{ "a": false }') == '{"a":false}'
