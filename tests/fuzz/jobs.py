"""The job and the batch file: JSON text to jobs, and jobs to what the engine is asked."""

import io
import json
import re

from batchyard.catalogue import Catalogue, parse_catalogue
from batchyard.cli_rows import JobRows, parse_row, read_lines
from batchyard.errors import InvalidJob, YardError
from batchyard.job import PRIORITIES, Job, parse_job
from batchyard.jsonvalue import MAX_DEPTH
from batchyard.names import full_name
from batchyard.submission import Intake, Known, Prepared, prepare
from batchyard.wire import dumps
from tests.fuzz.oracle import Target, check_error, hold, same_values
from workers.engine.frames import FrameReader, encode_frame
from workers.engine.request import EngineRequest
from workers.requests import engine_request

MOST_TEXT = 2000
"""Bytes of text a job may have here, so that the limit is met often."""
MOST_LINE = 1000
_NAME = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9_.-]{0,63}~)?[A-Za-z0-9][A-Za-z0-9_.:/@+-]{0,127}", re.ASCII)
CATALOGUE: Catalogue = parse_catalogue(
    {
        "model_list": [
            {"model_name": "m", "model_path": "m.gguf", "tasks": ["t", "c"], "choices_temperature": {"c": 2}},
            {"model_name": "e", "model_path": "e.gguf", "tasks": ["v"], "embedding": True},
        ],
        "task_list": [
            {"task": "t", "instruction": "Do it."},
            {"task": "c", "output": {"type": "choices", "choices": ["a", "b"]}},
            {"task": "v", "output": {"type": "embedding"}},
        ],
    },
    "test",
)

JOB_SEEDS: list[object] = [
    {"id": "J1", "prompt": "please C4 on panel 9 has a solder bridge"},
    {"prompt": "焊点 3 有锡桥", "task": "t", "model": "m", "priority": "interactive", "tenant": "acme"},
    {"id": "b-1", "batch": "b", "prompt": "x", "raw": True, "priority": 9, "max_retries": 0},
    {
        "messages": [
            {"role": "system", "content": "Look."},
            {
                "role": "user",
                "content": [{"type": "text", "text": "板"}, {"type": "image", "sha256": "a" * 64}],
            },
            {"role": "assistant", "content": "ok"},
        ],
        "sampling": {
            "temperature": 0.5, "top_k": 40, "top_p": 0.9, "min_p": 0.1, "repeat_penalty": 1.1, "seed": 7,
            "presence_penalty": 0.5, "frequency_penalty": -0.5, "max_tokens": 64, "stop": ["\n"],
            "logprobs": 3,
        },
        "deadline": 2e9,
        "time_limit": 30.5,
    },
    {
        "prompt": "p",
        "output": {
            "type": "json_schema",
            "schema": {
                "type": "object",
                "properties": {"a": {"type": "integer", "minimum": 1}, "b": {"enum": ["x", "y"]}},
                "required": ["a"],
            },
        },
        "metadata": {"line": 3, "source": "aoi", "nested": {"a": [1, None, 1.5, "é"]}},
    },
    {"prompt": "p", "output": {"type": "grammar", "grammar": 'root ::= "yes" | "no"'}},
    {
        "prompt": "p",
        "output": {
            "type": "choices",
            "choices": ["a", "b"],
            "prior": "content_free",
            "length_normalization": "mean",
        },
    },
    {"prompt": "p", "task": "v", "output": {"type": "embedding", "normalize": False, "dimensions": 64}},
    {"prompt": "p", "metadata": {"when": {"__type__": "datetime", "__value__": "2026-01-01"}}},
]  # fmt: skip


def job(data: bytes) -> bool:
    """JSON text to a job: an InvalidJob that can be read, or a job that travels and comes back the same."""
    try:
        row = parse_row(data, 1 << 20)
        if row is None:
            return False
        parsed = parse_job(row, MOST_TEXT)
    except InvalidJob as error:
        check_error(error)
        return False
    check_job(parsed, row)
    return True


def check_job(parsed: Job, row: dict[str, object]) -> None:
    """What holds for every accepted job."""
    body = dumps(parsed.wire())
    again = parse_job(json.loads(body.encode("utf-8")), MOST_TEXT)
    hold(again == parsed and dumps(again.wire()) == body, "the wire form gives another job")
    named = (
        {"priority": PRIORITIES[row["priority"]]} if row.get("priority") in ("batch", "interactive") else {}
    )
    same_values({**row, **named}, parsed.model_dump(mode="json", by_alias=True))
    for name in filter(None, (parsed.id, parsed.task, parsed.model, parsed.tenant, parsed.batch)):
        hold(_NAME.fullmatch(name), f"{name!r} is no name")
    hold((parsed.prompt is None) != (parsed.messages is None), "not exactly one of prompt and messages")
    hold(parsed.text.strip() or parsed.images, "an empty prompt")
    hold(len(parsed.text.encode("utf-8")) <= MOST_TEXT and "\0" not in parsed.text, "text beyond the limit")
    hold(0 <= parsed.priority <= 9 and 0 <= parsed.max_retries <= 100, "numbers beyond the limits")
    hold(parsed.deadline is None or 1e9 <= parsed.deadline < 253_402_300_800, "a deadline that is no time")
    hold(_depth(row) <= MAX_DEPTH + 1, "nested too deeply")
    _check_prepared(parsed, body)
    _check_request(parsed)


