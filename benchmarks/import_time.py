"""How long `import batchyard` takes beside `import celery, redis, pydantic`, in fresh interpreters, in turns.

    python -m benchmarks.import_time [--rounds 15] [--python INTERPRETER] [--json FILE]

Also lists what the import brings in that a light client must not: exit status 1 if there is any.
`--python` measures another installation, such as an empty environment that has nothing but the wheel.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.machine import this_machine
from benchmarks.table import aligned, ratio, show, spread, write_json

CLIENT = "import batchyard; from batchyard import Client"
STATEMENTS = {
    "batchyard with Client": CLIENT,
    "celery, redis, pydantic": "import celery, redis, pydantic",
    "Celery, Redis, BaseModel from them": (
        "from celery import Celery; from redis import Redis; from pydantic import BaseModel"
    ),
}
FORBIDDEN = (
    "llama_cpp", "torch", "numpy", "sklearn", "router", "workers", "producer", "local", "training",
)  # fmt: skip
_TIMED = """
import time
began = time.perf_counter()
{statement}
print(time.perf_counter() - began)
"""
_LISTED = """
import json, sys
{statement}
print(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})))
"""


def run(python: str, code: str) -> str:
    """What a fresh interpreter prints; it starts in an empty folder, so that it finds only what is
    installed, or what PYTHONPATH names."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [python, "-c", code], cwd=folder, env=os.environ, capture_output=True, text=True, check=False
        )
    if done.returncode != 0:
        raise SystemExit(f"{python} failed:\n{done.stderr.strip()}")
    return done.stdout


def import_seconds(python: str, statement: str) -> float:
    """Seconds that the statement takes in a fresh interpreter."""
    return float(run(python, _TIMED.format(statement=statement)))


def forbidden_modules(python: str, statement: str) -> list[str]:
    """The forbidden top-level modules that the statement loads."""
    loaded: list[str] = json.loads(run(python, _LISTED.format(statement=statement)))
    return sorted(set(loaded) & set(FORBIDDEN))


def main() -> int:
    """Measure, print, and say whether anything forbidden was loaded."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.import_time", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    machine = this_machine()
    seconds: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for number in range(arguments.rounds + 1):
        for name, statement in STATEMENTS.items():
            taken = import_seconds(arguments.python, statement)
            if number > 0:  # the first round fills the page cache and writes bytecode
                seconds[name].append(taken)
    ours = next(iter(seconds.values()))
    rows = [
        [name, spread([1000 * value for value in values], 0), f"{ratio(ours, values):.2f}"]
        for name, values in seconds.items()
    ]
    loaded = forbidden_modules(arguments.python, CLIENT)
    verdict = f"loaded and must not be: {', '.join(loaded)}" if loaded else "nothing forbidden was loaded"
    body = aligned(["import", "ms (least-most)", "ours / this"], rows) + f"\n\n{verdict}"
    show(f"Import time, {arguments.rounds} rounds in turns", machine, body)
    figures = {
        "seconds": seconds,
        "median_seconds": {name: median(values) for name, values in seconds.items()},
        "forbidden_loaded": loaded,
    }
    write_json(arguments.json, "import_time", machine, figures)
    return 1 if loaded else 0


if __name__ == "__main__":
    sys.exit(main())
