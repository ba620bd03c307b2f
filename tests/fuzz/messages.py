"""Messages of the queues, from a stranger's bytes to jobs: envelope, Celery's decoding, router, worker."""

import json
import time
from typing import Any

from kombu.exceptions import ContentDisallowed, DecodeError
from kombu.serialization import loads

from batchyard import store
from batchyard.app import make_app
from batchyard.errors import InvalidJob, YardError
from batchyard.job import parse_job
from batchyard.names import ROUTE_QUEUE, ROUTE_TASK, RUN_TASK, model_queue
from batchyard.result import Result
from batchyard.settings import Settings
from batchyard.states import State
from batchyard.submission import Known, prepare
from batchyard.transport import read_envelope
from batchyard.wire import dumps, task_message
from router.chunk import Decided, Refused, decide_chunk, publications
from router.decide import Yard
from router.gate import Gate
from router.policy import Policy, candidates
from router.tasks import chunk_of
from tests.fuzz.jobs import CATALOGUE, JOB_SEEDS, MOST_TEXT
from tests.fuzz.oracle import Target, check_error, hold
from workers.pool_job import Delivery, PoolJob, read_body

NOW = 1_750_000_000.0
_POLICY = Policy.model_validate(
    {
        "version": "1",
        "rules": [
            {"name": "aoi", "when": {"metadata": {"source": "aoi"}}, "task": "t"},
            {"name": "zh", "when": {"language": ["zh"], "text": "焊"}, "model": "m"},
        ],
        "classifier": None,
        "default": {"task": "t", "model": "m"},
    }
)
_YARD = Yard(_POLICY, CATALOGUE, candidates(_POLICY, CATALOGUE))
_ROUTE = {"task": "t", "model": "m", "by": "job", "reason": "r", "policy": "1"}
make_app(Settings(redis_url="redis://127.0.0.1:1/0"))  # sets how this process reads Celery's JSON


def message(data: bytes) -> bool:
    """A message as a worker pops it: set aside, refused by name, or read into what it says."""
    envelope = read_envelope(data)
    if envelope is None:
        return False
    headers = envelope["headers"]
    arguments = _decoded(envelope)
    if headers.get("task") == RUN_TASK:
        return _run(envelope)
    if not (isinstance(arguments, list) and len(arguments) > 1 and isinstance(arguments[1], dict)):
        return False
    chunk = chunk_of(arguments[1])
    if chunk is None:
        return False
    bodies, submitted = chunk
    _route(bodies, submitted)
    return True


def _decoded(envelope: dict[str, Any]) -> object:
    """The body as Celery decodes it; it drops a message that raises one of its two errors."""
    kind, encoding = envelope.get("content-type"), envelope.get("content-encoding")
    if not isinstance(kind, str | None) or not isinstance(encoding, str | None):
        return None
    try:
        return loads(envelope["body"], kind, encoding, accept={"application/json"})
    except (ContentDisallowed, DecodeError):
        return None


def _run(envelope: dict[str, Any]) -> bool:
    headers = envelope["headers"]
    arguments = (headers["task"], headers["id"], headers, envelope["body"], "application/json", "utf-8")
    delivery = Delivery(print, arguments, print, None, NOW)
    try:
        job, route = read_body(delivery)
    except InvalidJob as error:
        check_error(error)
        return False
    hold(job.id == headers["id"], "a job under another id")
    unit = PoolJob(delivery, job, route, print)
    hold(unit.attempt >= 1, f"attempt {unit.attempt}")
    dumps(route.model_dump())
    return True


