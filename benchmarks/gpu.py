"""What this machine's GPU (or, without one, its CPU) does with a model, and the profile that follows from it.

    python -m benchmarks.gpu [--model starter|1.1B|7B|PATH] [--gpu 0] [--json FILE]

Rows of one prompt a step against milliseconds, and tokens/s of a prompt by chunk; decoding at several numbers
of slots; flash attention, KV cache types and in-graph sampling against each other; memory, and energy from
NVML's power readings. It drives the engine's own context and reads its rows as the engine does, so the host's
part of sampling is in the times. Close everything else on the card first.
"""

import argparse
import os
import sys
from dataclasses import asdict
from pathlib import Path

from batchyard.errors import YardError
from benchmarks.gpu_figures import report, suggest
from benchmarks.machine import this_machine
from benchmarks.table import show, write_json
from workers.engine.environment import bound_spinning, choose_threads
from workers.engine.errors import EngineError
from workers.gpu import choose_gpus, list_gpus, pin_environment

ROWS = (1, 2, 4, 8, 9, 12, 16, 24, 32, 64, 128, 256, 512)
SLOTS = (1, 4, 8, 16, 32, 64)
STEP_MS = 160.0
"""A step should be no longer than this while others wait for their next token."""


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="starter", help="starter, 1.1B, 7B (random weights), or a GGUF")
    parser.add_argument("--gpu", default="auto", help="UUID, index, auto or none")
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--slots", type=int, nargs="+", default=SLOTS)
    parser.add_argument("--steps", type=int, default=64, help="decoding steps of each measurement")
    parser.add_argument("--prompt", type=int, default=512, help="tokens of the prompt for the chunks")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=choose_threads())
    parser.add_argument("--step-ms", type=float, default=STEP_MS, help="longest step for the suggestion")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    bound_spinning(os.environ)
    machine = this_machine()
    try:
        gpus = choose_gpus(list_gpus(), options.gpu)[:1]
        os.environ.update(pin_environment(gpus))
        # these load the library, which reads the environment once
        from benchmarks.shapes import measured_model
        from benchmarks.steps import Bench, measure

        path = measured_model(options.model)
        bench = Bench(path, gpus[0] if gpus else None, options.threads, options.repeats)
        figures = measure(bench, options.rows, options.slots, options.steps, options.prompt)
    except (YardError, EngineError) as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    suggestion = suggest(figures, options.step_ms)
    where = f"{gpus[0].name}, driver {gpus[0].driver}" if gpus else f"the CPU, {options.threads} threads"
    show(f"{path.name} on {where}", machine, report(figures, suggestion))
    document = {
        "model": path.name,
        "gpu": asdict(gpus[0]) if gpus else None,
        "figures": asdict(figures),
        "suggested": suggestion,
    }
    write_json(options.json, "gpu", machine, document)
    return 0


if __name__ == "__main__":
    sys.exit(main())
