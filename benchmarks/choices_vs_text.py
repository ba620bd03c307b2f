"""Choosing a label by the output form `choices` beside generating it: steps a job, jobs/s, share right.

    python -m benchmarks.choices_vs_text [--model 1.1B] [--at 1 16] [--jobs 400] [--labels LABEL LABEL …]
        [--json FILE]

The starter model (or another, whose steps and speed alone then count) on held-out requests to categorise a
report, with the catalogue's instruction and labels.
Generating is measured as free text, which may be anything, and under a grammar that allows only the labels.
All three go through the same engine's child process, in turns. The starter's own labels have one token each;
`--labels` takes others, of several tokens, for which the model was not trained: steps and speed count then,
and free text and the share right mean nothing.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from statistics import mean
from typing import Any

from batchyard import Job, Settings
from batchyard.catalogue import Catalogue, load_catalogue
from batchyard.errors import YardError
from batchyard.output import ChoicesOutput
from benchmarks.child import ROOT
from benchmarks.engine_client import completions, engine_child
from benchmarks.machine import this_machine
from benchmarks.shapes import STARTER, measured_model
from benchmarks.table import aligned, ratio, show, spread, write_json
from training.generate.text_cls import Labelled, requests
from workers.engine_process import EngineProcess
from workers.requests import engine_request

MODEL = "defect_detect"
TASK = "text_cls"
SEED = 77
N_CTX = 256
MAX_TOKENS = 16
CHOICES = "choices"


@dataclass(frozen=True, slots=True)
class Run:
    """One measurement. `steps` is the mean number of forward passes that a job took part in."""

    form: str
    at_once: int
    seconds: float
    jobs: int
    steps: float
    right: float

    @property
    def rate(self) -> float:
        """Jobs per second."""
        return self.jobs / self.seconds


def forms(choices: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The output forms that are compared, by name."""
    rule = " | ".join(json.dumps(label) for label in choices)
    return {
        CHOICES: {"type": "choices", "choices": list(choices)},
        "generated text": {"type": "text"},
        "generated, grammar": {"type": "grammar", "grammar": f"root ::= {rule}"},
    }


def measure(
    engine: EngineProcess, catalogue: Catalogue, form: str, output: dict[str, Any],
    asked: Sequence[Labelled], at_once: int,
) -> Run:  # fmt: skip
    """Ask about every request in one form."""
    sampling = {"temperature": 0.0, "max_tokens": MAX_TOKENS}
    frames, model = [], catalogue.model(MODEL)
    for number, one in enumerate(asked):
        fields = {
            "id": f"c{number}",
            "task": TASK,
            "prompt": one.text,
            "output": output,
            "sampling": sampling,
        }
        frames.append(engine_request(Job.model_validate(fields), TASK, catalogue, model))
    began = time.perf_counter()
    found = completions(engine, frames, at_once)
    seconds = time.perf_counter() - began
    answers = [found[f"c{number}"] for number in range(len(asked))]
    right = mean(done["text"].strip() == one.label for done, one in zip(answers, asked, strict=True))
    steps = mean(done["timings"]["steps"] for done in answers)
    return Run(form, at_once, seconds, len(asked), steps, right)


def own_labels(catalogue: Catalogue) -> tuple[str, ...]:
    """The labels that the catalogue gives the task. Raises SystemExit where it has none."""
    entry = catalogue.task(TASK)
    if entry is None or not isinstance(entry.output, ChoicesOutput):
        raise SystemExit(f"the catalogue's task {TASK} has no choices")
    return entry.output.choices


def compare(
    catalogue: Catalogue, weights: Path, labels: Sequence[str], asked: Sequence[Labelled], at_once: int,
    rounds: int, threads: int,
) -> list[Run]:  # fmt: skip
    """All forms in turns on one engine."""
    compared, runs = forms(labels), []
    with engine_child(weights, slots=at_once, n_ctx=N_CTX, threads=threads) as engine:
        for name, output in compared.items():
            measure(engine, catalogue, name, output, asked[: max(8, at_once)], at_once)
        for number in range(rounds):
            names = list(compared)
            for name in names if number % 2 == 0 else reversed(names):
                runs.append(measure(engine, catalogue, name, compared[name], asked, at_once))
    return runs


def body_of(runs: Sequence[Run]) -> str:
    """The table."""
    rows = []
    for at_once in dict.fromkeys(run.at_once for run in runs):
        here = [run for run in runs if run.at_once == at_once]
        text = [run.rate for run in here if run.form != CHOICES and "grammar" not in run.form]
        for form in dict.fromkeys(run.form for run in here):
            mine = [run for run in here if run.form == form]
            rates = [run.rate for run in mine]
            steps, right = mine[-1].steps, f"{100 * mine[-1].right:.1f} %"
            rows.append(
                [form, str(at_once), f"{steps:.1f}", spread(rates), f"{ratio(rates, text):.2f}", right]
            )
    header = ["form", "at once", "steps a job", "jobs/s (least-most)", "x text", "right"]
    return aligned(header, rows)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.choices_vs_text", description=__doc__)
    parser.add_argument("--model", help="1.1B, 7B or a GGUF (default: the shipped starter model)")
    parser.add_argument("--at", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--jobs", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--labels", nargs="+", help="default: the catalogue's")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    machine = this_machine()
    catalogue = load_catalogue(Settings(models=ROOT / "configs/models.yaml").models)
    asked = list(islice(requests("test", SEED), options.jobs))
    labels = options.labels or own_labels(catalogue)
    weights = STARTER if options.model is None else measured_model(options.model)
    try:
        runs = [
            run
            for at_once in options.at
            for run in compare(catalogue, weights, labels, asked, at_once, options.rounds, options.threads)
        ]
    except YardError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    title = f"A label chosen and generated: {options.jobs} jobs a run, {options.rounds} rounds in turns"
    show(title, machine, body_of(runs))
    write_json(options.json, "choices_vs_text", machine, [asdict(run) for run in runs])
    return 0


if __name__ == "__main__":
    sys.exit(main())
