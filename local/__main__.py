"""`python -m local run | up | down | status`: the yard on this machine."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from batchyard.errors import YardError
from local import yard
from local.demo import read_rows, run_demo, show
from local.readiness import yard_settings
from local.roles import ROOT
from local.state import FLOWER_USER, Report, StateDir

EXAMPLE = ROOT / "examples" / "jobs.jsonl"
READY_SECONDS = 120.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0 if all went well, 1 if not, 130 after Ctrl-C."""
    arguments = build_parser().parse_args(argv)
    state, console = StateDir(arguments.state_dir), Console()
    try:
        return int(arguments.command(arguments, state, console))
    except YardError as exc:
        print(f"batchyard: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        up = state.supervisor() is not None
        print(f"interrupted; {'the yard stays up' if up else 'nothing runs on'}", file=sys.stderr)
        return 130


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m local", description="The yard on this machine.")
    parser.add_argument("--state-dir", type=Path, default=ROOT / "state", metavar="DIR")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="start, work off a file of jobs, show the table, stop")
    run.add_argument("--jobs", type=Path, default=EXAMPLE, metavar="FILE.jsonl")
    run.add_argument("--keep", action="store_true", help="leave the yard up afterwards")
    run.set_defaults(command=_run)
    up = commands.add_parser("up", help="start the yard and leave it up")
    up.set_defaults(command=_up)
    for command in (run, up):
        command.add_argument("--ready-timeout", type=float, default=READY_SECONDS, metavar="S")
    supervise = commands.add_parser("supervise", help="run it in this process until SIGTERM")
    supervise.set_defaults(command=_supervise)
    for command in (run, up, supervise):
        command.add_argument(
            "--gpu", choices=["auto", "none"], default="auto", help="none: all models run on the CPU"
        )
    commands.add_parser("down", help="stop it").set_defaults(command=_down)
    commands.add_parser("status", help="say how it fares").set_defaults(command=_status)
    return parser


def _run(arguments: argparse.Namespace, state: StateDir, console: Console) -> int:
    rows = read_rows(arguments.jobs)
    ours = state.supervisor() is None
    keep = not ours
    try:
        if ours:
            console.print("Starting Redis, router, workers and Flower …")
            # Whole: the file has jobs for every model.
            report = yard.up(
                state, tied=not arguments.keep, limit=arguments.ready_timeout, whole=True, gpu=arguments.gpu
            )
            _started(report, console)
        outcome = run_demo(yard_settings(state), rows, console)
        show(outcome, console)
        keep = keep or arguments.keep
    finally:
        if ours and not keep:
            yard.down(state)
    if arguments.keep:
        _tell(state, console)
    return 0 if outcome.complete else 1


def _up(arguments: argparse.Namespace, state: StateDir, console: Console) -> int:
    report = yard.up(state, tied=False, limit=arguments.ready_timeout, whole=False, gpu=arguments.gpu)
    _started(report, console)
    _tell(state, console)
    return 0


def _down(_arguments: argparse.Namespace, state: StateDir, console: Console) -> int:
    console.print("The yard is down." if yard.down(state) else "No yard was up.")
    return 0


def _status(_arguments: argparse.Namespace, state: StateDir, console: Console) -> int:
    report = state.read_report() if state.supervisor() is not None else None
    if report is None:
        console.print("No yard is up.")
        return 1
    console.print(f"The yard is {report.phase}.")
    for role in report.roles:
        process = f"process {role.pid}" if role.pid else "down"
        console.print(f"  {role.name}: {process}, restarted {role.restarts} times", highlight=False)
    _tell(state, console)
    return 0


def _supervise(arguments: argparse.Namespace, state: StateDir, _console: Console) -> int:
    yard.supervise(state, arguments.gpu)
    return 0


def _started(report: Report, console: Console) -> None:
    console.print(f"Up: {', '.join(role.name for role in report.roles)}", highlight=False)
    for model, reason in report.skipped.items():
        console.print(f"  no worker for {model}: {reason}", markup=False)


def _tell(state: StateDir, console: Console) -> None:
    """Where to look, and how to use the yard from a shell."""
    report = state.read_report()
    if report is None:
        return
    login = f"{FLOWER_USER} / {state.secrets().flower}"
    console.print(f"Flower: {report.flower}  login {login}", highlight=False, markup=False)
    console.print(f"Logs:   {state.logs}", highlight=False, markup=False)
    console.print(f"Use it: export BATCHYARD_REDIS_URL_FILE={state.url_file.resolve()}", highlight=False)
    command = Path(sys.executable).with_name("batchyard")
    console.print(f"        {command} submit | status | results | cancel", highlight=False, markup=False)
    console.print("Stop:   make down", highlight=False)


if __name__ == "__main__":
    sys.exit(main())
