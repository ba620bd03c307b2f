"""The files of JSON lines: their turn, what a crash leaves, what is looked up where."""

import json
import os
import stat
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from batchyard.audit import folder as folder_module
from batchyard.audit.folder import files_in
from batchyard.audit.ledger import LedgerUnavailable, add_review
from batchyard.audit.lines import LineLedger
from batchyard.audit.record import FinalRecord, as_json
from batchyard.errors import InvalidConfig
from tests.batchyard.audit.conftest import everything
from tests.batchyard.audit.test_ledger import FIRST_MS, records


def names(folder: Path) -> list[str]:
    return [file.path.name for file in files_in(folder)]


def write(folder: Path, *pages: list[FinalRecord], max_bytes: int = 10**9) -> None:
    with closing(LineLedger(folder, max_bytes)) as ledger:
        for page in pages:
            ledger.append(page)


def on_day(page: list[FinalRecord], days: int) -> list[FinalRecord]:
    return [replace(record, recorded=record.recorded + timedelta(days=days)) for record in page]


def test_a_new_day_and_a_full_file_begin_another_one(tmp_path: Path) -> None:
    write(tmp_path, records(2), records(2, first=2), on_day(records(1, first=4), 1))
    assert names(tmp_path) == [
        "results-2026-11-24-after-0-0.jsonl",
        f"results-2026-11-25-after-{FIRST_MS + 3}-0.jsonl",
    ]
    write(tmp_path, on_day(records(1, first=5), 1), on_day(records(1, first=6), 1), max_bytes=1)
    assert names(tmp_path)[2:] == [
        f"results-2026-11-25-after-{FIRST_MS + 4}-0.jsonl",
        f"results-2026-11-25-after-{FIRST_MS + 5}-0.jsonl",
    ]
    assert [record.job_id for record in everything(f"jsonl:{tmp_path}")] == [f"J{n}" for n in range(7)]


def test_a_clock_that_goes_back_a_day_begins_no_file(tmp_path: Path) -> None:
    write(tmp_path, on_day(records(1), 1), records(1, first=1))
    assert names(tmp_path) == ["results-2026-11-25-after-0-0.jsonl"]


@pytest.mark.parametrize("torn", [b'{"entry":"17', b"\0\0\0\0", b"\0\0\n\0", b'{"entry":"1-0","job_id"\n'])
def test_what_a_crash_left_half_written_is_cut_off(tmp_path: Path, torn: bytes) -> None:
    write(tmp_path, records(3))
    path = files_in(tmp_path)[0].path
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    write(tmp_path, records(2, first=2))
    assert path.read_bytes() == whole + as_json(records(1, first=3)[0]).encode() + b"\n"


def test_a_reader_leaves_out_the_line_that_is_being_written(tmp_path: Path) -> None:
    write(tmp_path, records(3))
    with files_in(tmp_path)[0].path.open("ab") as file:
        file.write(b'{"entry":"17')
    assert len(everything(f"jsonl:{tmp_path}")) == 3


def test_a_line_that_is_damaged_is_named_and_not_passed_over(tmp_path: Path) -> None:
    write(tmp_path, records(3))
    path = files_in(tmp_path)[0].path
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b'{"entry": "x"}\n' + lines[2])
    with pytest.raises(InvalidConfig, match="line 2 is no record") as caught:
        everything(f"jsonl:{tmp_path}")
    assert caught.value.field == str(path)
    write(tmp_path, records(4))
    assert path.read_bytes().count(b"\n") == 4 + 1, (
        "what stands behind it was not cut off, its own came again"
    )


def test_only_files_that_may_hold_an_entry_are_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, *([record] for record in records(6)), max_bytes=1)
    opened: list[str] = []
    lines_of = folder_module.lines_of
    monkeypatch.setattr(folder_module, "lines_of", lambda path: opened.append(path.name) or lines_of(path))
    with closing(LineLedger(tmp_path, 1)) as ledger:
        ledger.prepare()
        opened.clear()
        ledger.append(records(2, first=6))
        assert opened == [], "what is higher than all can be nowhere"
        ledger.append(records(2, first=5))
        assert opened == names(tmp_path)[5:]
    assert [record.job_id for record in everything(f"jsonl:{tmp_path}")] == [f"J{n}" for n in range(8)]


def test_an_entry_that_came_late_is_found_in_a_later_file(tmp_path: Path) -> None:
    late, *others = records(3)
    write(tmp_path, [others[0]], [others[1]], [late], on_day([late], 1), max_bytes=1)
    write(tmp_path, [late], max_bytes=1)
    assert [record.job_id for record in everything(f"jsonl:{tmp_path}")] == ["J1", "J2", "J0"]


def test_a_second_writer_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    with closing(LineLedger(tmp_path)) as first, closing(LineLedger(tmp_path)) as second:
        first.append(records(1))
        with pytest.raises(LedgerUnavailable) as caught:
            second.prepare()
        assert caught.value.code == "audit_taken"
        first.close()
        second.append(records(2))
    assert len(everything(f"jsonl:{tmp_path}")) == 2


def test_a_write_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(LineLedger(tmp_path)) as ledger:
        ledger.append(records(2))
        path = files_in(tmp_path)[0].path
        before = path.read_bytes()
        with monkeypatch.context() as full:
            full.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
            with pytest.raises(LedgerUnavailable, match="No space left"):
                ledger.append(records(3, first=2))
        assert path.read_bytes() == before
        ledger.append(records(3, first=2))
    assert everything(f"jsonl:{tmp_path}") == records(5)


def test_reviews_have_a_file_of_their_own_that_is_mended_too(tmp_path: Path) -> None:
    write(tmp_path, records(1))
    with closing(LineLedger(tmp_path)) as ledger:
        first = add_review(ledger, "J0", "Li", "looked", '"pass"')
        with (tmp_path / "reviews.jsonl").open("ab") as file:
            file.write(b'{"job_id":"J0","seq')
        assert ledger.reviews(["J0"]) == [first]
        second = add_review(ledger, "J0", "Wu", "looked too", None)
        assert ledger.reviews(["J0"]) == [first, second]
    lines = (tmp_path / "reviews.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["reviewer"] for line in lines] == ["Li", "Wu"]


def test_nobody_else_may_read_the_answers(tmp_path: Path) -> None:
    write(tmp_path / "new" / "audit", records(1))
    (file,) = files_in(tmp_path / "new" / "audit")
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.path.parent.stat().st_mode) == 0o700
