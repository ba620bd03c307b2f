"""The command line that the asyncio children share: `python -m workers.NAME --fd N`.

It knows no engine; `load` is the child's own.
"""

from __future__ import annotations

import argparse
import asyncio
import socket

from batchyard.logs import set_up_logging
from workers.engine.lifeline import die_with_parent, leave_interrupts_to_parent
from workers.port.backend import Load
from workers.port.server import serve


def run_child(program: str, load: Load) -> int:
    """Serve one model over the inherited socket; returns the exit status."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}")
    parser.add_argument("--fd", type=int, required=True, help="number of the inherited stream socket")
    options = parser.parse_args()
    leave_interrupts_to_parent()
    die_with_parent()
    set_up_logging("WARNING", prompts=False)
    with socket.socket(fileno=options.fd) as connection:
        connection.setblocking(False)
        return asyncio.run(serve(connection, load))
