"""A supervisor of toy roles in a process of its own: `supervised.py STATE_DIR ROLES.json`.

Each role is [name, command, stage, stop_seconds] and is ready once there is a file `<name>.ready` in the
state directory if its stage is 0, at once otherwise. The test makes the file of roles.
"""

import json
import os
import signal
import sys
from pathlib import Path

from local.processes import Supervisor
from local.roles import Role
from local.state import Report, StateDir


def main(state_dir: str, roles_file: str) -> None:
    state = StateDir(Path(state_dir))
    state.prepare()
    roles = [
        Role(
            name,
            tuple(command),
            dict(os.environ),
            stage,
            stop_seconds,
            signal.SIGKILL,
            (state.path / f"{name}.ready").exists if stage == 0 else None,
        )
        for name, command, stage, stop_seconds in json.loads(Path(roles_file).read_text())
    ]
    Supervisor(roles, state, lambda phase, reports: state.write_report(Report(phase, roles=reports))).run()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
