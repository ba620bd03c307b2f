"""The router's command line: train, evaluate, explain, schema, worker."""

import argparse
import dataclasses
import hashlib
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from batchyard.errors import YardError
from batchyard.logs import set_up_logging
from batchyard.settings import load_settings
from router import artefact
from router.report import as_text, evaluate
from router.rows import read_rows

ARTEFACT = Path("models/router")
SCHEMA = Path("configs/routing.schema.json")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, or 2 with the reason on stderr."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except YardError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m router", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")

    command = commands.add_parser("train", help="train the classifier on rows of text and task")
    command.add_argument(
        "rows", type=Path, help='JSONL, each line {"text": "…", "task": "…"}; oos: out of scope'
    )
    command.add_argument("--out", type=Path, default=ARTEFACT, help="folder of the artefact [%(default)s]")
    command.add_argument("--test", type=Path, help="held-out rows to report on")
    command.add_argument(
        "--refuse",
        type=_share,
        default=0.8,
        help="share of out-of-scope rows to refuse, 0 to 1 [%(default)s]",
    )
    command.set_defaults(run=_train)

    command = commands.add_parser("evaluate", help="report what the classifier is worth on labelled rows")
    command.add_argument("rows", type=Path)
    command.add_argument("--artefact", type=Path, default=ARTEFACT, help="folder [%(default)s]")
    command.add_argument("--json", action="store_true", help="print the figures as JSON")
    command.set_defaults(run=_evaluate)

    command = commands.add_parser("explain", help="show how one text would be routed, and why")
    command.add_argument("text")
    command.add_argument("--task", default="auto")
    command.add_argument("--model", default="auto")
    command.add_argument("--tenant", default="default")
    command.add_argument("--metadata", default="{}", help="JSON object")
    command.set_defaults(run=_explain)

    command = commands.add_parser("schema", help="write the JSON Schema of the routing policy")
    command.add_argument("--out", type=Path, default=SCHEMA, help="file, or - for stdout [%(default)s]")
    command.set_defaults(run=_schema)

    command = commands.add_parser("worker", help="consume the route queue until told to stop")
    command.set_defaults(run=_worker)
    return parser


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be between 0 and 1, not {text}")
    return value


def _train(options: argparse.Namespace) -> int:
    from router.train import Options, train  # scikit-learn is only needed here

    rows = read_rows(options.rows)
    test = read_rows(options.test) if options.test else None
    how = Options(refuse=options.refuse)
    trained = train(rows, how)
    training: dict[str, Any] = {
        "file": options.rows.name,
        "sha256": hashlib.sha256(options.rows.read_bytes()).hexdigest(),
        "rows": len(rows),
        "options": dataclasses.asdict(how) | {"orders": list(how.orders)},
        "validation": _plain({"accuracy": trained.accuracy} | dataclasses.asdict(trained.threshold)),
    }
    if test is not None:
        report = evaluate(trained.classifier, trained.baselines, test)
        training["held_out"] = {"file": options.test.name} | _plain(dataclasses.asdict(report))
    version = artefact.save(options.out, trained.classifier, trained.baselines, training)
    size = sum((options.out / name).stat().st_size for name in (artefact.ARRAYS, artefact.METADATA))
    print(
        f"classifier {version} in {options.out}: {len(trained.classifier.vocabulary):,} n-grams, {size:,} B"
    )
    refused = "–" if trained.threshold.refused is None else f"{trained.threshold.refused:.2%}"
    print(
        f"on left-out wordings: accuracy {trained.accuracy:.2%}; at threshold {trained.threshold.at:.3f} "
        f"{trained.threshold.kept:.2%} accepted and right, {refused} of out of scope refused"
    )
    if test is not None:
        print(f"\nheld out: {options.test}\n{as_text(report)}")
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    rows = read_rows(options.rows)
    classifier = artefact.load(options.artefact)
    report = evaluate(classifier, artefact.load_metadata(options.artefact).baselines, rows)
    print(json.dumps(_plain(dataclasses.asdict(report)), indent=2) if options.json else as_text(report))
    return 0


def _explain(options: argparse.Namespace) -> int:
    from router.explain import explain

    job = {"prompt": options.text, "task": options.task, "model": options.model, "tenant": options.tenant}
    print(explain(job, options.metadata, load_settings()))
    return 0


def _schema(options: argparse.Namespace) -> int:
    from router.policy import policy_schema

    text = json.dumps(policy_schema(), indent=2, ensure_ascii=False) + "\n"
    if str(options.out) == "-":
        sys.stdout.write(text)
    else:
        options.out.write_text(text, encoding="utf-8")
    return 0


def _worker(_options: argparse.Namespace) -> int:
    from batchyard.connections import unreachable
    from router.tasks import WORKER_ARGUMENTS, make_router_app

    settings = load_settings()
    set_up_logging("INFO", prompts=settings.log_prompts)
    if why := unreachable(settings):
        logging.getLogger("router").warning("Redis does not answer (%s); the router waits for it", why)
    app = make_router_app(settings)
    app.worker_main(list(WORKER_ARGUMENTS))
    return 0


def _plain(data: dict[str, Any]) -> dict[str, Any]:
    """As JSON has it, numbers to four places."""
    rounded: dict[str, Any] = json.loads(json.dumps(data), parse_float=lambda text: round(float(text), 4))
    return rounded
