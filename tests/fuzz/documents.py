"""What is kept and what is handed in beside jobs: result documents, labelled rows, images."""

import json
import struct
import zlib

from batchyard import store
from batchyard.errors import InvalidConfig, InvalidJob, JobExpired, YardError
from batchyard.images import check_image
from batchyard.result import ErrorInfo, Result
from batchyard.states import State
from router.rows import InvalidRows, parse_rows
from tests.fuzz.oracle import Target, check_error, hold

_SUCCESS = {
    "job_id": "J1", "text": "t", "parsed": {"a": [1]}, "choice": "a", "choice_probabilities": {"a": 0.5},
    "embedding": "AACAPwAAAEA=", "finish_reason": "stop", "usage": {"prompt_tokens": 1},
    "timings": {"queue_s": 0.1, "steps": 3}, "confidence": {"min": 0.1, "mean": 0.2, "q10": 0.1},
    "route": {"task": "t", "model": "m", "by": "job", "reason": "r", "policy": "1"},
    "provenance": {"model_sha256": "0", "quantisation": "q", "llama_build": "b", "prompt_sha256": "0"},
    "logprobs": [{"token": "a"}], "attempt": 2, "metadata": {"a": 1},
}  # fmt: skip


def result(data: bytes) -> bool:
    """A result document, whoever wrote it: no result yet, or a result that says what it is."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return False
    state = store.result_state(document)
    found = store.result_of("J1", document)
    hold((found is not None) == state.final, f"{state} and {found!r}")
    if found is None:
        return False
    hold(
        found.job_id == "J1" and (found.state is state or found.error is not None),
        "the result of another job",
    )
    hold((found.error is None) == (found.state is State.SUCCESS), "an error beside success, or neither")
    again = Result.model_validate_json(found.model_dump_json().encode("utf-8"))
    hold(
        again.state is found.state and again.error == found.error, "a result that changes when it is written"
    )
    try:
        found.value()
    except YardError as error:
        hold(isinstance(found.error, ErrorInfo) and error.code == found.error.code, "another error")
    return found.error is None


def result_seeds() -> list[bytes]:
    """Documents of our workers and router, of the client's cancel, and of stock Celery."""
    stock = {"exc_type": "TaskRevokedError", "exc_message": ["expired"], "exc_module": "celery.exceptions"}
    documents = [
        store.state_document("J1", State.SUCCESS, _SUCCESS),
        store.state_document("J1", State.QUEUED),
        store.state_document("J1", State.REVOKED, stock),
        store.state_document(
            "J1", State.FAILURE, {"exc_type": "ValueError", "exc_message": "x", "exc_module": "b"}
        ),
        store.failure_document("J1", State.FAILURE, InvalidJob("m", field="f", remedy="r")),
        store.failure_document("J1", State.REVOKED, JobExpired("late", remedy="r")),
        store.failure_document("J1", State.FAILURE, InvalidConfig("m")),
        "null",
    ]
    return [document.encode() for document in documents]


def rows(data: bytes) -> bool:
    """A file of labelled rows: refused with its lines, or rows that can be trained on."""
    try:
        found = parse_rows(data, "rows.jsonl")
    except InvalidRows as error:
        check_error(error)
        return False
    hold(found and all(row.text.strip() and row.text.encode("utf-8") for row in found), "a row without text")
    lines = [row.line for row in found]
    hold(lines == sorted(set(lines)), "rows out of order")
    return True


def row_seeds() -> list[bytes]:
    """Rows, good and bad."""
    good = '\ufeff{"text": "hi", "task": "greeting"}\r\n\n{"text": "焊", "task": "oos"}\n'.encode()
    return [good, good + b'{"text": 5}\n?\n{"text": "a", "task": "auto"}\n']


def image(data: bytes) -> bool:
    """A file that may be an image: refused by name, or one of a size within the limits."""
    try:
        width, height = check_image(data, 2048, 1_000_000)
    except InvalidJob as error:
        check_error(error)
        return False
    hold(width > 0 and height > 0 and width * height <= 1_000_000, f"{width} x {height} pixels")
    return True


def image_seeds() -> list[bytes]:
    """A PNG and a JPEG, as far as their structure goes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 3, 8, 2, 0, 0, 0))
    png = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 21)) + chunk(b"IEND", b"")
    jpeg = b"\xff\xd8\xff\xe0\x00\x04ab\xff\xc0\x00\x0b\x08\x00\x03\x00\x02\x01\x01\x11\x00\xff\xd9"
    return [png, jpeg]


TARGETS = [
    Target("result", result, result_seeds, "json", 8),
    Target("rows", rows, row_seeds, "lines", 5),
    Target("image", image, image_seeds, "bytes", 4),
]
