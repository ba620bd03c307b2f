"""What a worker reads out of a message: a job with its route, or an error that names what is wrong."""

import json
from typing import Any

import pytest

from batchyard.errors import InvalidJob
from workers.pool_job import Delivery, read_body

ROUTE = {"task": "t", "model": "m", "by": "job", "reason": "r", "policy": "1"}


def delivery(body: object, job_id: str = "a") -> Delivery:
    text = body if isinstance(body, str) else json.dumps(body)
    return Delivery(print, ("batchyard.run", job_id, {}, text), print, None, 0.0)


def call(**changes: Any) -> list[Any]:
    return [[], {"job": {"id": "a", "prompt": "x"}, "route": ROUTE} | changes, {}]


def test_the_job_and_its_route() -> None:
    job, route = read_body(delivery(call()))
    assert (job.id, job.prompt, route.model) == ("a", "x", "m")


@pytest.mark.parametrize(
    "body",
    [
        "not json",
        "[" * 100_000,
        "9" * 5000,
        5,
        [],
        [[], 5, {}],
        {"job": {}},
        call(job=None),
        call(job="\ud800" * 100_000),
        call(route={}),
        call(route=ROUTE | {"queued_s": float("nan")}),
        call(route=ROUTE | {"seconds": True}),
        call(job={"id": "b", "prompt": "x"}),
        call(job={"id": "a", "prompt": ""}),
    ],
    ids=range(14),
)
def test_what_is_no_message_of_the_router_is_an_invalid_job(body: object) -> None:
    with pytest.raises(InvalidJob) as caught:
        read_body(delivery(body))
    assert caught.value.remedy
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


def test_an_id_that_does_not_fit_is_not_repeated_whole() -> None:
    with pytest.raises(InvalidJob) as caught:
        read_body(delivery(call(), "x" * 100_000))
    assert len(str(caught.value)) < 1000
