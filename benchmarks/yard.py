"""A whole yard of processes for a benchmark: its settings, its environment, up and warm, and down again."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from batchyard import Client, Settings
from batchyard.app import make_app
from batchyard.names import ROUTE_QUEUE, model_queue
from benchmarks.child import ROOT, consumer
from benchmarks.machine import Machine
from local.redis_server import start_redis


@dataclass(frozen=True, slots=True)
class Bench:
    """What the measurements share: Redis, the threads of a step, where logs go, and the folder of
    `models.yaml` and `routing.yaml`."""

    url: str
    threads: int
    folder: Path
    configs: Path = ROOT / "configs"

    @property
    def settings(self) -> Settings:
        """The yard's settings on this Redis."""
        return Settings(
            redis_url=self.url, models=self.configs / "models.yaml", routing=self.configs / "routing.yaml"
        )

    @property
    def naive_url(self) -> str:
        """The same Redis, another database: the designs share no key."""
        return self.url.removesuffix("/0") + "/1"

    def environment(self, url: str) -> dict[str, str]:
        """Of a child process."""
        spin = self.settings.omp_spin_count
        return {
            **os.environ,
            "BATCHYARD_REDIS_URL": url,
            "BATCHYARD_MODELS": str(self.settings.models),
            "BATCHYARD_ROUTING": str(self.settings.routing),
            **({} if spin is None else {"GOMP_SPINCOUNT": str(spin)}),
        }


@contextmanager
def own_redis(machine: Machine, threads: int) -> Iterator[tuple[Bench, Machine]]:
    """A Redis of the benchmark's own in a folder that goes with it, and the machine with its version.

    Raises:
        YardUnavailable: it did not come up.
    """
    with tempfile.TemporaryDirectory() as folder:
        server = start_redis(Path(folder), append_only=True, password="benchmark")
        try:
            with redis.Redis.from_url(server.url, decode_responses=True) as client:
                machine = machine.running("Redis", str(client.info("server")["redis_version"]))
            yield Bench(server.url, threads, Path(folder)), machine
        finally:
            server.stop()


@contextmanager
def our_yard(bench: Bench, model: str, slots: int) -> Iterator[Client]:
    """A client of a router and a worker for one model that are up and warm.

    Raises:
        YardUnavailable: one of them did not come up.
    """
    environment = bench.environment(bench.url)
    worker = [
        "workers", "--model", model, "--gpu", "none", "--slots", str(slots),
        "--threads", str(bench.threads), "--log-level", "WARNING",
    ]  # fmt: skip
    with (
        make_app(bench.settings) as app,
        consumer(app, ROUTE_QUEUE, ["router", "worker"], environment, bench.folder / "router.log"),
        consumer(app, model_queue(model), worker, environment, bench.folder / f"worker-{slots}.log"),
        Client(bench.settings) as client,
    ):
        yield client
