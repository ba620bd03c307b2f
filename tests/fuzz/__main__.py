"""The long form: at least so many inputs over all parsers, each target in a process of its own.

    python -m tests.fuzz --inputs 1000000            all targets; run again to go on where it stopped
    python -m tests.fuzz --target job --seconds 60   one of them
    python -m tests.fuzz --replay build/fuzz/1/job-….input

A run is named by its seed: its inputs, corpus, findings and counts lie in build/fuzz/SEED, and another call
with the same seed continues it. Ends with 1 if there was a finding.
"""

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

from tests.fuzz.child import has_atheris
from tests.fuzz.growth import check_growth
from tests.fuzz.oracle import Target, limited
from tests.fuzz.session import Report, current_input
from tests.fuzz.targets import TARGETS

_EDGES = re.compile(r"cov: (\d+)")
_PATIENCE = 150.0
"""Seconds beyond its own that a process gets; then it hangs where Python cannot stop it."""


def _shares(targets: list[Target], inputs: int) -> dict[str, int]:
    weights = sum(target.weight for target in targets)
    return {target.name: -(-inputs * target.weight // weights) for target in targets}


def run_piece(target: Target, folder: Path, inputs: int, seconds: float, seed: int, engine: str) -> Report:
    """Run one target for a while, and add what came of it to its report."""
    path, piece = folder / f"{target.name}.json", folder / f"{target.name}.piece.json"
    report = Report.read(path, target.name)
    piece.unlink(missing_ok=True)
    # a seed for each piece: with one for all, each would try the same again
    words = (target.name, str(folder), str(inputs), str(seconds), str(seed + report.inputs), engine)
    log = folder / f"{target.name}.log"
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-m", "tests.fuzz.child", *words], stdout=out, stderr=out)
        try:
            status: int | None = process.wait(seconds + _PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            status = None
    if piece.exists():
        new = Report.read(piece, target.name)
        report.inputs += new.inputs
        report.accepted += new.accepted
        report.seconds += new.seconds
        report.slowest = max(report.slowest, new.slowest)
        report.failures |= new.failures
    else:
        name = f"{target.name}-died-{report.inputs}.input"
        (folder / name).write_bytes(current_input(folder, target.name))
        why = "hung where Python could not stop it" if status is None else f"the process ended with {status}"
        report.failures[why] = f"{name}; see {log}"
    edges = _EDGES.findall(log.read_text("utf-8", "replace"))
    if edges:
        report.edges = max(report.edges or 0, int(edges[-1]))
    report.write(path)
    return report


def _print(reports: list[Report]) -> None:
    print(
        f"{'target':<10} {'inputs':>9} {'accepted':>8} {'a second':>8} {'slowest':>8} {'edges':>6}  findings"
    )
    for one in reports:
        share = one.accepted / max(1, one.inputs)
        speed = one.inputs / max(1e-9, one.seconds)
        edges = "-" if one.edges is None else one.edges
        print(
            f"{one.target:<10} {one.inputs:>9,} {share:>8.1%} {speed:>8,.0f} {one.slowest:>7.2f}s {edges:>6}"
            f"  {len(one.failures)}"
        )
    inputs, seconds = sum(one.inputs for one in reports), sum(one.seconds for one in reports)
    found = sum(len(one.failures) for one in reports)
    print(f"{'all':<10} {inputs:>9,} {'':>8} {inputs / max(1e-9, seconds):>8,.0f} {'':>8} {'':>6}  {found}")
    for one in reports:
        for where, what in one.failures.items():
            print(f"{one.target}: {where}: {what}")


def replay(file: Path) -> int:
    """Run a kept input again; what it raises comes through."""
    target = TARGETS[file.name.partition("-")[0]]
    accepted = limited(target, file.read_bytes(), 60.0)
    print("accepted" if accepted else "refused", "and all that must hold does")
    return 0


def main() -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__, allow_abbrev=False)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="inputs over all targets (1,000,000)")
    parser.add_argument(
        "--seconds", type=float, default=1e6, help="stop after so many seconds; run again to go on"
    )
    parser.add_argument("--seed", type=int, default=1, help="names the run (1)")
    parser.add_argument(
        "--target", choices=[*TARGETS], action="append", help="this one only; may be repeated"
    )
    parser.add_argument("--engine", choices=["atheris", "seeds"], help="atheris where it is installed")
    parser.add_argument("--growth", action="store_true", help="only measure how time grows with size")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run one kept input again")
    options = parser.parse_args()
    if options.replay:
        return replay(options.replay)
    if options.growth:
        return check_growth()
    engine = options.engine or ("atheris" if has_atheris() else "seeds")
    folder = Path("build/fuzz") / str(options.seed)
    folder.mkdir(parents=True, exist_ok=True)
    targets = [TARGETS[name] for name in options.target or TARGETS]
    shares = _shares(targets, options.inputs)
    print(f"seed {options.seed}, engine {engine}, {options.inputs:,} inputs, kept in {folder}", flush=True)
    until = time.monotonic() + options.seconds
    reports = [Report.read(folder / f"{target.name}.json", target.name) for target in targets]
    for at, target in enumerate(targets):
        left = [max(0, shares[one.target] - one.inputs) for one in reports]
        # each gets its part of the time that is left, so that the last ones get theirs, too
        seconds = (until - time.monotonic()) * left[at] / max(1, sum(left[at:]))
        if left[at] and seconds > 1:
            reports[at] = run_piece(target, folder, left[at], seconds, options.seed, engine)
    _print(reports)
    if all(report.inputs >= shares[report.target] for report in reports):
        print("complete")
    return 1 if any(report.failures for report in reports) else 0


if __name__ == "__main__":
    sys.exit(main())
