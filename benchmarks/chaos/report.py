"""The report of a run, as text and as JSON, and what is kept of one that failed. Pure, but for writing."""

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.chaos.faults import counts
from benchmarks.chaos.recovery import Recovery, summary
from benchmarks.chaos.run import Options, Outcome
from benchmarks.chaos.verdict import tally
from benchmarks.table import aligned

SHOWN = 20


def figures(options: Options, outcome: Outcome) -> dict[str, Any]:
    """All figures of a run."""
    states = Counter(record.final.state if record.final else "none" for record in outcome.records)
    return {
        "seed": options.seed,
        "settings": {
            "workers": options.workers, "routers": options.routers, "slots": options.slots,
            "window": options.window, "lease_seconds": options.lease,
        },
        "faults": counts([one.fault for one in outcome.dealt]),
        "faults_asked": options.faults,
        "jobs": len(outcome.records),
        "states": dict(states),
        "kinds": dict(Counter(record.piece.kind for record in outcome.records)),
        "cancelled": sum(record.cancelled for record in outcome.records),
        "seconds": round(outcome.seconds, 1),
        "submissions_repeated": outcome.repeated,
        "redis_away_seconds": round(sum(span.end - span.begin for span in outcome.outages), 1),
        "redis": dict(outcome.redis),
        "violations": tally(outcome.violations),
        "recovery": {
            "killed workers": summary(outcome.workers),
            "killed workers, Redis undisturbed": summary(_undisturbed(outcome.workers)),
            "killed routers": summary(outcome.routers),
            "killed routers, Redis undisturbed": summary(_undisturbed(outcome.routers)),
        },
        "run_again_though_their_worker_lived": {
            "Redis undisturbed": sum(not one.disturbed for one in outcome.reruns),
            "Redis had been away": sum(one.disturbed for one in outcome.reruns),
        },
        "kills_with_jobs_inside": {
            "workers": len({one.victim for one in outcome.workers}),
            "routers": len({one.victim for one in outcome.routers}),
        },
    }  # fmt: skip


def _undisturbed(recoveries: list[Recovery]) -> list[Recovery]:
    return [one for one in recoveries if not one.disturbed]


def body_of(found: dict[str, Any]) -> str:
    """The figures as text."""
    dealt, seconds = sum(found["faults"].values()), found["seconds"]
    rate, gap = found["jobs"] / seconds, seconds / max(1, dealt)
    lines = [
        f"seed {found['seed']}: {found['jobs']} jobs, {dealt} of {found['faults_asked']} faults in "
        f"{seconds} s ({rate:.0f} jobs/s, one fault every {gap:.1f} s)",
        f"settings: {_pairs(found['settings'])}",
        f"ended: {_pairs(found['states'])}; {found['cancelled']} were to be cancelled",
        f"kinds: {_pairs(found['kinds'])}",
        f"Redis was away for {found['redis_away_seconds']} s; {found['submissions_repeated']} calls of the "
        f"submitter had to be repeated; {_pairs(found['redis'])}",
        "",
        aligned(["fault", "times"], [[name, str(count)] for name, count in found["faults"].items()]),
        "",
        "seconds from the kill until the job runs again elsewhere or has its result (router: is routed)",
        aligned(
            ["recovery", "jobs", "p50", "p90", "p99", "max"],
            [
                [name, str(one["jobs"]), *(f"{one[share]:.2f}" for share in ("p50", "p90", "p99", "max"))]
                for name, one in found["recovery"].items()
            ],
        ),
        f"kills that met jobs inside: {_pairs(found['kills_with_jobs_inside'])}",
        f"jobs run again though their worker lived: {_pairs(found['run_again_though_their_worker_lived'])}",
        "",
        aligned(["violation", "count"], [[name, str(count)] for name, count in found["violations"].items()]),
    ]
    return "\n".join(lines)


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def evidence(options: Options, outcome: Outcome) -> dict[str, Any]:
    """What is needed to understand and replay a failed run. Times in seconds from the first job."""
    jobs = {violation.job for violation in outcome.violations}
    return {
        "seed": options.seed,
        "command": f"python -m benchmarks.chaos --seed {options.seed} --faults {options.faults} "
        f"--jobs {options.jobs} --workers {options.workers} --routers {options.routers} "
        f"--slots {options.slots} --window {options.window} --lease {options.lease:g}",
        "violations": [asdict(violation) for violation in outcome.violations],
        "faults": [
            {"at": round(one.at - outcome.began, 3), "kind": str(one.fault.kind), "target": one.target}
            | {"seconds": one.fault.seconds, "whole": one.fault.whole}
            for one in outcome.dealt
        ],
        "outages": [
            [round(span.begin - outcome.began, 3), round(span.end - outcome.began, 3)]
            for span in outcome.outages
        ],
        "jobs": {
            record.piece.id: {
                "batch": record.piece.batch,
                "handed": round(record.handed - outcome.began, 3),
                "accepted": None if record.accepted is None else round(record.accepted - outcome.began, 3),
                "cancelled": record.cancelled,
                "announced": record.announced,
                "seen": [
                    [round(seen.at - outcome.began, 3), seen.state, seen.worker] for seen in record.seen
                ],
                "body": dict(record.piece.body),
            }
            for record in outcome.records
            if record.piece.id in jobs
        },
        "reruns": [asdict(one) | {"at": round(one.at - outcome.began, 3)} for one in outcome.reruns],
        "slowest": [asdict(one) for one in sorted(outcome.workers, key=lambda one: -one.seconds)[:SHOWN]],
    }


def write_evidence(path: Path, options: Options, outcome: Outcome) -> None:
    """Write the evidence as JSON."""
    path.write_text(json.dumps(evidence(options, outcome), indent=1, ensure_ascii=False), encoding="utf-8")
