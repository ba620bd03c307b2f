"""Start a command that dies with its parent: the kernel sends it a signal when the parent is gone.

Run as a file, before the command: `python leash.py SIGNAL PARENT_PID command…`. It asks the kernel for
the signal and becomes the command, so that no process stands between. Uses the standard library alone;
where the kernel has no such call (not Linux) the command runs without a leash.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def leashed(command: Sequence[str], on_parent_death: signal.Signals) -> list[str]:
    """The command line that runs `command` on a leash held by the calling process.

    The kernel watches the *thread* that starts the process: start it from one that lives on.
    """
    launcher = [sys.executable, "-I", "-S", str(Path(__file__).resolve())]
    return [*launcher, str(int(on_parent_death)), str(os.getpid()), *command]


def main(argv: Sequence[str]) -> None:
    """Put this process on the leash and become the command."""
    number, parent, command = int(argv[0]), int(argv[1]), list(argv[2:])
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:  # it died before the leash was on
            raise SystemExit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
