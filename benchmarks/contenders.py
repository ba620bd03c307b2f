"""Our engine and the servers under one face: given jobs, each runs them with so many under way and answers.

The engine is its child process over its socket, as a worker runs it; the servers are asked over HTTP. Both
clients are this process, and its processor time is part of the result: it is taken from the same cores.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks import peer_servers
from benchmarks.engine_client import completions, device_environment, engine_child, setting
from benchmarks.http_load import Address, ask_all
from benchmarks.mix import Ask, check_lengths
from benchmarks.peer_servers import Reply, Serving

OURS, LLAMA_SERVER, PYTHON_SERVER = "batchyard engine", "llama-server", "llama-cpp-python server"
LIBGOMP_SPIN = 300_000


@dataclass(frozen=True, slots=True)
class Contender:
    """`run` takes jobs and how many are to be under way, and returns their replies in order; `pid` is the
    process that computes them."""

    pid: int
    run: Callable[[Sequence[Ask], int], list[Reply]]


@dataclass(frozen=True, slots=True)
class Run:
    """One measurement: what was done in `seconds`, and the processor seconds that the contender's process
    and the client took for it. On a busy machine the former is the steadier figure (with one thread: idle
    threads spin)."""

    design: str
    at_once: int
    jobs: int
    seconds: float
    processor_seconds: float
    client_seconds: float
    prompt_tokens: int
    cached_tokens: int
    generated_tokens: int

    @property
    def rate(self) -> float:
        """Jobs per second."""
        return self.jobs / self.seconds

    @property
    def token_rate(self) -> float:
        """Generated tokens per second."""
        return self.generated_tokens / self.seconds

    @property
    def hit_rate(self) -> float:
        """The share of prompt tokens that were not computed again."""
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0


@dataclass(frozen=True, slots=True)
class Field:
    """Who takes part, with which options: paths of the peers' programs, None for those that do not."""

    llama_server: Path | None
    python_server: Path | None
    python: Path | None
    n_batch: int | None
    settings: Mapping[str, Any]

    def contenders(self, serving: Serving) -> dict[str, AbstractContextManager[Contender]]:
        """Each contender by its name, not yet started."""
        found: dict[str, AbstractContextManager[Contender]] = {
            OURS: _engine(serving, self.n_batch, self.settings)
        }
        if self.llama_server is not None:
            found[LLAMA_SERVER] = _llama_server(self.llama_server, serving)
        if self.python_server is not None and self.python is not None:
            found[PYTHON_SERVER] = _python_server(self.python, self.python_server, serving)
        return found


@contextmanager
def _engine(serving: Serving, n_batch: int | None, settings: Mapping[str, Any]) -> Iterator[Contender]:
    def run(asks: Sequence[Ask], at_once: int) -> list[Reply]:
        found = completions(engine, [ask.frame() for ask in asks], at_once)
        return [engine_reply(found[ask.id]) for ask in asks]

    with engine_child(
        serving.model, slots=serving.slots, n_ctx=serving.n_ctx, threads=serving.threads, n_batch=n_batch,
        n_gpu_layers=serving.n_gpu_layers, environ=serving.environ, more=settings,
    ) as engine:  # fmt: skip
        yield Contender(engine.pid, run)


def engine_reply(completion: Mapping[str, Any]) -> Reply:
    """A completion of ours as a reply."""
    usage = completion["usage"]
    return Reply(
        completion["text"], usage["prompt_tokens"], usage["cached_tokens"], usage["completion_tokens"]
    )


@contextmanager
def _llama_server(program: Path, serving: Serving) -> Iterator[Contender]:
    def run(asks: Sequence[Ask], at_once: int) -> list[Reply]:
        bodies = [peer_servers.llama_server_body(ask) for ask in asks]
        found = ask_all(Address(port, "/completion"), bodies, at_once)
        return [peer_servers.llama_server_reply(answer) for answer in found]

    with peer_servers.llama_server(program, serving) as (pid, port):
        yield Contender(pid, run)