def _route(bodies: list[object], submitted: float) -> tuple[list[Decided], list[Refused]]:
    """Route a chunk; every body ends in exactly one place, and whatever leaves the router can be read."""
    decided, refused = decide_chunk(bodies, _YARD, None, NOW, MOST_TEXT, Gate())
    hold(len(decided) + len(refused) == len(bodies), "a body is lost")
    ready, unsendable = publications(decided, submitted, NOW, 0.001)
    hold(len(ready) + len(unsendable) == len(decided), "a decided job is lost")
    for one in [*refused, *unsendable]:
        check_error(one.error)
        final = one.final()
        if final is not None:
            result = store.result_of(final[0], json.loads(final[3].encode("utf-8")))
            hold(isinstance(result, Result) and result.error is not None, "a refusal that cannot be read")
    for item, publication in zip(decided, ready, strict=False):
        envelope = read_envelope(publication.message.encode("utf-8"))
        hold(envelope is not None, "the router's own message is set aside")
        hold(
            unsendable or _run(envelope or {}), f"the worker refuses what the router accepted: {item.body!r}"
        )
        hold(store.result_state(json.loads(publication.state)) is State.ROUTED, "a wrong state")
    return decided, refused


def path(data: bytes) -> bool:
    """A valid message whose user content alone is changed goes the whole way and arrives as written."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        content = data.decode("utf-8", "replace")
    row = (
        content
        if isinstance(content, dict) and "prompt" in content
        else {"prompt": "p", "metadata": {"u": content}}
    )
    row = {**row, "id": "J1", "task": "t", "model": "m", "deadline": None}
    try:
        prepared = prepare(row, Known(), MOST_TEXT, batch="b")
    except YardError as error:
        check_error(error)
        return False
    chunk = [prepared, prepare({"id": "J2", "prompt": "beside it"}, Known(), MOST_TEXT, batch="b")]
    pushed = _pushed(chunk)
    envelope = read_envelope(pushed.encode("utf-8"))
    hold(envelope is not None, "the client's own message is set aside")
    arguments = _decoded(envelope or {})
    hold(isinstance(arguments, list), "Celery drops a chunk for what a user wrote into a job")
    given = chunk_of(arguments[1])
    hold(given is not None, "the router drops a chunk")
    decided, refused = _route(*given)
    hold(
        [one.job.id for one in decided] == ["J1", "J2"] and not refused,
        "the router refuses what was accepted",
    )
    hold(decided[0].job == parse_job(json.loads(prepared.body), MOST_TEXT), "the job changed on its way")
    return True


def _pushed(chunk: list[Any]) -> str:
    """The message that SUBMIT pushes for a chunk: the longest argument of the store's own command."""
    (command,) = next(store.submit(chunk, 60))
    (found,) = [word for word in command if isinstance(word, str) and word.startswith('{"body"')]
    return found


def message_seeds() -> list[bytes]:
    """What our client and our router publish, and a bare Celery message."""
    seeds = []
    for at, fields in enumerate(JOB_SEEDS):
        body = {"id": f"J{at}", **fields}
        seeds.append(
            task_message(
                RUN_TASK, body["id"], {"job": body, "route": _ROUTE}, model_queue("m"), 6,
                headers={"batch": "b", "submitted": NOW, "routed": NOW, "max_retries": 3, "lost": 0},
            ).encode()
        )  # fmt: skip
        chunk = {"jobs": [body, {"id": "x", "prompt": "y"}], "submitted": NOW}
        seeds.append(task_message(ROUTE_TASK, f"r{at}", chunk, ROUTE_QUEUE, 6, ignore_result=True).encode())
    seeds.append(
        task_message("t", "plain", {"n": 1}, "q", 0, expires=time.time() + 60, time_limit=5).encode()
    )
    return seeds


def path_seeds() -> list[bytes]:
    """Jobs, and user content with a meaning for somebody on the way."""
    odd: list[object] = [
        {"__type__": "uuid", "__value__": {"hex": "0" * 32}},
        {"__type__": "nothing", "__value__": 1},
        {"prompt": '"id": "J9", "delivery_tag": "x"', "metadata": {"status": "SUCCESS"}},
        [{"args": [], "kwargs": {}}],
        "\u2028\u0000\ud83d\ude00",
    ]
    return [json.dumps(seed).encode() for seed in [*JOB_SEEDS, *odd]]


TARGETS = [
    Target("message", message, message_seeds, "message", 12),
    Target("path", path, path_seeds, "json", 5),
]
