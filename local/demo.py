"""The demonstration: submit a file of labelled jobs, watch them being answered, show what came of it."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from batchyard.cli_rows import longest_line, parse_row, read_lines
from batchyard.client import Client
from batchyard.errors import InvalidConfig, InvalidJob, ResultTimeout, YardError
from batchyard.job import new_job_id
from batchyard.settings import Settings, load_settings
from local.summary import Done, Line, failures, lines

STALL_SECONDS = 120.0
"""Without any result for this long, the demonstration gives up on the rest."""
_SHOWN_REFUSALS = 10
LEGEND = (
    "routed: taken for the task in the file (the rest goes to the default model);",
    "right: the answer equals the label; -: there are none; p50, p95: seconds from",
    "submission, all at once, to the result; batch: mean number of jobs that",
    "shared a step; +1: and one other model",
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of the file: finished jobs, rows that were refused, ids without a result, seconds."""

    done: tuple[Done, ...]
    refused: tuple[tuple[int, YardError], ...]
    open: tuple[str, ...]
    seconds: float

    @property
    def complete(self) -> bool:
        """Whether every row was accepted and every job answered."""
        return not self.refused and not self.open and all(one.result.ok for one in self.done)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The jobs in a JSONL file.

    Raises:
        InvalidConfig: naming the line that is none.
    """
    rows = []
    most = longest_line(load_settings().max_prompt_bytes)
    try:
        with path.open("rb") as file:
            for number, line in enumerate(read_lines(file, most), 1):
                row = parse_row(line, most)
                if row is not None:
                    rows.append({"id": str(number), **row})
    except OSError as exc:
        raise InvalidConfig(f"cannot read it: {exc.strerror}", field=str(path)) from exc
    except InvalidJob as exc:
        raise InvalidConfig(f"line {number}: {exc.message}", field=str(path), remedy=exc.remedy) from exc
    if not rows:
        raise InvalidConfig("has no jobs", field=str(path))
    return rows


def run_demo(settings: Settings, rows: Sequence[Mapping[str, Any]], console: Console) -> Outcome:
    """Submit `rows` as one new batch and collect the results, with live progress on `console`.

    An interruption cancels what has no result yet, so that a later start does not find it in the queues.
    """
    batch = f"demo-{new_job_id()}"
    own = {f"{batch}.{row['id']}": row for row in rows}
    refused: list[tuple[int, YardError]] = []
    with Client(settings) as client:
        started = time.monotonic()
        client.submit_many(
            ({**row, "id": job_id} for job_id, row in own.items()),
            batch=batch,
            on_error=lambda index, _item, error: refused.append((index, error)),
        )
        try:
            done = _collect(client, batch, own, started, len(rows) - len(refused), console)
        except KeyboardInterrupt:
            client.cancel_batch(batch)
            raise
        seconds = time.monotonic() - started
        finished = {one.result.job_id for one in done}
        still_open = tuple(job_id for job_id in client.jobs(batch) if job_id not in finished)
    return Outcome(tuple(done), tuple(refused), still_open, seconds)


def _collect(
    client: Client, batch: str, rows: Mapping[str, Mapping[str, Any]], started: float, total: int,
    console: Console,
) -> list[Done]:  # fmt: skip
    done: list[Done] = []
    if total == 0:
        return done
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.0f} jobs/s"), TextColumn("{task.fields[failed]} failed"),
        TimeElapsedColumn(),
    )  # fmt: skip
    failed, said = 0, 0
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("answered", total=total, rate=0.0, failed=0)
        try:
            for result in client.results(batch, timeout=STALL_SECONDS):
                at = time.monotonic() - started
                done.append(Done(rows[result.job_id], result, at))
                failed += not result.ok
                progress.update(bar, completed=len(done), rate=len(done) / at, failed=failed)
                if not console.is_terminal and 10 * len(done) // total > said:
                    said = 10 * len(done) // total
                    console.print(f"  {len(done)}/{total} answered, {failed} failed, {at:.1f} s")
        except ResultTimeout as exc:
            console.print(f"[yellow]{exc.message}[/yellow]")
    return done


def show(outcome: Outcome, console: Console) -> None:
    """Print the table, and every reason for which a job has no answer."""
    everything = lines(outcome.done)
    console.print(_table(everything, f"{len(outcome.done)} jobs in {outcome.seconds:.1f} s"))
    for line in LEGEND:
        console.print(line, highlight=False)
    for code, count, example in failures(outcome.done):
        console.print(f"{count} failed with {code}, such as {example}", markup=False)
    for index, error in outcome.refused[:_SHOWN_REFUSALS]:
        console.print(f"job {index + 1} of the file was refused: {error}", markup=False)
    if outcome.open:
        console.print(f"{len(outcome.open)} jobs have no result, such as {outcome.open[0]}", markup=False)


def _table(everything: Sequence[Line], title: str) -> Table:
    """The table within 80 columns; failures have a column only if there are any."""
    failed = everything[-1].failed > 0
    table = Table(title=title, box=SIMPLE_HEAD, show_edge=False, padding=0, title_justify="left")
    for heading in ("task", "model"):
        table.add_column(heading, no_wrap=True)
    for heading in (
        "jobs",
        *(["fail"] if failed else []),
        "routed",
        "right",
        "p50",
        "p95",
        "batch",
        "jobs/s",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for line in everything:
        if line is everything[-1]:
            table.add_section()
        table.add_row(
            line.task,
            f"{line.models[0]}{f' +{len(line.models) - 1}' if line.models[1:] else ''}"
            if line.models
            else "-",
            str(line.jobs),
            *([str(line.failed)] if failed else []),
            _percent(*line.routed),
            _percent(*line.answered),
            _number(line.p50, 2 if line.p50 < 9.995 else 1),
            _number(line.p95, 2 if line.p95 < 9.995 else 1),
            _number(line.mean_batch, 1),
            _number(line.per_second, 1),
        )
    return table


def _percent(right: int, labelled: int) -> str:
    return f"{100 * right / labelled:.1f}%" if labelled else "-"


def _number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"
