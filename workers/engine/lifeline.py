"""What binds a child process to its parent: it dies with it, and tells it in its exit status how it ended.

It knows no frames and no models.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final, NoReturn

EXIT_OK: Final = 0
EXIT_PROTOCOL: Final = 2
EXIT_LOAD_FAILED: Final = 3
EXIT_HUNG: Final = 4
"""A native call did not come back; see `give_up`."""
_PR_SET_PDEATHSIG: Final = 1


def die_with_parent() -> None:
    """Have the kernel kill this process with its parent: inside a long native call no one reads the socket.

    A parent that was gone before needs no check: its end of the socket is closed then, which is read first.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def give_up() -> NoReturn:
    """End this process although a thread of it is inside a native call that does not return: an orderly exit
    would wait for that thread. The parent sees it die, and knows what to do with its jobs.
    """
    os._exit(EXIT_HUNG)


def leave_interrupts_to_parent() -> None:
    """Ctrl-C reaches the whole group; the parent decides, and its end of the socket tells the child."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
