"""Figures as text: medians with their spread, aligned columns, and the JSON file beside them. Pure, but
for writing that file."""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.machine import Machine


def spread(values: Sequence[float], digits: int = 1) -> str:
    """`median (least-most)`, or the one value."""
    if not values:
        return "-"
    middle = f"{median(values):,.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):,.{digits}f}-{max(values):,.{digits}f})"


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Median of ours over median of theirs; NaN where one of them is missing."""
    if not ours or not theirs or not median(theirs):
        return float("nan")
    return median(ours) / median(theirs)


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table: the first column to the left, the others to the right."""
    widths = [max(len(row[at]) for row in [header, *rows]) for at in range(len(header))]

    def line(row: Sequence[str]) -> str:
        cells = [
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(cells).rstrip()

    return "\n".join([line(header), line(["-" * width for width in widths]), *map(line, rows)])


def show(title: str, machine: Machine, body: str) -> None:
    """Print a result with the machine it belongs to."""
    print("\n".join(["", title, *machine.lines(), "", body]), flush=True)


def write_json(path: Path | None, benchmark: str, machine: Machine, figures: object) -> None:
    """Write the figures with their machine to `path`, if one is given."""
    if path is not None:
        document = {"benchmark": benchmark, "machine": machine.as_dict(), "figures": figures}
        path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
