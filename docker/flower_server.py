"""Flower in a container: the broker from the yard's settings, the login from a secret.

FLOWER_LOGIN_FILE names a file with `user:password`, so that the password stands neither in the Compose file
nor in a command line. Options of the command line go to Flower as they are. Its user in Redis may watch and
nothing else: what it tells workers by itself is left out, what somebody tells them through it Redis refuses.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from celery.app.control import Control

from batchyard.app import make_app
from batchyard.errors import InvalidConfig, YardError
from batchyard.settings import load_settings

VARIABLE = "FLOWER_LOGIN_FILE"
UNASKED = frozenset({"heartbeat", "enable_events"})
"""What Flower tells all workers when it starts to listen; ours send events and heartbeats anyway."""


class Watching(Control):
    """Celery's remote control, for one who may only watch."""

    def broadcast(self, command: str, *args: Any, **kwargs: Any) -> Any:
        """Send nothing that nobody asked for; without the right to, anything else is an error."""
        return None if command in UNASKED else super().broadcast(command, *args, **kwargs)


def read_login(path: str | None) -> str:
    """The login `user:password` in the file.

    Raises:
        InvalidConfig: no file is named, it cannot be read, or it holds no login. A Flower that nobody
            has to log in to can stop workers, so it is not started.
    """
    if not path:
        raise InvalidConfig("is not set", field=VARIABLE, remedy="name a file with user:password")
    try:
        login = Path(path).read_text(encoding="utf-8").strip()
    except OSError as exc:
        raise InvalidConfig(
            f"cannot read {path}: {exc.strerror}", field=VARIABLE, remedy="mount the secret, readable"
        ) from exc
    user, _, password = login.partition(":")
    if not user or not password or "," in login:
        raise InvalidConfig(
            f"{path} holds no login", field=VARIABLE, remedy="write user:password into it, without a comma"
        )
    return login


def main(arguments: Sequence[str]) -> int:
    """Run Flower until SIGTERM; exit status 2 with one line if it is not configured."""
    try:
        # Flower takes its login from the environment of the process; nothing is started from it.
        os.environ["FLOWER_BASIC_AUTH"] = read_login(os.environ.get(VARIABLE))
        app = make_app(load_settings())
        app.control_cls = Watching
    except YardError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    app.start(argv=["flower", "--max_tasks=10000", *arguments])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
