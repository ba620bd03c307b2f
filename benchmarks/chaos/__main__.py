"""Is anything lost? Faults dealt to a working yard, and every job accounted for.

    python -m benchmarks.chaos [--faults 200] [--jobs 20000] [--seed S] [--json FILE]

Starts a Redis (append-only file, fsync every second), routers and workers of a starter model as processes,
and keeps hundreds of jobs with certain answers in them, while processes are killed, stopped and restarted at
times and in an order that the seed decides, spread over the jobs. Exit status 1 if a job was lost, answered
twice, wrongly or not at all, if anything is left behind, or if not all faults were dealt; the logs, Redis's
files and `evidence.json` (the seed, the faults with their times, all that was seen of each job at fault) are
kept then.
"""

import argparse
import random
import shutil
import sys
import tempfile
from pathlib import Path

from batchyard.errors import YardError
from benchmarks.chaos.report import SHOWN, body_of, figures, write_evidence
from benchmarks.chaos.run import Options, Run
from benchmarks.machine import this_machine
from benchmarks.table import show, write_json


def main() -> int:
    """Make a run and print what became of it."""
    options, json_file = parse_arguments(sys.argv[1:])
    machine = this_machine()
    print(f"seed {options.seed}, logs in {options.folder}", file=sys.stderr, flush=True)
    try:
        outcome = Run(options).go()
    except YardError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    found = figures(options, outcome)
    show("Chaos: faults dealt to a working yard", machine, body_of(found))
    write_json(json_file, "chaos", machine, found)
    for violation in outcome.violations[:SHOWN]:
        print(f"{violation.kind}: {violation.job} {violation.text}")
    if outcome.violations or len(outcome.dealt) < options.faults:
        write_evidence(options.folder / "evidence.json", options, outcome)
        print(f"seed {options.seed}; logs, Redis's files and evidence.json are kept in {options.folder}")
        return 1
    shutil.rmtree(options.folder)
    return 0


def parse_arguments(argv: list[str]) -> tuple[Options, Path | None]:
    """The options of a run, and where its figures go."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=20_000, help="at least so many")
    parser.add_argument("--seed", type=int, help="of faults and jobs (default: any)")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--routers", type=int, default=2)
    parser.add_argument("--slots", type=int, default=6, help="of each worker")
    parser.add_argument("--window", type=int, default=600, help="jobs that are open at a time")
    parser.add_argument("--lease", type=float, default=3.0, help="BATCHYARD_LEASE_SECONDS of the yard")
    parser.add_argument("--at-most", type=float, default=7200.0, help="seconds after which no fault is dealt")
    parser.add_argument("--logs", type=Path, help="an empty folder for logs and Redis's files")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(argv)
    folder = given.logs or Path(tempfile.mkdtemp(prefix="batchyard-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    options = Options(
        faults=given.faults,
        jobs=given.jobs,
        seed=random.randrange(1 << 31) if given.seed is None else given.seed,
        workers=given.workers,
        routers=given.routers,
        slots=given.slots,
        window=given.window,
        lease=given.lease,
        at_most=given.at_most,
        folder=folder.resolve(),
    )
    return options, given.json


if __name__ == "__main__":
    sys.exit(main())
