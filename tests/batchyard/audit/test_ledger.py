"""What holds for every kind of ledger."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from batchyard.audit.ledger import Ledger, add_review, open_ledger
from batchyard.audit.record import Entry, FinalRecord, Review, Selection, record_of
from batchyard.errors import InvalidConfig, UnknownJob
from tests.batchyard.audit.conftest import everything

NOW = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)
FIRST_MS = int(NOW.timestamp() * 1000)


def records(count: int, *, first: int = 0, batch: str = "") -> list[FinalRecord]:
    """Results that finished one a millisecond."""
    return [
        record_of(Entry(f"{FIRST_MS + number}-0", f"J{number}", batch, "SUCCESS"), None, NOW)
        for number in range(first, first + count)
    ]


def exported(ledger: Ledger, selection: Selection, page: int = 500) -> list[str]:
    return [record.job_id for some in ledger.export(selection, page) for record in some]


def test_what_is_recorded_again_is_there_once(ledger: Ledger, audit_url: str) -> None:
    ledger.append(records(5))
    ledger.append(records(7, first=2))
    ledger.append(records(5))
    assert everything(audit_url) == records(9)


def test_it_is_recorded_once_when_another_process_did_it_before(ledger: Ledger, audit_url: str) -> None:
    ledger.append(records(5))
    ledger.close()
    with closing(open_ledger(audit_url)) as other:
        other.prepare()
        other.append(records(5))
        other.append(records(3, first=5))
    assert everything(audit_url) == records(8)


def test_a_job_with_a_second_result_has_both(ledger: Ledger) -> None:
    first, second = records(1)[0], replace(records(2)[1], job_id="J0", state="FAILURE")
    ledger.append([first])
    ledger.append([second])
    assert ledger.results("J0") == [first, second]
    assert ledger.results("J1") == []
    assert ledger.last() == second


def test_the_same_entry_of_another_job_is_another_result(ledger: Ledger) -> None:
    ledger.append(records(1))
    ledger.append([replace(records(1)[0], job_id="other")])
    assert [len(ledger.results(job_id)) for job_id in ("J0", "other")] == [1, 1]


def test_an_export_has_the_first_moment_and_not_the_last(ledger: Ledger) -> None:
    ledger.append(records(10))
    start, end = NOW + timedelta(milliseconds=3), NOW + timedelta(milliseconds=6)
    assert exported(ledger, Selection(start, end)) == ["J3", "J4", "J5"]
    assert exported(ledger, Selection(end=start)) == ["J0", "J1", "J2"]
    assert exported(ledger, Selection(start=end), page=2) == ["J6", "J7", "J8", "J9"]


def test_an_export_in_pages_has_each_once_though_many_finished_at_once(ledger: Ledger) -> None:
    at_once = [
        record_of(Entry(f"{FIRST_MS}-{number}", f"J{number}", "", "SUCCESS"), None, NOW)
        for number in range(25)
    ]
    ledger.append(at_once)
    pages = list(ledger.export(Selection(), page=4))
    assert [len(page) for page in pages] == [4, 4, 4, 4, 4, 4, 1]
    assert [record for page in pages for record in page] == at_once


def test_an_export_by_batch_and_model(ledger: Ledger) -> None:
    some = [replace(record, model="chat") for record in records(2, first=2, batch="B")]
    ledger.append([*records(2, batch="B"), *some, replace(records(1, first=4)[0], model="chat")])
    assert exported(ledger, Selection(batch="B")) == ["J0", "J1", "J2", "J3"]
    assert exported(ledger, Selection(model="chat")) == ["J2", "J3", "J4"]
    assert exported(ledger, Selection(batch="B", model="chat")) == ["J2", "J3"]
    assert exported(ledger, Selection(batch="A")) == []


def test_reviews_stand_one_after_the_other(ledger: Ledger) -> None:
    ledger.append(records(3))
    first = add_review(ledger, "J1", "Li", "looked again", '"pass"')
    second = add_review(ledger, "J1", "Wu", "under the microscope: 裂纹", '"fail"')
    other = add_review(ledger, "J2", "Li", "fine", None)
    assert ledger.reviews(["J1"]) == [first, second]
    assert ledger.reviews(["J0", "J2", "J1"]) == [first, second, other]
    assert (second.sequence, second.old_verdict) == (2, '"pass"')


def test_a_review_whose_number_is_taken_changes_nothing_and_is_numbered_anew(ledger: Ledger) -> None:
    ledger.append(records(1))
    first = add_review(ledger, "J0", "Li", "looked", '"pass"')
    late = Review("J0", 1, first.entry, NOW, "Wu", "looked too", None, '"fail"')
    assert not ledger.add_review(late)
    assert ledger.reviews(["J0"]) == [first]

    class Overtaken:
        """The ledger of one who looked just before the first review."""

        looks = 0

        def results(self, job_id: str) -> list[FinalRecord]:
            return ledger.results(job_id)

        def reviews(self, job_ids: Sequence[str]) -> list[Review]:
            self.looks += 1
            return [] if self.looks == 1 else ledger.reviews(job_ids)

        def add_review(self, review: Review) -> bool:
            return ledger.add_review(review)

    review = add_review(Overtaken(), "J0", "Wu", "looked too", '"fail"')  # type: ignore[arg-type]
    assert (review.sequence, review.old_verdict) == (2, '"pass"')
    assert ledger.reviews(["J0"]) == [first, review]


def test_an_unknown_job_cannot_be_reviewed(ledger: Ledger) -> None:
    ledger.append(records(1))
    with pytest.raises(UnknownJob) as caught:
        add_review(ledger, "nobody", "Li", "looked", None)
    assert caught.value.code == "not_recorded"
    assert ledger.reviews(["nobody"]) == []


def test_a_ledger_that_nobody_made_is_said_and_not_made(audit_url: str) -> None:
    with closing(open_ledger(audit_url)) as ledger:
        for look in (lambda: ledger.results("J"), lambda: list(ledger.export(Selection())), ledger.last):
            with pytest.raises(InvalidConfig, match="BATCHYARD_AUDIT_URL") as caught:
                look()
            assert caught.value.code == "no_ledger"
