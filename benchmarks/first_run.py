"""What a first run takes once set up: `python -m local run` from start to stop, seconds and peak memory.

Memory is the sum over all processes of the yard of their proportional set size: pages that several share
are counted once. python -m benchmarks.first_run
"""

import subprocess
import sys
import tempfile
import time

import psutil

from benchmarks.child import ROOT
from benchmarks.machine import this_machine
from benchmarks.table import show


def memory_of(process: psutil.Process) -> int:
    """Bytes of the process and all below it; one that has just ended counts nothing."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            total += one.memory_full_info().pss
        except psutil.Error:
            continue
    return total


def main() -> int:
    """Run, watch, print; the exit status is the run's."""
    machine = this_machine()
    with tempfile.TemporaryDirectory() as state:
        command = [sys.executable, "-m", "local", "--state-dir", state, "run"]
        began, peak = time.perf_counter(), 0
        run = psutil.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        while run.poll() is None:
            try:
                peak = max(peak, memory_of(run))
            except psutil.NoSuchProcess:
                break
        status = int(run.wait())
        seconds = time.perf_counter() - began
    body = f"{seconds:.1f} s, peak {peak / 1e6:.0f} MB for all processes together, exit status {status}"
    show("First run", machine, body)
    return status


if __name__ == "__main__":
    sys.exit(main())