@contextmanager
def _python_server(python: Path, script: Path, serving: Serving) -> Iterator[Contender]:
    def run(asks: Sequence[Ask], at_once: int) -> list[Reply]:
        bodies = [peer_servers.python_server_body(ask) for ask in asks]
        found = ask_all(Address(port, "/v1/completions"), bodies, at_once)
        return [peer_servers.python_server_reply(answer) for answer in found]

    with peer_servers.python_server(python, script, serving) as (pid, port):
        yield Contender(pid, run)


def timed(name: str, contender: Contender, asks: Sequence[Ask], at_once: int, *, exact: bool) -> Run:
    """Run the jobs and note what it took. Raises JobFailed as `check_lengths`, where they are `exact`."""
    began, before, spent = time.perf_counter(), time.process_time(), processor_seconds(contender.pid)
    replies = contender.run(asks, at_once)
    seconds, client = time.perf_counter() - began, time.process_time() - before
    if exact:
        check_lengths(name, asks, [reply.completion_tokens for reply in replies])
    return Run(
        name, at_once, len(asks), seconds, processor_seconds(contender.pid) - spent, client,
        sum(reply.prompt_tokens for reply in replies),
        sum(reply.cached_tokens for reply in replies),
        sum(reply.completion_tokens for reply in replies),
    )  # fmt: skip


def processor_seconds(pid: int) -> float:
    """What a process has used of the processors so far, all threads, its own and the kernel's time."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def take_turns(
    field: Field, serving: Serving, jobs_of: Callable[[int], list[Ask]], warm_up: list[Ask], rounds: int,
    *, exact: bool, interlude: Callable[[], None] | None = None,
) -> list[Run]:  # fmt: skip
    """Start everybody, warm them up, and let them take turns on the jobs of each round; the order turns round
    every other time, so that nobody is always the first. `interlude` is the turn of one who takes no jobs: it
    comes last, and first where the order is turned round.

    Raises:
        JobFailed: `exact`, and an answer has not the length that was asked for.
    """
    runs = []
    with ExitStack() as stack:
        contenders = {name: stack.enter_context(one) for name, one in field.contenders(serving).items()}
        for contender in contenders.values():
            contender.run(warm_up, serving.slots)
        for number in range(rounds):
            asks = jobs_of(number)
            names: list[str | None] = [*contenders, None]
            for name in names if number % 2 == 0 else reversed(names):
                if name is None:
                    if interlude is not None:
                        interlude()
                    continue
                run = timed(name, contenders[name], asks, serving.slots, exact=exact)
                runs.append(run)
                where = f"{serving.slots} at once, round {number + 1}: {name}"
                print(f"{where}: {run.rate:.2f} jobs/s", file=sys.stderr, flush=True)
    return runs


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that say who takes part."""
    parser.add_argument("--llama-server", type=Path, help="the program; left out, it does not take part")
    parser.add_argument("--python-server", type=Path, help="examples/server/server.py of llama-cpp-python")
    parser.add_argument("--python", type=Path, help="an interpreter that has what that script imports")
    parser.add_argument(
        "--n-batch", type=int, help="our engine's rows a step (default: by this machine's profile)"
    )
    parser.add_argument("--n-gpu-layers", type=int, default=0, help="everybody's layers on a GPU; -1: all")
    parser.add_argument(
        "--engine-setting",
        type=setting,
        action="append",
        default=[],
        metavar="NAME=JSON",
        help="one more of our engine's",
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--spin-count", type=int, default=LIBGOMP_SPIN, help="GOMP_SPINCOUNT of everybody (libgomp's default)"
    )


def field_of(options: argparse.Namespace) -> Field:
    """Who takes part, from the options of `add_options`."""
    settings = dict(options.engine_setting)
    return Field(options.llama_server, options.python_server, options.python, options.n_batch, settings)


def serving_of(options: argparse.Namespace, model: Path, slots: int, n_ctx: int) -> Serving:
    """What everybody serves, from the options of `add_options`."""
    environ = {"GOMP_SPINCOUNT": str(options.spin_count)} | device_environment(options.n_gpu_layers)
    return Serving(model, slots, n_ctx, options.threads, environ, options.n_gpu_layers)
