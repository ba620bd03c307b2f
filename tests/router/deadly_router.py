"""A router that is killed whenever it decides on a job whose prompt holds `kill the router`: everything else
is the real one."""

import os
import signal
import sys
from collections.abc import Sequence

from router import __main__ as router
from router import service
from router.chunk import Decided, Refused
from router.gate import Gate

DEADLY = "kill the router"


class DeadlyRouter(service.Router):
    def _decide(
        self, bodies: Sequence[object], now: float, gate: Gate
    ) -> tuple[list[Decided], list[Refused]]:
        if any(DEADLY in str(body) for body in bodies):
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._decide(bodies, now, gate)


if __name__ == "__main__":
    from router import tasks

    tasks.Router = DeadlyRouter  # type: ignore[misc]
    sys.exit(router.main(["worker"]))
