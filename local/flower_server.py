"""Flower on the yard's Celery app: `python -m local.flower_server --address=… --port=…`.

The broker comes from the yard's settings and the login from FLOWER_BASIC_AUTH, so that no password
stands in a command line.
"""

import sys
from collections.abc import Sequence

from batchyard.app import make_app
from batchyard.settings import load_settings


def main(arguments: Sequence[str]) -> None:
    """Run Flower with its own options until it gets SIGTERM."""
    app = make_app(load_settings())
    app.start(argv=["flower", "--max_tasks=10000", *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
