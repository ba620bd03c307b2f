import json
import logging

import pytest
import redis

from batchyard import names, store
from batchyard.client import Client
from batchyard.errors import InvalidConfig, InvalidJob, YardError, YardUnavailable
from batchyard.settings import Settings
from batchyard.states import State
from router.service import PUBLISH_AT_ONCE, Loaded, Router, load
from tests import waiting

DEFECT = {"id": "d", "prompt": "please C4 on panel 9 has a solder bridge", "batch": "b1"}
FAQ = {"id": "f", "prompt": "怎么取消第 3 个任务?批次 7", "priority": 0}


@pytest.fixture
def loaded(make_yard, trained):
    return Loaded(make_yard(threshold=trained.classifier.threshold), trained.classifier)


@pytest.fixture
def connection(redis_url):
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def client(settings):
    with Client(settings) as client:
        yield client


@pytest.fixture
def router(settings, loaded):
    router = Router(settings, loaded, sleep=lambda _seconds: None)
    yield router
    router.close()


def chunks_waiting(connection):
    """Every chunk on the route queue, taken off it: (jobs, submitted)."""
    found = [json.loads(message["body"])[1] for message in waiting.messages(connection, names.ROUTE_QUEUE)]
    for key in connection.scan_iter("batchyard:*|route|*"):
        connection.delete(key)
    return [(kwargs["jobs"], kwargs["submitted"]) for kwargs in found]


def messages(connection, model, priority):
    return waiting.messages(connection, names.model_queue(model), [priority])


def test_submitted_jobs_reach_their_models_under_their_own_ids(client, router, connection):
    client.submit_many([DEFECT, FAQ], batch="b1")
    ((bodies, submitted),) = chunks_waiting(connection)
    outcome = router.route(bodies, submitted)
    assert (outcome.published, outcome.skipped, outcome.ended) == (2, 0, {})
    assert outcome.by_model == {"inspector": 1, "talker": 1}
    (at_inspector,) = messages(connection, "inspector", 6)
    (at_talker,) = messages(connection, "talker", 0)
    assert at_inspector["headers"]["id"] == at_inspector["properties"]["correlation_id"] == "d"
    assert at_inspector["headers"]["batch"] == "b1"
    assert at_inspector["headers"]["submitted"] == submitted
    assert at_talker["headers"]["id"] == "f"
    assert client.statuses(["d", "f"]) == [State.ROUTED, State.ROUTED]
    assert connection.llen(names.bell_key("model.inspector")) == 1
    assert connection.ttl(names.result_key("d")) > 0


def test_a_chunk_delivered_twice_publishes_nothing_twice(client, router, connection):
    client.submit_many([DEFECT, FAQ], batch="b1")
    ((bodies, submitted),) = chunks_waiting(connection)
    router.route(bodies, submitted)
    again = router.route(bodies, submitted)
    assert (again.published, again.skipped) == (0, 2)
    assert "2 skipped" in str(again)
    assert len(messages(connection, "inspector", 6)) == len(messages(connection, "talker", 0)) == 1


def test_a_router_killed_half_way_is_finished_by_the_next(client, router, connection):
    client.submit_many([DEFECT, FAQ], batch="b1")
    ((bodies, submitted),) = chunks_waiting(connection)
    router.route(bodies[:1], submitted)
    assert router.route(bodies, submitted).published == 1
    assert len(messages(connection, "inspector", 6)) == len(messages(connection, "talker", 0)) == 1


def test_a_cancelled_job_is_not_published_and_stays_cancelled(client, router, connection):
    client.submit_many([DEFECT, FAQ], batch="b1")
    ((bodies, submitted),) = chunks_waiting(connection)
    store.run(
        connection, store.finish([("d", "b1", State.REVOKED, store.state_document("d", State.REVOKED))], 60)
    )
    assert router.route(bodies, submitted).published == 1
    assert messages(connection, "inspector", 6) == []
    assert client.status("d") is State.REVOKED