def _check_prepared(parsed: Job, body: str) -> None:
    tenant, another = parsed.tenant, full_name(parsed.tenant, "another")
    try:
        one = prepare(parsed, Known(), MOST_TEXT, own=tenant)
        other = prepare(parsed, Known(), MOST_TEXT, batch=another, own=tenant)
    except InvalidJob as exc:
        hold(exc.code == "wrong_tenant", "a job that may be is refused")  # it bears another tenant's name
        return
    whole = json.loads(body)
    named = {"id": full_name(tenant, whole["id"])}
    if "batch" in whole:
        named["batch"] = full_name(tenant, whole["batch"])
    hold(json.loads(one.body) == whole | named, "what is pushed is not the job")
    hold(one.size == len(one.body.encode()) and other.size == len(other.body.encode()), "a wrong size")
    hold(one.digest == other.digest, "the batch changes what the job is")
    hold(json.loads(other.body)["batch"] == another, "the batch is not the given one")


def _check_request(parsed: Job) -> None:
    """No accepted job is refused by the engine's own parser for its form."""
    for model in CATALOGUE.model_list:
        request = engine_request(parsed, "t", CATALOGUE, model)
        (frame,) = FrameReader().feed(encode_frame({"op": "submit", "request": request}))
        asked = EngineRequest.parse(frame["request"], images=True)
        hold(asked.id == parsed.id and asked.priority == parsed.priority, "the engine is asked another job")
        hold(len(asked.images) in (0, len(parsed.images)), "the engine gets other images")


def _depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    return 0


def batch(data: bytes) -> bool:
    """A JSONL file: every line is blank, one job or one error under its number; none is lost or twice."""
    errors: dict[int, YardError] = {}

    def report(number: int, error: YardError) -> None:
        hold(number not in errors, f"line {number} is reported twice")
        check_error(error)
        errors[number] = error

    lines = read_lines(io.BytesIO(data), MOST_LINE)
    rows = JobRows(lines, "b", {"task": "t"}, report, MOST_LINE)
    intake = Intake(
        rows, "b", Known(), MOST_TEXT, 3, lambda index, _item, error: report(rows.line_of(index), error)
    )
    jobs: dict[int, Prepared] = {}
    for chunk in intake.chunks():
        hold(1 <= len(chunk) <= 3, "a chunk of the wrong size")
        for one in chunk:
            number = rows.line_of(one.index)
            hold(number not in jobs, f"line {number} is a job twice")
            jobs[number] = one
    written = data.split(b"\n")
    for number, line in enumerate(written[:-1] if written[-1] == b"" else written, 1):
        _check_line(number, line, errors.pop(number, None), jobs.pop(number, None))
    hold(not errors and not jobs, "lines that are not there")
    return True


def _check_line(number: int, line: bytes, error: YardError | None, one: Prepared | None) -> None:
    if error is not None:
        hold(one is None, f"line {number} is a job and an error")
        long = len(line.rstrip(b"\r")) > MOST_LINE
        hold(long == (error.code == "line_too_long"), f"line {number}: {error.code} for {len(line)} bytes")
    elif one is not None:
        row = {"id": f"b-{number}", "task": "t"} | json.loads(line.decode("utf-8-sig"))
        hold(one.id == row["id"] and one.item == row, f"line {number} is another job")
        hold(json.loads(one.body)["batch"] == "b", "a job of another batch")
    else:
        hold(not line.decode("utf-8-sig").strip(), f"line {number} is lost")


def job_seeds() -> list[bytes]:
    """Jobs of every form."""
    return [json.dumps(seed, ensure_ascii=False).encode() for seed in JOB_SEEDS]


def batch_seeds() -> list[bytes]:
    """Files of jobs, good and bad."""
    seeds = job_seeds()
    return [
        b"\n".join(seeds[:3]) + b"\n",
        b"\r\n".join(seeds[2:6]),
        b'\xef\xbb\xbf{"prompt": "a"}\n\n  \nnot json\n[1]\n{"prompt": ""}\n\xff\xfe\n{"prompt": "x"}',
        b'{"prompt": "' + b"x" * 1200 + b'"}\n{"prompt": "after"}\n',
    ]


TARGETS = [Target("job", job, job_seeds, "json", 34), Target("batch", batch, batch_seeds, "lines", 10)]
