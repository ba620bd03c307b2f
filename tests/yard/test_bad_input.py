"""Every kind of bad input gives an error that names it, while a good job beside it is answered."""

import pytest
import redis

from batchyard import names
from batchyard.client import Client
from batchyard.errors import InvalidJob, JobFailed, YardError, YardUnavailable
from batchyard.settings import Settings
from tests.waiting import dead_messages
from tests.yard.conftest import RunningYard

pytestmark = pytest.mark.yard

GOOD = {"prompt": "Board A17: solder bridge at U12, pin 3 to pin 4.", "task": "defect_detect"}


@pytest.fixture(autouse=True)
def _neighbour(client: Client) -> None:
    """A good job goes in before each test's bad one, and another after it; both must be answered."""
    before = client.submit(**GOOD)
    yield
    after = client.submit(**GOOD)
    for job_id in (before, after):
        assert client.result(job_id, timeout=60).ok


NO_SCHEMA = {"type": "json_schema", "schema": {"type": "verdict"}}
NO_GRAMMAR = {"type": "grammar", "grammar": "((("}
AT_SUBMIT = {
    "unknown task": ({"task": "weld"}, "unknown_task", "task"),
    "unknown model": ({"model": "gpt-9"}, "unknown_model", "model"),
    "empty prompt": ({"prompt": ""}, "invalid_job", "prompt"),
    "10 MB prompt": ({"prompt": "x" * 10_000_000}, "prompt_too_large", "prompt"),
    "invalid UTF-8": ({"prompt": b"\xc3\x28 bytes"}, "invalid_job", "prompt"),
    "half a surrogate pair": ({"prompt": "\udc80"}, "invalid_utf8", "prompt"),
    "NaN temperature": ({"sampling": {"temperature": float("nan")}}, "invalid_job", "sampling.temperature"),
    "negative max_tokens": ({"sampling": {"max_tokens": -1}}, "invalid_job", "sampling.max_tokens"),
    "a schema that is none": ({"output": NO_SCHEMA}, "invalid_job", "output.schema"),
    "a grammar without a root": ({"output": NO_GRAMMAR}, "invalid_job", "output.grammar"),
}


@pytest.mark.parametrize("name", AT_SUBMIT)
def test_refused_at_submit(client: Client, name: str) -> None:
    fields, code, field = AT_SUBMIT[name]
    with pytest.raises(InvalidJob) as caught:
        client.submit({**GOOD, **fields})
    assert (caught.value.code, caught.value.field) == (code, field)
    assert caught.value.remedy
    assert len(str(caught.value)) < 500


def test_a_grammar_that_does_not_parse(client: Client) -> None:
    broken = {"type": "grammar", "grammar": 'root ::= "a" | undefined_rule ((('}
    result = client.result(client.submit({**GOOD, "output": broken}), timeout=60)
    assert result.error is not None
    assert result.error.code == "grammar_invalid"
    assert result.error.remedy
    with pytest.raises(JobFailed):
        result.value()


def test_a_schema_beyond_what_grammars_can_say(client: Client) -> None:
    odd = {"type": "json_schema", "schema": {"type": "string", "pattern": "(?<=a)b("}}
    error = client.result(client.submit({**GOOD, "output": odd}), timeout=60).error
    assert error is not None
    assert error.code == "schema_invalid"


def test_a_prompt_that_does_not_fit_its_model(client: Client) -> None:
    error = client.result(client.submit({**GOOD, "prompt": "pin " * 5000}), timeout=60).error
    assert error is not None
    assert error.code == "prompt_too_long"
    assert error.remedy


def test_one_id_with_two_bodies(client: Client) -> None:
    client.submit({**GOOD, "id": "twice"})
    with pytest.raises(YardError) as caught:
        client.submit({**GOOD, "id": "twice", "prompt": "another board"})
    assert (caught.value.code, caught.value.field) == ("id_conflict", "id")
    assert client.result("twice", timeout=60).ok


def test_a_corrupt_image(client: Client) -> None:
    with pytest.raises(InvalidJob) as caught:
        client.attach(b"\xff\xd8\xff\xe0 cut off")
    assert caught.value.code == "image_corrupt"


def test_an_image_for_a_model_that_has_no_eyes(client: Client, yard: RunningYard) -> None:
    from tests.batchyard.test_images import png

    image = {"type": "image", "sha256": client.attach(png())}
    messages = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, image]}]
    error = client.result(client.submit(messages=messages, task="defect_detect"), timeout=60).error
    assert error is not None
    assert error.code == "images_not_supported"


def test_redis_away_at_submit() -> None:
    with (
        Client(Settings(redis_url="redis://127.0.0.1:1/0")) as away,
        pytest.raises(YardUnavailable) as caught,
    ):
        away.submit(GOOD)
    assert caught.value.retryable
    assert "BATCHYARD_REDIS_URL" in str(caught.value)


def test_what_is_not_ours_on_the_queues(client: Client, yard: RunningYard) -> None:
    with redis.Redis.from_url(yard.settings.url) as raw:
        for queue in (names.ROUTE_QUEUE, names.model_queue("defect_detect")):
            raw.lpush(queue, b"\x80\x04 a pickle, say")
            client.result(client.submit(GOOD), timeout=60).value()
            assert dead_messages(raw, queue) == ["\\x80\x04 a pickle, say"]
