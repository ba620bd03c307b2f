"""An auditor that is killed with -9 at the worst moment of its first page: `NAME before` (taken, nothing
written) or `NAME after` (on record, not taken off the stream)."""

import os
import signal
import sys
import threading
from collections.abc import Sequence

import redis

from batchyard.audit.auditor import Auditor
from batchyard.audit.ledger import open_ledger
from batchyard.audit.record import FinalRecord
from batchyard.settings import load_settings


def main(name: str, moment: str) -> None:
    """Run until death."""
    settings = load_settings()
    ledger = open_ledger(settings.audit)
    write = ledger.append

    def append(records: Sequence[FinalRecord]) -> None:
        if moment == "after":
            write(records)
        os.kill(os.getpid(), signal.SIGKILL)

    ledger.append = append  # type: ignore[method-assign]
    Auditor(redis.Redis.from_url(settings.url), ledger, name).run(threading.Event())


if __name__ == "__main__":
    main(*sys.argv[1:])
