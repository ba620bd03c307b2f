"""`python -m workers --model NAME`: one worker, for one model, pinned to one GPU or on the CPU."""

import argparse
import logging
import socket
import sys
import time

from batchyard.catalogue import Catalogue, load_catalogue
from batchyard.connections import connect, unreachable
from batchyard.errors import YardError
from batchyard.logs import set_up_logging
from batchyard.names import model_queue
from batchyard.settings import Settings, load_settings
from workers.blobs import ImageLimits
from workers.gpu import gpus_for
from workers.outcome import Outcomes
from workers.pool import EnginePool
from workers.start import prepare, start_engine
from workers.tasks import make_worker_app
from workers.warmup import short_request, warm_up
from workers.yard import Yard

logger = logging.getLogger("workers")


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    """The command line of a worker."""
    parser = argparse.ArgumentParser(prog="python -m workers", description=__doc__)
    parser.add_argument("--model", required=True, help="model_name of the catalogue entry to serve")
    parser.add_argument(
        "--gpu", default="auto", help="UUID or index, several with commas; auto (most free memory) or none"
    )
    parser.add_argument("--profile", help="hardware profile, instead of the one that matches the GPU or CPU")
    parser.add_argument("--slots", type=int, help="jobs at once, instead of the catalogue's n_slots")
    parser.add_argument("--threads", type=int, help="threads of a step, instead of the catalogue's n_threads")
    parser.add_argument("--name", help="worker name before the @ (default: the model's)")
    parser.add_argument("--drain-seconds", type=float, default=30.0, help="time for running jobs at SIGTERM")
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    return parser.parse_args(argv)


def serve(arguments: argparse.Namespace, settings: Settings, catalogue: Catalogue) -> int:
    """Run the worker until it is told to stop; returns the exit status."""
    entry = catalogue.model(arguments.model)
    if arguments.slots:
        entry = entry.model_copy(update={"n_slots": arguments.slots})
    gpus = gpus_for(entry, arguments.gpu)
    if why := unreachable(settings):
        logger.warning("Redis does not answer (%s); the worker goes on and waits for it", why)
    start = prepare(settings, entry, gpus, arguments.profile, arguments.threads)
    began = time.monotonic()
    engine = start_engine(settings, start)
    warmed = warm_up(engine, entry, catalogue, batch_size=min(4, entry.n_slots))
    where = ",".join(gpu.uuid for gpu in start.gpus) or None
    place = where or engine.info.get("endpoint", "the CPU")
    logger.info(
        "%s ready on %s after %.1f s (profile %s, %d slots, warm-up %.2f s)",
        entry.model_name, place, time.monotonic() - began, start.profile.profile_name,
        entry.n_slots, warmed,
    )  # fmt: skip
    outcomes = Outcomes()
    app = make_worker_app(settings, entry, outcomes)
    hostname = f"{arguments.name or entry.model_name}@{socket.gethostname()}"
    app.yard = Yard(
        engine=engine,
        outcomes=outcomes,
        catalogue=catalogue,
        redis=connect(settings),
        worker=hostname,
        gpu=where,
        result_expires=settings.result_expires,
        drain_seconds=arguments.drain_seconds,
        image_limits=ImageLimits(settings.max_image_bytes, settings.max_image_pixels),
        test=short_request(0, entry, catalogue),
    )
    worker = app.Worker(
        hostname=hostname,
        pool_cls=EnginePool,
        concurrency=entry.n_slots,
        queues=[model_queue(entry.model_name)],
        loglevel=arguments.log_level,
        task_events=True,
        without_gossip=True,
        without_mingle=True,
    )
    worker.start()
    return int(worker.exitcode or 0)


def main(argv: list[str] | None = None) -> int:
    """Entry point; errors of configuration are one line on standard error and exit status 2."""
    arguments = parse_arguments(sys.argv[1:] if argv is None else argv)
    try:
        settings = load_settings()
        set_up_logging(arguments.log_level, prompts=settings.log_prompts)
        return serve(arguments, settings, load_catalogue(settings.models))
    except YardError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
