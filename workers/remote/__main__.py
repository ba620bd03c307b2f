"""`python -m workers.remote --fd N`: serve one endpoint's model over the inherited socket N.

The environment is settled before anything imports the SDK: its own variables would send a key, an
organisation or headers that were meant for one endpoint to another.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Final

from workers.port.child import run_child

SDK_PREFIX: Final = "OPENAI_"


def main() -> int:
    """Parse the command line and serve until the peer is done."""
    environ = dict(os.environ)
    for name in environ:
        if name.startswith(SDK_PREFIX):
            del os.environ[name]
    from workers.remote.loader import load

    return run_child("workers.remote", partial(load, environ=environ))


if __name__ == "__main__":
    raise SystemExit(main())
