"""What a job's confidence costs: the margin of its first value token by size of the vocabulary, and the rest.

    python -m benchmarks.confidence_cost

Microseconds of one thread for a whole job, beside one argmax over the same row, which every token costs.
"""

import argparse
import timeit
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.machine import this_machine
from benchmarks.table import aligned, show, write_json
from workers.engine.completion import Confidence
from workers.engine.confidence import Evidence, margin_of
from workers.engine.sampler import log_sum_exp

VOCABULARIES = (2_048, 32_000, 128_256)
VERDICT = (
    ('{"verdict":"', None), ("fail", -0.1), ('","defect":"', None), ("bridge", -0.2), ('","ref":"', None),
    ("U", -0.1), ("1", -0.1), ("2", -0.3), ('","location":"', None), ("pin", -0.1), (" ", -0.1), ("3", -0.2),
    ('"}', None),
)  # fmt: skip
"""Tokens with their log-probabilities; None is forced."""


def microseconds(call: Callable[[], object], count: int = 300) -> float:
    """The least mean over `count` calls of seven tries."""
    return min(timeit.repeat(call, number=count, repeat=7)) / count * 1e6


def verdict_evidence() -> Confidence | None:
    """All that one verdict costs beside its margin."""
    evidence = Evidence(structured=True)
    pieces: list[bytes] = []
    for text, score in VERDICT:
        pieces.append(text.encode())
        if score is not None:
            evidence.choose(pieces, 0.5)
    return evidence.confidence(pieces, [score or 0.0 for _, score in VERDICT])


def margin_costs(vocabulary: int) -> dict[str, float]:
    """Microseconds of an argmax, the margin of a free token, and of one whose fourth and fifth candidates are
    allowed."""
    row = np.random.default_rng(0).standard_normal(vocabulary).astype(np.float32) * 3
    normaliser = float(log_sum_exp(row[None, :])[0])
    allowed = frozenset(np.argsort(-row)[3:5].tolist())
    return {
        "argmax": microseconds(row.argmax),
        "first margin": microseconds(partial(margin_of, row, normaliser)),
        "with a grammar": microseconds(partial(margin_of, row, normaliser, allowed.__contains__)),
    }


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.confidence_cost", description=__doc__)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    machine = this_machine()
    costs = {vocabulary: margin_costs(vocabulary) for vocabulary in VOCABULARIES}
    rest = microseconds(verdict_evidence)
    rows = [
        [f"vocabulary {vocabulary:,}", *(f"{cost:.1f}" for cost in found.values())]
        for vocabulary, found in costs.items()
    ]
    body = aligned(["µs a job", *costs[VOCABULARIES[0]]], rows)
    below = f"a verdict of {len(VERDICT)} tokens, all but the margin: {rest:.1f} µs a job"
    show("Confidence", machine, f"{body}\n\n{below}")
    write_json(options.json, "confidence_cost", machine, {"margin_us": costs, "verdict_us": rest})


if __name__ == "__main__":
    main()
