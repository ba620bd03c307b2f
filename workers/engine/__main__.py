"""`python -m workers.engine --fd N`: serve one model over the inherited socket N.

The environment is settled before anything imports the native library.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket

from workers.engine.environment import bound_spinning


def main() -> int:
    """Parse the command line and serve until the peer is done."""
    parser = argparse.ArgumentParser(prog="python -m workers.engine", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="number of the inherited stream socket")
    options = parser.parse_args()
    # Ctrl-C reaches the whole group; the parent decides, and its end of the socket tells us
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    bound_spinning(os.environ)
    from workers.engine.server import serve

    with socket.socket(fileno=options.fd) as connection:
        return serve(connection)


if __name__ == "__main__":
    raise SystemExit(main())