def test_bad_jobs_end_with_a_reason_and_count_in_their_batch(client, router, connection):
    client.submit_many([{"id": str(i), "prompt": "how do I cancel job 3?"} for i in range(3)], batch="b2")
    ((bodies, submitted),) = chunks_waiting(connection)
    bodies[0]["task"] = "nope"
    bodies[1]["sampling"] = {"max_tokens": -1}
    outcome = router.route([*bodies, "junk", {"prompt": "no id"}], submitted)
    assert outcome.published == 1
    assert outcome.ended == {"unknown_task": 1, "invalid_job": 3}
    first, second = client.result("0", timeout=0), client.result("1", timeout=0)
    assert first.error is not None and first.error.code == "unknown_task"
    assert second.error is not None and second.error.field == "sampling.max_tokens"
    with pytest.raises(YardError, match="unknown_task"):
        first.value()
    status = client.batch("b2")
    assert (status.total, status.failure, status.done) == (3, 2, 2)


def test_more_jobs_than_one_redis_call_takes(router, connection):
    bodies = [{"id": f"j{i}", "prompt": "x", "task": "faq"} for i in range(PUBLISH_AT_ONCE * 2 + 1)]
    assert router.route(bodies, 0.0).published == len(bodies)
    found = messages(connection, "talker", 6)
    assert [message["headers"]["id"] for message in found] == [body["id"] for body in bodies]


def test_an_empty_chunk_does_nothing(router):
    assert router.route([], 0.0).published == 0


def test_a_job_that_trips_the_router_costs_no_other_job(router, loaded, connection, monkeypatch, caplog):
    class Brittle:
        """A classifier that breaks on one text."""

        classes = loaded.classifier.classes
        scope = loaded.classifier.scope

        def probabilities(self, texts):
            if any("boom" in text for text in texts):
                raise ZeroDivisionError("boom")
            return loaded.classifier.probabilities(texts)

    monkeypatch.setattr(router, "loaded", Loaded(loaded.yard, Brittle()))
    outcome = router.route([DEFECT, {"id": "x", "prompt": "boom"}, FAQ], 0.0)
    assert outcome.published == 2
    assert outcome.ended == {"route_failed": 1}
    assert "ZeroDivisionError" in connection.get(names.result_key("x"))


def test_redis_away_is_waited_for_and_then_reported(loaded, caplog):
    waits = []
    settings = Settings(redis_url="redis://127.0.0.1:1/0")
    router = Router(settings, loaded, sleep=waits.append)
    with caplog.at_level(logging.WARNING), pytest.raises(YardUnavailable):
        router.route([DEFECT], 0.0)
    assert 15 < sum(waits) < 30 and waits == sorted(waits)
    assert "trying again" in caplog.text and "solder" not in caplog.text


def test_the_catalogue_is_published_for_clients(router, client):
    router.publish_catalogue()
    with pytest.raises(InvalidJob, match="unknown_task"):
        client.submit(prompt="x", task="nope")
    assert client.submit(prompt="x", task="faq")


def test_a_policy_without_classifier_loads_and_routes(settings, tmp_path):
    path = tmp_path / "configs/routing.yaml"
    path.parent.mkdir()
    path.write_text("version: '2'\nclassifier: null\ndefault: {task: other, model: chat}\n")
    loaded = load(settings.model_copy(update={"routing": path}))
    assert loaded.classifier is None
    router = Router(settings, loaded)
    assert router.route([DEFECT, FAQ | {"task": "faq"}], 0.0).by_model == {"chat": 2}
    router.close()


def test_a_missing_artefact_is_a_clear_error(settings, tmp_path):
    path = tmp_path / "configs/routing.yaml"
    path.parent.mkdir()
    path.write_text("version: '2'\ndefault: {task: other, model: chat}\n")
    with pytest.raises(InvalidConfig) as caught:
        load(settings.model_copy(update={"routing": path}))
    assert caught.value.field == str(tmp_path / "models/router/classifier.json")


def test_a_job_that_is_late_when_a_router_comes_ends_and_its_batch_knows(client, router, connection):
    client.submit_many([DEFECT | {"deadline": 1e9}, FAQ], batch="b1")
    assert client.status("d") is State.QUEUED
    ((bodies, submitted),) = chunks_waiting(connection)
    outcome = router.route(bodies, submitted)
    assert (outcome.published, outcome.ended) == (1, {"deadline_exceeded": 1})
    result = client.result("d", timeout=0)
    assert (result.state, result.error.code) == (State.REVOKED, "deadline_exceeded")
    assert (client.batch("b1").revoked, client.batch("b1").total) == (1, 2)
    assert next(client.results("b1")).job_id == "d"
    assert connection.zscore(names.DEADLINES_KEY, "d") is None
