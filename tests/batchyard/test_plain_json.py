"""What a user writes into a job is data to everybody on the way, whatever keys it has."""

import json

import pytest
from kombu.serialization import loads

from batchyard import store
from batchyard.app import make_app
from batchyard.settings import Settings
from batchyard.submission import Known, prepare
from batchyard.transport import read_envelope


@pytest.mark.parametrize(
    "value",
    [
        {"__type__": "datetime", "__value__": "2026-01-01T00:00:00"},
        {"__type__": "uuid", "__value__": 5},
        {"__type__": "nothing", "__value__": None},
        {"__type__": ["x"], "__value__": None},
    ],
)
def test_a_chunk_is_read_as_it_was_written(settings: Settings, value: object) -> None:
    make_app(settings)
    jobs = [
        prepare({"id": job_id, "prompt": "x", "metadata": metadata}, Known(), 1000, "b")
        for job_id, metadata in (("a", {"seen": value}), ("b", {}))
    ]
    (command,) = next(store.submit(jobs, 60))
    (message,) = [word for word in command if isinstance(word, str) and word.startswith('{"body"')]
    envelope = read_envelope(message.encode())
    assert envelope is not None
    _, arguments, _ = loads(
        envelope["body"], envelope["content-type"], envelope["content-encoding"], {"application/json"}
    )
    assert arguments["jobs"] == [json.loads(job.body) for job in jobs]
    assert arguments["jobs"][0]["metadata"] == {"seen": value}
