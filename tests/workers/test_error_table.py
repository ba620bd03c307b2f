"""docs/errors.md says of every error of a job whether it is tried again."""

import re
from pathlib import Path

import pytest

from batchyard import dead
from batchyard.errors import InvalidJob, JobCancelled, JobExpired, RouteFailed, YardError
from workers.engine import errors as engine_errors
from workers.engine.errors import EngineError
from workers.outcome import unspeakable
from workers.pool_job import Delivery, read_body
from workers.remote import errors as remote_errors
from workers.remote.errors import EndpointError

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/errors.md"


def table() -> dict[str, bool]:
    """Whether each code of the table is tried again."""
    rows = re.findall(
        r"^\| `(\w+)` \|[^|]*\| (yes|no) \|", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert len(dict(rows)) == len(rows), "a code stands there twice"
    return {code: said == "yes" for code, said in rows}


def constants(module: object) -> list[str]:
    """The codes that a module of errors defines."""
    return [
        value
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, str) and value == name.lower()
    ]


def unreadable() -> YardError:
    with pytest.raises(InvalidJob) as caught:
        read_body(Delivery(lambda: None, ("run", "id", {}, "no body"), lambda: None, None, 0.0))
    return caught.value


def test_the_table_says_what_the_code_does() -> None:
    expected = {code: EngineError(code, "x").retryable for code in constants(engine_errors)}
    remote = [code for code in constants(remote_errors) if code not in expected]
    expected |= {code: EndpointError(code, "x").retryable for code in remote}
    ours = [
        unspeakable(ValueError()), dead.poison("x"), unreadable(), InvalidJob("x"), RouteFailed("x"),
        JobCancelled("x"), JobExpired("x"),
    ]  # fmt: skip
    expected |= {error.code: error.retryable for error in ours}
    assert table() == expected | {"time_limit_exceeded": False}
    assert sum(table().values()) == 6
