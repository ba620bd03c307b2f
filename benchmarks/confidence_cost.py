"""What a job's confidence costs: the margin of its first value token by size of the vocabulary, and the rest.

    python -m benchmarks.confidence_cost

Microseconds of one thread for a whole job, beside one argmax over the same row, which every token costs.
"""

import argparse
import timeit
from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks.machine import this_machine
from benchmarks.table import aligned, show
from workers.engine.completion import Confidence
from workers.engine.confidence import Evidence, margin_of
from workers.engine.sampler import log_sum_exp

VERDICT = (
    ('{"verdict":"', None), ("fail", -0.1), ('","defect":"', None), ("bridge", -0.2), ('","ref":"', None),
    ("U", -0.1), ("1", -0.1), ("2", -0.3), ('","location":"', None), ("pin", -0.1), (" ", -0.1), ("3", -0.2),
    ('"}', None),
)  # fmt: skip
"""Tokens with their log-probabilities; None is forced."""


def microseconds(call: Callable[[], object], count: int = 300) -> str:
    """The least mean over `count` calls of seven tries."""
    return f"{min(timeit.repeat(call, number=count, repeat=7)) / count * 1e6:.1f}"


def verdict_evidence() -> Confidence | None:
    """All that one verdict costs beside its margin."""
    evidence = Evidence(structured=True)
    pieces: list[bytes] = []
    for text, score in VERDICT:
        pieces.append(text.encode())
        if score is not None:
            evidence.choose(pieces, 0.5)
    return evidence.confidence(pieces, [score or 0.0 for _, score in VERDICT])


def margin_lines(vocabulary: int) -> list[str]:
    """An argmax, the margin of a free token, and of one whose fourth and fifth candidates are allowed."""
    row = np.random.default_rng(0).standard_normal(vocabulary).astype(np.float32) * 3
    normaliser = float(log_sum_exp(row[None, :])[0])
    allowed = frozenset(np.argsort(-row)[3:5].tolist())
    return [
        f"vocabulary {vocabulary:,}",
        microseconds(row.argmax),
        microseconds(partial(margin_of, row, normaliser)),
        microseconds(partial(margin_of, row, normaliser, allowed.__contains__)),
    ]


def main() -> None:
    """Print both tables."""
    argparse.ArgumentParser(prog="python -m benchmarks.confidence_cost", description=__doc__).parse_args()
    rows = [margin_lines(vocabulary) for vocabulary in (2_048, 32_000, 128_256)]
    body = aligned(["µs a job", "argmax", "first margin", "with a grammar"], rows)
    rest = (
        f"a verdict of {len(VERDICT)} tokens, all but the margin: {microseconds(verdict_evidence)} µs a job"
    )
    show("Confidence", this_machine(), f"{body}\n\n{rest}")


if __name__ == "__main__":
    main()
