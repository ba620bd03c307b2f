"""`python -m workers.engine --fd N`: serve one model over the inherited socket N.

The environment is settled before anything imports the native library.
"""

from __future__ import annotations

import argparse
import os
import socket

from workers.engine.environment import bound_spinning
from workers.engine.lifeline import die_with_parent, leave_interrupts_to_parent
from workers.engine.log_lines import log_to_stderr


def main() -> int:
    """Parse the command line and serve until the peer is done."""
    parser = argparse.ArgumentParser(prog="python -m workers.engine", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="number of the inherited stream socket")
    options = parser.parse_args()
    leave_interrupts_to_parent()
    die_with_parent()
    log_to_stderr()
    bound_spinning(os.environ)
    from workers.engine.server import serve

    with socket.socket(fileno=options.fd) as connection:
        return serve(connection)


if __name__ == "__main__":
    raise SystemExit(main())
