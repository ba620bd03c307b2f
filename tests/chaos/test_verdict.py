"""The verdict: a run without fault passes, and each thing that must not be is found where it is planted."""

from dataclasses import replace
from itertools import islice

import pytest

from benchmarks.chaos import verdict
from benchmarks.chaos.documents import Document
from benchmarks.chaos.ledger import Ledger
from benchmarks.chaos.pieces import Piece, pieces
from benchmarks.chaos.verdict import Ending, Violation, judge, tally

PIECES = list(islice(pieces(1, []), 6))
CANCELLED = PIECES[-1].id


def done(piece: Piece) -> Document:
    output = piece.body["output"]
    answer: dict[str, object] = {"job_id": piece.id, "metadata": dict(piece.body["metadata"])}
    if output["type"] == "choices":
        chances = dict.fromkeys(output["choices"], 0.25)
        answer |= {"choice": output["choices"][0], "choice_probabilities": chances}
    else:
        answer |= {"parsed": piece.mark if "const" in output["schema"] else {"mark": piece.mark}}
    return Document("SUCCESS", "w0-1", answer, f"digest of {piece.id}")


def documents() -> dict[str, Document | None]:
    """One of each job: the last was cancelled."""
    found: dict[str, Document | None] = {piece.id: done(piece) for piece in PIECES}
    return found | {CANCELLED: Document("REVOKED", "", {}, "cancelled")}


def book(of: dict[str, Document | None] | None = None) -> Ledger:
    """The ledger of a run in which these documents were seen."""
    ledger = Ledger()
    ledger.hand_over(PIECES)
    ledger.accept(piece.id for piece in PIECES)
    ledger.cancel([CANCELLED])
    for number, (job, document) in enumerate((of or documents()).items()):
        if document is not None:
            ledger.see(job, document, at=float(number))
            if document.final:
                ledger.announce(job, document)
    for batch, entries in ending().streams.items():
        ledger.read_entries(batch, entries)
    return ledger


def ending() -> Ending:
    batches = {piece.batch for piece in PIECES}
    streams = {
        batch: [(f"{at}-0", piece.id) for at, piece in enumerate(PIECES) if piece.batch == batch]
        for batch in batches
    }
    counters = {
        batch: {
            "total": len(streams[batch]),
            "SUCCESS": sum(job != CANCELLED for _, job in streams[batch]),
            "REVOKED": sum(job == CANCELLED for _, job in streams[batch]),
        }
        for batch in batches
    }
    return Ending(documents(), streams, counters, {})


def found(ledger: Ledger, end: Ending) -> list[Violation]:
    return judge(ledger.records(), ledger.entries, end)


def kinds(ledger: Ledger, end: Ending) -> set[str]:
    return {violation.kind for violation in found(ledger, end)}


def first() -> tuple[str, str]:
    return PIECES[0].id, PIECES[0].batch


def test_a_run_in_which_all_went_well() -> None:
    assert found(book(), ending()) == []
    assert set(tally([]).values()) == {0}


@pytest.mark.parametrize("document", [None, Document("STARTED", "w0-1", None, "")])
def test_a_job_without_a_result_is_lost(document: Document | None) -> None:
    seen = documents() | {PIECES[0].id: document}
    end = ending()
    lost = found(book(seen), replace(end, documents=seen))
    assert [violation.job for violation in lost if violation.kind == verdict.LOST] == [PIECES[0].id]


def test_a_result_that_its_batchs_stream_never_got_is_lost() -> None:
    end, (job, batch) = ending(), first()
    streams = {**end.streams, batch: [entry for entry in end.streams[batch] if entry[1] != job]}
    assert {verdict.LOST, verdict.ROLLED_BACK} == kinds(book(), replace(end, streams=streams))


def test_a_submission_that_was_never_confirmed_is_lost() -> None:
    ledger = book()
    ledger.records()[0].accepted = None
    assert kinds(ledger, ending()) == {verdict.LOST}


def test_two_entries_of_one_job_in_the_streams() -> None:
    end, (job, batch) = ending(), first()
    streams = {**end.streams, batch: [*end.streams[batch], ("99-0", job)]}
    assert kinds(book(), replace(end, streams=streams)) == {verdict.DUPLICATED}


def test_two_announcements_of_one_job() -> None:
    ledger = book()
    ledger.announce(PIECES[0].id, done(PIECES[0]))
    assert kinds(ledger, ending()) == {verdict.DUPLICATED}


def test_a_result_that_changes() -> None:
    job, _ = first()
    other = replace(done(PIECES[0]), digest="another")
    end = ending()
    assert kinds(book(), replace(end, documents=documents() | {job: other})) == {verdict.DUPLICATED}
    ledger = book()
    ledger.announce(job, other)
    assert verdict.DUPLICATED in kinds(ledger, end)


def test_a_wrong_answer() -> None:
    swapped = documents()
    one, other = PIECES[0].id, PIECES[1].id
    swapped[one], swapped[other] = swapped[other], swapped[one]
    wrong = found(book(swapped), replace(ending(), documents=swapped))
    assert {violation.job for violation in wrong} == {one, other}
    assert {violation.kind for violation in wrong} == {verdict.WRONG}


def test_a_failed_job_and_one_that_nobody_cancelled() -> None:
    for state in ("FAILURE", "REVOKED"):
        failed = documents() | {PIECES[0].id: Document(state, "", {"exc_type": "EngineLost"}, "failed")}
        assert verdict.FAILED in kinds(book(failed), replace(ending(), documents=failed))


def test_counters_that_do_not_add_up() -> None:
    end, (_, batch) = ending(), first()
    counters = {**end.counters, batch: {**end.counters[batch], "SUCCESS": 99}}
    assert kinds(book(), replace(end, counters=counters)) == {verdict.COUNTERS}


def test_work_that_is_left() -> None:
    assert kinds(book(), replace(ending(), left={"route": "list, 1 entries"})) == {verdict.LEFT_OVER}


def test_a_job_counts_once_a_kind() -> None:
    twice = [Violation(verdict.LOST, "a", "this"), Violation(verdict.LOST, "a", "that")]
    assert tally(twice)[verdict.LOST] == 1
