"""Fit the temperature of a model's choices for one task on labelled rows, through the engine.

`python -m workers.calibrate --model defect_detect --task text_cls rows.jsonl` reads rows of `text` and
`label`, scores each as a job of the task would be, and prints accuracy, calibration error before and after,
and the line for the catalogue. Nothing is written.
"""

import argparse
import json
import select
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from batchyard.catalogue import Catalogue, LlamaEntry, load_catalogue
from batchyard.errors import EngineLost, InvalidConfig, JobFailed, YardError, shown
from batchyard.job import Job
from batchyard.output import ChoicesOutput
from batchyard.settings import load_settings
from workers.calibration import Calibration, Labels, Scores, calibrate
from workers.engine_process import EngineProcess
from workers.gpu import gpus_for
from workers.requests import engine_request
from workers.start import prepare, start_engine

SILENT_SECONDS = 300.0
FEWEST_ROWS = 20
_LEAST = 1e-300


@dataclass(frozen=True, slots=True)
class Row:
    """A text, and which of the labels is right for it."""

    text: str
    label: int


def read_rows(path: Path, labels: Sequence[str]) -> list[Row]:
    """The rows of a JSONL file.

    Raises:
        InvalidConfig: the file cannot be read, is too short, or a line holds no text and label.
    """
    try:
        # not splitlines(): it also cuts at what a JSON text may hold as it is (U+2028, U+2029, U+0085)
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidConfig(f"cannot read it: {exc}", field=str(path), remedy="name a JSONL file") from exc
    rows = [
        _row(line, f"{path}: line {number}", labels) for number, line in enumerate(lines, 1) if line.strip()
    ]
    if len(rows) < FEWEST_ROWS:
        raise InvalidConfig(
            f"{len(rows)} rows say too little", field=str(path), remedy=f"give {FEWEST_ROWS} at least"
        )
    return rows


def _row(line: str, where: str, labels: Sequence[str]) -> Row:
    remedy = 'a row is such as {"text": "…", "label": "…"}'
    try:
        row = json.loads(line)
        text, label = row["text"], row["label"]
    except (ValueError, KeyError, TypeError) as exc:
        raise InvalidConfig(f"no row: {exc!r}", field=where, remedy=remedy) from None
    if not isinstance(text, str) or not text.strip():
        raise InvalidConfig(f"text is {shown(text)}", field=where, remedy=remedy)
    if label not in labels:
        raise InvalidConfig(
            f"label {shown(label)} is none of {', '.join(labels)}",
            field=where,
            remedy="correct it, or name the labels with --choices",
        )
    return Row(text, labels.index(label))


def choices_of(catalogue: Catalogue, task: str, labels: Sequence[str] | None) -> ChoicesOutput:
    """The output form to calibrate: the task's own, with other labels if some are named.

    Raises:
        InvalidConfig: there is no such task, or neither it nor the caller names labels.
    """
    entry = catalogue.task(task)
    if entry is None:
        raise InvalidConfig(
            f"no task {shown(task)}", field="task", remedy=f"name one of {', '.join(catalogue.task_names)}"
        )
    form = entry.output if isinstance(entry.output, ChoicesOutput) else None
    if labels is not None:
        return ChoicesOutput(**((form.model_dump() if form else {"type": "choices"}) | {"choices": labels}))
    if form is None:
        raise InvalidConfig(
            f"the task {task} names no choices", field="task", remedy="name them: --choices pass fail"
        )
    return form


def scores_of(
    engine: EngineProcess, rows: Sequence[Row], form: ChoicesOutput, task: str, catalogue: Catalogue,
    entry: LlamaEntry,
) -> Scores:  # fmt: skip
    """Log-probabilities [rows, labels] as the engine gives them, untempered.

    Raises:
        EngineLost, JobFailed: the engine did not get through the rows.
    """
    untempered = entry.model_copy(update={"choices_temperature": {}})
    waiting = set()
    for number, row in enumerate(rows):
        job = Job(id=f"row-{number}", task=task, prompt=row.text, output=form)
        engine.send({"op": "submit", "request": engine_request(job, task, catalogue, untempered)})
        waiting.add(job.id)
    found: dict[str, dict[str, float]] = {}
    while waiting:
        for frame in _frames(engine):
            if frame["op"] == "failed":
                error = frame["error"]
                raise JobFailed(f"{frame['id']}: {error['message']}", error["code"], remedy=error["remedy"])
            if frame["op"] == "done":
                found[frame["id"]] = frame["completion"]["choice_probabilities"]
                waiting.discard(frame["id"])
    table = [[found[f"row-{number}"][label] for label in form.choices] for number in range(len(rows))]
    return np.asarray(np.log(np.maximum(np.array(table, np.float64), _LEAST)), np.float64)


def _frames(engine: EngineProcess) -> Iterator[dict[str, Any]]:
    readable, writable, _ = select.select(
        [engine], [engine.write_fd] if engine.unsent else [], [], SILENT_SECONDS
    )
    if not readable and not writable:
        raise EngineLost(f"the engine said nothing for {SILENT_SECONDS:g} s")
    engine.flush()
    frames = engine.read()
    if frames is None:
        raise EngineLost("the engine died while it scored the rows")
    yield from frames


def report(model: str, task: str, labels: Sequence[str], found: Calibration) -> str:
    """What a reader needs to decide, and the line for the catalogue."""
    lines = [
        f"{model}, {task}: {found.rows} rows, {len(labels)} labels ({', '.join(labels)})",
        f"accuracy {found.accuracy:.1%}",
        f"calibration error {found.ece_before:.1%} as it is, {found.ece_after:.1%} with a temperature",
        f"negative log-likelihood {found.nll_before:.3f} as it is, {found.nll_after:.3f} with a temperature",
        "(the latter figures by halves: each judged with the temperature fitted on the other)",
    ]
    if found.bounded:
        lines.append(
            "the temperature is at its bound: these rows are all right or all wrong; take more, harder ones"
        )
    lines.append(
        f"\nunder {model} in the catalogue:\n    choices_temperature: {{{task}: {found.temperature:.2f}}}"
    )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Entry point of `python -m workers.calibrate`."""
    parser = argparse.ArgumentParser(prog="python -m workers.calibrate", description=__doc__)
    parser.add_argument("rows", type=Path, help="JSONL rows of text and label")
    parser.add_argument("--model", required=True)
    parser.add_argument("--task", required=True, help="task whose instruction, labels and options are used")
    parser.add_argument("--choices", nargs="+", metavar="LABEL", help="labels, instead of the task's")
    parser.add_argument("--gpu", default="auto", help="UUID, index, auto (most free memory) or none")
    arguments = parser.parse_args(argv)
    try:
        settings = load_settings()
        catalogue = load_catalogue(settings.models)
        entry = catalogue.model(arguments.model)
        if not isinstance(entry, LlamaEntry):
            raise InvalidConfig(
                f"{entry.model_name} is run by {entry.engine}, whose choices have no temperature",
                field="model",
                remedy="name a model of the engine llama_cpp",
            )
        form = choices_of(catalogue, arguments.task, arguments.choices)
        rows = read_rows(arguments.rows, form.choices)
        engine = start_engine(settings, prepare(settings, entry, gpus_for(entry, arguments.gpu)))
        try:
            scores = scores_of(engine, rows, form, arguments.task, catalogue, entry)
        finally:
            engine.end()
    except YardError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    labels: Labels = np.array([row.label for row in rows], np.int64)
    print(report(entry.model_name, arguments.task, form.choices, calibrate(scores, labels)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
