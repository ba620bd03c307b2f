"""`python -m workers.engine --fd N`: serve one model over the inherited socket N.

The environment is settled before anything imports the native library.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import socket
import sys
from typing import Final

from workers.engine.environment import bound_spinning

_PR_SET_PDEATHSIG: Final = 1


def die_with_parent() -> None:
    """Have the kernel kill this process with its parent: inside a long native call no one reads the socket.

    A parent that was gone before needs no check: its end of the socket is closed then, which is read first.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def main() -> int:
    """Parse the command line and serve until the peer is done."""
    parser = argparse.ArgumentParser(prog="python -m workers.engine", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="number of the inherited stream socket")
    options = parser.parse_args()
    # Ctrl-C reaches the whole group; the parent decides, and its end of the socket tells us
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
    bound_spinning(os.environ)
    from workers.engine.server import serve

    with socket.socket(fileno=options.fd) as connection:
        return serve(connection)


if __name__ == "__main__":
    raise SystemExit(main())
