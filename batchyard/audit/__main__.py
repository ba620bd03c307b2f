"""`python -m batchyard.audit`: the auditor, until SIGTERM or SIGINT.

Any number may run; with JSON lines one records and the others wait for it to end.
"""

import argparse
import logging
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from contextlib import closing

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from batchyard.audit.auditor import Auditor
from batchyard.audit.ledger import open_ledger
from batchyard.errors import YardError
from batchyard.settings import load_settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the auditor; returns the exit status: 0, or 2 with the reason on standard error."""
    parser = argparse.ArgumentParser(
        prog="python -m batchyard.audit",
        description="Carry every final result from Redis into the record that BATCHYARD_AUDIT_URL names.",
    )
    parser.add_argument(
        "--name",
        default=socket.gethostname(),
        help="of this auditor; its own again after a restart [%(default)s]",
    )
    parser.add_argument("--create", action="store_true", help="make tables or folder, and end")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        settings = load_settings()
        with closing(open_ledger(settings.audit)) as ledger:
            if options.create:
                ledger.prepare()
                return 0
            with redis.Redis.from_url(
                settings.url, socket_connect_timeout=5, socket_timeout=15, retry=Retry(NoBackoff(), 0)
            ) as connection:
                stop = threading.Event()
                for number in (signal.SIGTERM, signal.SIGINT):
                    signal.signal(number, lambda *_: stop.set())
                Auditor(connection, ledger, options.name).run(stop)
    except YardError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
