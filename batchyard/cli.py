"""The command `batchyard`: JSONL in and out, for shells and scripts.

Exit codes: 0 all well; 1 some rows were refused, or the job asked for failed; 2 nothing could be done
(one line on standard error says why); 130 interrupted. The heavy imports happen inside the commands, so
that `--help` is quick.
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from batchyard import __version__, cli_audit
from batchyard.cli_acl import add_acl
from batchyard.cli_dead import add_dead_commands
from batchyard.errors import InvalidConfig, ResultTimeout, YardError

if TYPE_CHECKING:
    from batchyard.client import Client
    from batchyard.store import BatchStatus

Command = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    words = cli_audit.spelled_out(sys.argv[1:] if argv is None else argv)
    arguments = build_parser().parse_args(words)
    command: Command = arguments.command
    try:
        return command(arguments)
    except YardError as exc:
        print(f"batchyard: {exc}", *getattr(exc, "__notes__", ()), sep="\n", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("batchyard: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="batchyard",
        description="Submit jobs to a yard and come back for the results.",
        epilog="The yard is found through BATCHYARD_REDIS_URL or BATCHYARD_REDIS_URL_FILE; jobs and batches "
        "are those of the tenant in BATCHYARD_TENANT.",
    )
    parser.add_argument("--version", action="version", version=f"batchyard {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    submit = commands.add_parser("submit", help="submit the jobs of a JSONL file, one job's fields a line")
    submit.add_argument("file", metavar="FILE.jsonl", help="- for standard input")
    submit.add_argument("--batch", help="name of the batch (default: from the file's name and content)")
    submit.add_argument("--task", help="task of rows that name none")
    submit.add_argument("--model", help="model of rows that name none")
    submit.add_argument("--priority", help="interactive, batch, or 0 (first) to 9, of rows that name none")
    submit.add_argument(
        "--wait",
        type=float,
        metavar="S",
        help="where the yard takes no more jobs for now: longest wait for it to take some "
        "(default: until it does; 0: not at all)",
    )
    submit.add_argument("--errors", type=Path, metavar="OUT.jsonl", help="write refused rows here")
    submit.set_defaults(command=_submit)

    status = commands.add_parser("status", help="states of jobs, the counters of a batch, or the queues")
    status.add_argument("jobs", nargs="*", metavar="JOB")
    status.add_argument("--batch")
    status.set_defaults(command=_status)

    results = commands.add_parser("results", help="results of a batch as JSON lines")
    results.add_argument("--batch", required=True)
    results.add_argument("-o", "--output", type=Path, metavar="OUT.jsonl", help="continued if it exists")
    results.add_argument("--follow", action="store_true", help="wait until every job has its result")
    results.add_argument("--timeout", type=float, metavar="S", help="longest wait for the next result")
    results.set_defaults(command=_results)

    result = commands.add_parser("result", help="the result of one job as JSON")
    result.add_argument("job", metavar="JOB")
    result.add_argument(
        "--timeout", type=float, metavar="S", help="longest wait (default: until it is there)"
    )
    result.set_defaults(command=_result)

    cancel = commands.add_parser("cancel", help="cancel jobs that have no result yet")
    cancel.add_argument("jobs", nargs="*", metavar="JOB")
    cancel.add_argument("--batch")
    cancel.set_defaults(command=_cancel)

    cli_audit.add_parser(commands)
    add_dead_commands(commands.add_parser("dead", help="messages that are not tried again, and why"))

    schema = commands.add_parser("schema", help="print a JSON Schema")
    schema.add_argument("what", choices=["models", "hardware", "job"])
    schema.set_defaults(command=_schema)
    add_acl(commands)
    return parser


def _client() -> "Client":
    from batchyard.client import Client

    return Client()


def _submit(arguments: argparse.Namespace) -> int:
    from batchyard.cli_rows import JobRows, batch_of, longest_line, read_lines
    from batchyard.job import new_job_id
    from batchyard.settings import load_settings

    logging.basicConfig(level=logging.WARNING, format="batchyard: %(message)s")
    refused = 0
    with ExitStack() as stack:
        most = longest_line(load_settings().max_prompt_bytes)
        lines = read_lines(_input(arguments.file, stack), most)
        errors = _error_file(arguments.errors, stack)
        name = arguments.batch or (new_job_id() if arguments.file == "-" else batch_of(Path(arguments.file)))

        def report(line: int, error: YardError) -> None:
            nonlocal refused
            refused += 1
            if errors is None:
                print(f"line {line}: {error}", file=sys.stderr)
            else:
                errors.write(json.dumps({"line": line, "error": error.as_dict()}, ensure_ascii=False) + "\n")

        rows = JobRows(lines, name, _defaults(arguments), report, most)
        client = stack.enter_context(_client())
        handle = client.submit_many(
            rows,
            batch=name,
            on_error=lambda index, _item, error: report(rows.line_of(index), error),
            wait=arguments.wait,
        )
        exists = client.batch(name).total > 0
    known = f", {handle.duplicates} known already" if handle.duplicates else ""
    print(f"{handle.submitted} submitted{known}, {refused} refused", file=sys.stderr)
    if exists:
        print(name)
    else:
        why = (
            "the jobs stay in the batch they came with first" if handle.duplicates else "no job was accepted"
        )
        print(f"there is no batch {name}: {why}", file=sys.stderr)
    return 1 if refused else 0


def _input(name: str, stack: ExitStack) -> IO[bytes]:
    if name == "-":
        return sys.stdin.buffer
    try:
        return stack.enter_context(Path(name).open("rb"))
    except OSError as exc:
        raise InvalidConfig(
            f"cannot read it: {exc.strerror}", field=name, remedy="name a JSONL file"
        ) from exc


def _error_file(path: Path | None, stack: ExitStack) -> IO[str] | None:
    try:
        return None if path is None else stack.enter_context(path.open("w", encoding="utf-8"))
    except OSError as exc:
        raise InvalidConfig(
            f"cannot write it: {exc.strerror}", field=str(path), remedy="name a file in an existing folder"
        ) from exc


def _defaults(arguments: argparse.Namespace) -> dict[str, Any]:
    """Fields for rows that do not have them; a priority may be a name or a number."""
    given = {"task": arguments.task, "model": arguments.model, "priority": arguments.priority}
    fields: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if str(fields.get("priority", "")).isdecimal():
        fields["priority"] = int(fields["priority"])
    return fields


def _status(arguments: argparse.Namespace) -> int:
    with _client() as client:
        if arguments.batch:
            print(_counters(client.batch(arguments.batch)))
        for job_id, state in zip(arguments.jobs, client.statuses(arguments.jobs), strict=True):
            print(f"{job_id}\t{state.name}")
        if not arguments.batch and not arguments.jobs:
            _print_queues()
    return 0


def _print_queues() -> None:
    """The yard at a glance: what waits in the router's queue and in each model's."""
    from batchyard import names, store
    from batchyard.connections import connect
    from batchyard.settings import load_settings

    with connect(load_settings()) as connection:
        catalogue = store.run(connection, store.get_catalogue()) or {"model_list": []}
        queues = [names.model_queue(model["model_name"]) for model in catalogue["model_list"]]
        for queue, waiting in store.run(
            connection, store.queue_lengths([names.ROUTE_QUEUE, *queues])
        ).items():
            print(f"{queue}\t{waiting} waiting")


def _counters(status: "BatchStatus") -> str:
    from batchyard.operations import unknown_batch

    if status.total == 0:
        raise unknown_batch(status.batch)
    return (
        f"{status.batch}\t{status.total} jobs, {status.total - status.done} open, "
        f"{status.success} succeeded, {status.failure} failed, {status.revoked} cancelled"
    )


def _results(arguments: argparse.Namespace) -> int:
    from batchyard.cli_output import result_lines

    waits = arguments.follow or arguments.timeout is not None
    with _client() as client, result_lines(arguments.output) as lines:
        try:
            for result in client.results(arguments.batch, timeout=arguments.timeout if waits else 0.0):
                lines.write(result)
        except ResultTimeout:
            if waits:
                print(f"{lines.written} results written", file=sys.stderr)
                raise
        status = client.batch(arguments.batch)
        print(f"{lines.written} results written", file=sys.stderr)
        if status.done < status.total:
            print(f"{status.total - status.done} jobs are open; run again, or with --follow", file=sys.stderr)
    return 0


def _result(arguments: argparse.Namespace) -> int:
    with _client() as client:
        result = client.result(arguments.job, timeout=arguments.timeout)
    print(result.model_dump_json(exclude_none=True, indent=2))
    return 0 if result.ok else 1


def _cancel(arguments: argparse.Namespace) -> int:
    if not arguments.jobs and not arguments.batch:
        raise InvalidConfig("nothing to cancel", field="cancel", remedy="name jobs, or --batch B")
    with _client() as client:
        stopped = client.cancel(*arguments.jobs)
        if arguments.batch:
            _counters(client.batch(arguments.batch))
            stopped += client.cancel_batch(arguments.batch)
    print(f"{stopped} cancelled")
    return 0


def _schema(arguments: argparse.Namespace) -> int:
    if arguments.what == "models":
        from batchyard.catalogue import catalogue_schema

        schema = catalogue_schema()
    elif arguments.what == "hardware":
        from batchyard.hardware import hardware_schema

        schema = hardware_schema()
    else:
        from batchyard.job import Job

        schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | Job.model_json_schema()
    print(json.dumps(schema, indent=2, ensure_ascii=False))
    return 0
