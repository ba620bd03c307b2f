"""With the guarantees taken out, too, jobs get through real roles; the table is made of the runs."""

from benchmarks.guarantees import AUDITED, DESIGNS, REFERENCE, Run, body_of, measure_one
from benchmarks.machine import this_machine
from benchmarks.two_engines import NO_COST, write_configs
from benchmarks.yard import Bench, own_redis


def test_every_job_gets_through_without_the_guarantees() -> None:
    with own_redis(this_machine(), 1) as (bench, _):
        bench = Bench(bench.url, 1, bench.folder, write_configs(bench.folder, 4))
        run = measure_one(bench, REFERENCE, NO_COST, 40, ["a", "b"])
    assert (run.jobs, run.failed) == (40, 0)
    assert run.seconds > 0 and run.worker_cpu > 0
    assert run.commands > 40


def run(design: str, rate: float) -> Run:
    return Run(design, NO_COST, 100, 100 / rate, 0, 2_000, 0.1, 0.2, 0.3, 0.4)


def test_the_ratio_is_to_what_celery_does_by_itself() -> None:
    runs = [run(design, 100.0 if design == REFERENCE else 80.0) for design in DESIGNS]
    lines = body_of(runs).splitlines()
    assert lines[0].startswith("no_cost, 100 jobs")
    rows = {line[:20].strip(): line[20:].split() for line in lines[2:6]}
    assert rows[AUDITED] == ["80.0", "0.80", "20.0", "1.00", "2.00", "3.00", "4.00", "0"]
    assert rows[REFERENCE][1] == "1.00"
