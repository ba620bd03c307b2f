"""How right and how sure choices are, by prior and length normalisation, on the starter model's reports.

    python -m benchmarks.choices_forms

Held-out wordings, scored with the four labels that `defect_detect` was trained on, and with wordings of them
that it never saw, of one to five tokens. The temperature of each form is fitted as workers.calibrate does,
and its calibration error is of rows that it was not fitted on.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import islice, product
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks.machine import this_machine
from benchmarks.table import aligned, show, write_json
from training.generate.text_cls import Labelled, requests
from training.generate.verdict import CATEGORIES
from training.generate.wording import Split
from workers.calibration import Calibration, Scores, calibrate
from workers.engine.environment import bound_spinning, choose_threads

if TYPE_CHECKING:
    from workers.engine.engine import Engine

INSTRUCTION: Final = "Name the category of the report."
WORDINGS: Final[dict[str, dict[str, str]]] = {
    "its own": {str(name): str(name) for name in CATEGORIES},
    "two words": {
        "soldering": "solder joint defect",
        "placement": "part placement",
        "contamination": "contamination",
        "none": "no defect",
    },
    "one long": {
        "soldering": "soldering",
        "placement": "wrong component placement or polarity",
        "contamination": "foreign matter contamination",
        "none": "none",
    },
}


def scores_of(
    engine: Engine, rows: Sequence[Labelled], labels: Sequence[str], prior: bool, mean: bool
) -> Scores:
    """Log-probabilities [rows, labels], untempered."""
    output = {
        "type": "choices",
        "choices": list(labels),
        "prior": "content_free" if prior else None,
        "length_normalization": "mean" if mean else "none",
    }
    found: dict[int, dict[str, float]] = {}
    for at, row in enumerate(rows):
        chat = [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": row.text}]
        engine.submit({"id": str(at), "messages": chat, "output": output})
    while not engine.idle:
        engine.step()
        for event in engine.events():
            if event["op"] == "failed":
                raise RuntimeError(event["error"]["message"])
            if event["op"] == "done":
                found[int(event["id"])] = event["completion"]["choice_probabilities"]
    table = np.array([[found[at][label] for label in labels] for at in range(len(rows))], np.float64)
    return np.asarray(np.log(np.maximum(table, 1e-300)), np.float64)


def measure(engine: Engine, rows: Sequence[Labelled]) -> dict[str, Calibration]:
    """What is found for each wording and form."""
    found = {}
    for (name, wording), prior, mean in product(WORDINGS.items(), (False, True), (False, True)):
        right = np.array([list(wording).index(row.label) for row in rows], np.int64)
        scores = scores_of(engine, rows, list(wording.values()), prior, mean)
        found[f"{name}, {'mean' if mean else 'sum'}{', prior' if prior else ''}"] = calibrate(scores, right)
    return found


def lines_of(found: Mapping[str, Calibration]) -> list[list[str]]:
    """The table's lines."""
    return [
        [
            name,
            f"{one.accuracy:.1%}",
            f"{one.ece_before:.1%}",
            f"{one.ece_after:.1%}",
            f"{one.temperature:.2f}" + (" (bound)" if one.bounded else ""),
        ]
        for name, one in found.items()
    ]


def main() -> None:
    """Print one table for each split."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.choices_forms", description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("models/defect_detect.Q4_K_M.gguf"))
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--seed", type=int, default=4242)
    parser.add_argument("--threads", type=int, default=choose_threads())
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    machine, figures = this_machine(), {}
    # before the native library loads, which reads it then
    bound_spinning(os.environ)
    from workers.engine.engine import Engine
    from workers.engine.loader import load
    from workers.engine.model import EngineModel

    settings = EngineModel(
        "bench", str(options.model), n_ctx=256, n_slots=16, n_batch=256, n_threads=options.threads
    )
    runtime = load(settings)
    splits: tuple[Split, ...] = ("test", "train")
    for split in splits:
        rows = list(islice(requests(split, options.seed), options.rows))
        header = ["labels, score", "right", "error of confidence", "with temperature", "temperature"]
        title = f"{options.model.name}, {len(rows)} reports in the wordings of the {split} split"
        found = measure(Engine(runtime), rows)
        show(title, machine, aligned(header, lines_of(found)))
        figures[split] = {name: asdict(one) for name, one in found.items()}
    runtime.close()
    write_json(options.json, "choices_forms", machine, figures)


if __name__ == "__main__":
    main()
