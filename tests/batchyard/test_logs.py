"""What keeps the texts of jobs out of the logs, and what it leaves in."""

import io
import logging
from collections.abc import Iterator

import pytest
import redis

from batchyard.logs import FORMAT, WITHHELD, WithoutTexts

CANARY = "CANARY-7d41 solder bridge"


@pytest.fixture
def written() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    logger, out = logging.getLogger("celery.worker.consumer.consumer"), io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(WithoutTexts(FORMAT))
    logger.addHandler(handler)
    yield logger, out
    logger.removeHandler(handler)


def fail(error: Exception) -> None:
    try:
        raise KeyError(CANARY)
    except KeyError as cause:
        raise error from cause


@pytest.mark.parametrize("name", ["router.service", "celery.app.trace"])
def test_a_traceback_stays_without_what_its_exceptions_say(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(WithoutTexts(FORMAT))
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    try:
        fail(ValueError(f"got {CANARY!r}"))
    except ValueError:
        logger.exception("the router failed on a job")
    finally:
        logger.removeHandler(handler)
    text = out.getvalue()
    assert CANARY not in text
    assert "the router failed on a job" in text
    assert f"ValueError {WITHHELD}" in text and f"KeyError {WITHHELD}" in text
    assert "in fail" in text and "test_logs.py" in text


def test_what_machines_say_stays(written: tuple[logging.Logger, io.StringIO]) -> None:
    logger, out = written
    logger.warning("lost: %s", redis.ConnectionError("Connection refused to 10.0.0.5:6379"))
    logger.warning("lost: %r and %s", "a text", ValueError(CANARY))
    assert "ConnectionError: Connection refused to 10.0.0.5:6379" in out.getvalue()
    assert "'a text' and ValueError" in out.getvalue()
    assert CANARY not in out.getvalue()


def test_celerys_copies_of_message_bodies_are_withheld(written: tuple[logging.Logger, io.StringIO]) -> None:
    from celery.worker.consumer import consumer

    logger, out = written
    logger.error(consumer.UNKNOWN_TASK_ERROR, KeyError("x"), CANARY, {"id": "J"}, {})
    logger.error(consumer.INVALID_TASK_ERROR, ValueError(CANARY), CANARY)
    logger.warning(consumer.UNKNOWN_FORMAT, consumer.MESSAGE_REPORT.format(CANARY, "", "", "", ""))
    logger.critical(consumer.MESSAGE_DECODE_ERROR, ValueError(CANARY), "t", "e", {}, CANARY)
    assert CANARY not in out.getvalue()
    assert out.getvalue().count(WITHHELD) == 4
    assert "Received unregistered task of type" in out.getvalue()


def test_the_tracers_own_copies_are_withheld(written: tuple[logging.Logger, io.StringIO]) -> None:
    from celery.app.trace import LOG_FAILURE

    logger, out = written
    context = {"name": "batchyard.run", "id": "J", "description": "raised unexpected", "exc": CANARY}
    logger.error(
        LOG_FAILURE, context | {"traceback": CANARY, "args": CANARY, "kwargs": CANARY, "internal": False}
    )
    assert CANARY not in out.getvalue()
    assert "batchyard.run[J]" in out.getvalue()


def test_another_handler_still_gets_all(written: tuple[logging.Logger, io.StringIO]) -> None:
    logger, out = written
    whole = io.StringIO()
    handler = logging.StreamHandler(whole)
    logger.addHandler(handler)
    try:
        logger.error("Task failed: %s", ValueError(CANARY))
    finally:
        logger.removeHandler(handler)
    assert CANARY in whole.getvalue() and CANARY not in out.getvalue()
