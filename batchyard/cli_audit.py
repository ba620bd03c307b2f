"""The command `batchyard audit`: look results up, export and review them, see how the audit stands.

An operator's tool: it takes full ids (`acme~J1`), and reads the ledger itself, not Redis.
"""

import argparse
import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from batchyard.errors import InvalidConfig, shown

if TYPE_CHECKING:
    from batchyard.audit.ledger import Ledger
    from batchyard.audit.record import FinalRecord, Review

_COMMANDS = frozenset({"show", "export", "review", "status", "off", "-h", "--help"})
_LATE_S = 60.0
"""`status` fails if the oldest result that is not on record is older."""


def spelled_out(argv: Sequence[str]) -> list[str]:
    """The arguments with `show` where it may be left out: `audit J1` is `audit show J1`."""
    words = list(argv)
    if words[:1] == ["audit"] and len(words) > 1 and words[1] not in _COMMANDS:
        words.insert(1, "show")
    return words


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `audit` to the command line."""
    audit = commands.add_parser(
        "audit",
        help="results on record outside Redis, and their reviews",
        description="batchyard audit JOB shows what is on record of a job. The record is found through "
        "BATCHYARD_AUDIT_URL or BATCHYARD_AUDIT_URL_FILE.",
    )
    parts = audit.add_subparsers(required=True, metavar="JOB | COMMAND")

    show = parts.add_parser("show", help="results and reviews of one job (`show` may be left out)")
    show.add_argument("job", metavar="JOB")
    show.add_argument("--json", action="store_true", help="as one JSON object")
    show.set_defaults(command=_show)

    export = parts.add_parser("export", help="results with their reviews as JSON lines")
    export.add_argument("--from", dest="start", type=when, metavar="T", help="finished at T or later")
    export.add_argument("--to", dest="end", type=when, metavar="T", help="finished before T")
    export.add_argument("--batch")
    export.add_argument("--model")
    export.add_argument("-o", "--output", type=Path, metavar="OUT.jsonl", help="replaced if it exists")
    export.set_defaults(command=_export)

    review = parts.add_parser(
        "review", help="record who overrules or confirms a job's latest result, and why"
    )
    review.add_argument("job", metavar="JOB")
    review.add_argument("--by", required=True, metavar="WHO")
    review.add_argument("--why", required=True, metavar="TEXT")
    review.add_argument(
        "--verdict", metavar="JSON", help="what holds from now on (default: what held before)"
    )
    review.set_defaults(command=_review)

    status = parts.add_parser("status", help="what is not on record yet, and what was recorded last")
    status.set_defaults(command=_status)

    off = parts.add_parser("off", help="note no more results; end the auditors first")
    off.add_argument("--discard", action="store_true", help="forget results that are not on record")
    off.set_defaults(command=_off)


def when(text: str) -> datetime:
    """A moment in ISO 8601 (UTC where it names no zone) or in seconds since the epoch."""
    try:
        if text.replace(".", "", 1).isdecimal():
            return datetime.fromtimestamp(float(text), UTC)
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError):
        raise argparse.ArgumentTypeError(
            f"{shown(text)} is no time: 2026-11-24, 2026-11-24T08:00+01:00, or seconds since the epoch"
        ) from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


@contextmanager
def _ledger() -> Iterator["Ledger"]:
    from batchyard.audit.ledger import open_ledger
    from batchyard.settings import load_settings

    ledger = open_ledger(load_settings().audit)
    try:
        yield ledger
    finally:
        ledger.close()


def _show(arguments: argparse.Namespace) -> int:
    from batchyard.audit.record import as_json, no_record

    with _ledger() as ledger:
        results, reviews = ledger.results(arguments.job), ledger.reviews([arguments.job])
    if not results:
        raise no_record(arguments.job)
    if arguments.json:
        lists = ([as_json(each) for each in results], [as_json(each) for each in reviews])
        print('{{"results":[{}],"reviews":[{}]}}'.format(*(",".join(lines) for lines in lists)))
        return 0
    for result in results:
        print("\n".join(_about_result(result)))
    for review in reviews:
        print("\n".join(_about_review(review)))
    return 0


def _about_result(record: "FinalRecord") -> Iterator[str]:
    from batchyard.audit.record import moment

    yield f"{record.job_id}\t{record.state}\t{moment(record.finished)}"
    yield f"  recorded    {moment(record.recorded)}, entry {record.entry}"
    yield f"  tenant      {record.tenant}" + (f", batch {record.batch}" if record.batch else "")
    if record.gap is not None:
        yield f"  result      not on record: {record.gap}"
        return
    result: dict[str, Any] = json.loads(record.result)
    route, error = result.get("route"), result.get("error")
    if route:
        yield f"  task        {route['task']}, model {route['model']}, policy {route['policy']}"
        yield f"  why         {route['reason']}"
    if record.attempt is not None:
        yield f"  attempt     {record.attempt}"
    if record.verdict is not None:
        yield f"  verdict     {record.verdict}"
    if error:
        yield f"  error       [{error['code']}] {error['message']}"
    for name, value in result.get("provenance", {}).items():
        yield f"  {name:<19} {value}"


def _about_review(review: "Review") -> Iterator[str]:
    from batchyard.audit.record import moment

    yield f"review {review.sequence}\tby {review.reviewer}\t{moment(review.at)}"
    yield f"  why         {review.why}"
    if review.new_verdict is None:
        yield f"  verdict     stays {review.old_verdict}"
    else:
        yield f"  verdict     {review.new_verdict}, was {review.old_verdict}"


def _export(arguments: argparse.Namespace) -> int:
    from batchyard.audit.record import Selection, as_json

    selection = Selection(arguments.start, arguments.end, arguments.batch, arguments.model)
    written = 0
    with _ledger() as ledger, _output(arguments.output) as out:
        for page in ledger.export(selection):
            reviews: dict[str, list[str]] = defaultdict(list)
            for review in ledger.reviews(sorted({record.job_id for record in page})):
                reviews[review.job_id].append(as_json(review))
            for record in page:
                out.write(as_json(record, reviews=f"[{','.join(reviews[record.job_id])}]") + "\n")
            written += len(page)
    print(f"{written} results written", file=sys.stderr)
    return 0


@contextmanager
def _output(path: Path | None) -> Iterator[IO[str]]:
    """Standard output, or a file that is there only once it is whole."""
    if path is None:
        yield sys.stdout
        return
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as exc:
        raise InvalidConfig(
            f"cannot write it: {exc.strerror}", field=str(path), remedy="name a file in an existing folder"
        ) from exc


def _review(arguments: argparse.Namespace) -> int:
    from batchyard.audit.ledger import add_review
    from batchyard.audit.record import MAX_WORDS, checked_verdict, checked_words

    by = checked_words(arguments.by, "--by", 200)
    why = checked_words(arguments.why, "--why", MAX_WORDS)
    verdict = None if arguments.verdict is None else checked_verdict(arguments.verdict)
    with _ledger() as ledger:
        review = add_review(ledger, arguments.job, by, why, verdict)
    print(f"review {review.sequence} of {review.job_id} is on record")
    return 0


def _status(_arguments: argparse.Namespace) -> int:
    """Prints how the audit stands; 1 if results wait and nobody records them, or for too long."""
    import redis

    from batchyard import store
    from batchyard.audit import stream
    from batchyard.audit.auditor import ALIVE_MS
    from batchyard.audit.record import moment
    from batchyard.settings import load_settings

    with redis.Redis.from_url(load_settings().url) as connection:
        found = store.run(connection, stream.condition(ALIVE_MS))
    age = f", the oldest for {found.oldest_s:.1f} s" if found.waiting else ""
    print(f"noted\t{'yes' if found.noted else 'no: no auditor was ever started'}")
    print(f"auditors\t{found.auditors}")
    print(f"not on record\t{found.waiting}{age}")
    with _ledger() as ledger:
        last = ledger.last()
    if last is not None:
        print(f"last recorded\t{last.job_id} at {moment(last.recorded)}")
    return 0 if found.noted and found.auditors and found.oldest_s < _LATE_S else 1


def _off(arguments: argparse.Namespace) -> int:
    import redis

    from batchyard import store
    from batchyard.audit import stream
    from batchyard.audit.auditor import ALIVE_MS
    from batchyard.settings import load_settings

    with redis.Redis.from_url(load_settings().url) as connection:
        auditors = store.run(connection, stream.condition(ALIVE_MS)).auditors
        if auditors:
            raise InvalidConfig(
                f"{auditors} auditors run, and would switch it on again",
                field="audit off",
                remedy="end them; after 15 seconds they count as ended",
            )
        waiting = store.run(connection, stream.switch_off(discard=arguments.discard))
    if waiting and not arguments.discard:
        raise InvalidConfig(
            f"{waiting} results are not on record yet",
            field="audit off",
            remedy="let an auditor record them, or forget them with --discard",
        )
    print("results are no longer noted" + (f"; {waiting} were forgotten" if waiting else ""))
    return 0
