"""How long a submission waits where the yard takes no more jobs for now. It decides; the clients wait."""

import logging
import random
import time
from collections.abc import Callable

from batchyard.submission import Pushed

logger = logging.getLogger(__name__)

LONGEST_PAUSE_S = 10.0
"""It looks again after this time at the latest: workers may have come up."""
SAY_AGAIN_S = 60.0


class Patience:
    """Waits for room for at most `wait` seconds in which no job is accepted; None has no bound, 0 is no wait.

    `clock` is monotonic, in seconds. What it waits for is logged as a warning, at most once a minute.
    """

    def __init__(self, wait: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._wait = wait
        self._clock = clock
        self._accepted = 0
        self._since: float | None = None
        self._say_at = clock()

    def pause(self, pushed: Pushed) -> float:
        """Seconds to wait before the rest of a chunk is pushed; 0 where there is none.

        Raises:
            YardBusy: it has waited long enough.
        """
        self._accepted += pushed.new
        if pushed.new or pushed.busy is None:
            self._since = None
        if pushed.busy is None:
            return 0.0
        now = self._clock()
        if self._since is None:
            self._since = now
        # not all who were refused come back in the same moment
        pause = min(pushed.busy.retry_after, LONGEST_PAUSE_S) * random.uniform(1.0, 1.25)
        if self._wait is not None:
            left = self._since + self._wait - now
            if left <= 0:
                if self._accepted:
                    pushed.busy.add_note(f"{self._accepted:,} jobs were accepted before; they stay")
                raise pushed.busy
            pause = min(pause, left)
        if now >= self._say_at:
            self._say_at = now + SAY_AGAIN_S
            logger.warning("waiting for room: %s", pushed.busy)
        return pause
