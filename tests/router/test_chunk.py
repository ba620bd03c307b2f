import json

import pytest

from batchyard.errors import InvalidJob, JobExpired, RouteFailed
from batchyard.signing import Keys, signed
from batchyard.states import State
from router.chunk import decide_chunk, failed, publications
from router.gate import Gate

NOW = 1_700_000_000.0
DEFECT = {"id": "d", "prompt": "please C4 on panel 9 has a solder bridge"}
FAQ = {"id": "f", "prompt": "怎么取消第 3 个任务?批次 7"}
OUTSIDE = {"id": "o", "prompt": "推荐 3 部电影,时长 9 分钟"}


@pytest.fixture
def decided(make_yard, trained):
    def run(*bodies, limit=1_000_000, now=NOW, gate=Gate()):  # noqa: B008 - frozen
        yard = make_yard(threshold=trained.classifier.threshold)
        return decide_chunk(bodies, yard, trained.classifier, now, limit, gate)

    return run


def message_of(publication):
    message = json.loads(publication.message)
    _args, kwargs, _embed = json.loads(message["body"])
    return message, kwargs


def test_each_job_gets_its_own_route(decided):
    good, bad = decided(DEFECT, FAQ, OUTSIDE, DEFECT | {"id": "t", "task": "faq"})
    assert bad == []
    assert {item.job.id: (item.route.task, item.route.by) for item in good} == {
        "d": ("defect", "classifier"),
        "f": ("faq", "classifier"),
        "o": ("other", "default"),
        "t": ("faq", "job"),
    }


@pytest.mark.parametrize(
    "body, code, job_id",
    [
        ({"id": "x", "prompt": ""}, "invalid_job", "x"),
        ({"id": "x", "prompt": "a", "surprise": 1}, "invalid_job", "x"),
        ({"id": "x", "prompt": "a", "task": "nope"}, "unknown_task", "x"),
        ({"id": "x", "prompt": "a", "model": "nope"}, "unknown_model", "x"),
        ({"id": "x", "prompt": "a", "task": "lonely"}, "route_failed", "x"),
        ({"id": "x", "prompt": "y" * 2001}, "prompt_too_large", "x"),
        ({"id": "x", "prompt": "\ud800"}, "invalid_utf8", "x"),
        ({"id": "x", "prompt": "a", "deadline": NOW - 1}, "deadline_exceeded", "x"),
        ({"prompt": "nobody's"}, "invalid_job", None),
        ({"id": 7, "prompt": "a"}, "invalid_job", None),
        ({"id": "no name!", "prompt": "a"}, "invalid_job", None),
        ("not an object", "invalid_job", None),
        (None, "invalid_job", None),
    ],
)
def test_a_bad_body_ends_its_own_job_only(decided, body, code, job_id):
    good, bad = decided(DEFECT, body, FAQ, limit=2000)
    assert [item.job.id for item in good] == ["d", "f"]
    assert [(item.error.code, item.job_id) for item in bad] == [(code, job_id)]
    assert bad[0].error.remedy
    assert (bad[0].final() is None) == (job_id is None)


@pytest.mark.parametrize(
    "fields, job_id, batch",
    [
        ({"id": "acme~x", "tenant": "beta"}, None, ""),
        ({"id": "acme~x"}, None, ""),
        ({"id": "x", "tenant": "beta"}, None, ""),
        ({"id": "default~x"}, "default~x", ""),
        ({"id": "beta~x", "tenant": "beta", "batch": "acme~b"}, "beta~x", ""),
        ({"id": "x", "batch": "acme~b"}, "x", ""),
    ],
)
def test_nobody_ends_a_job_or_counts_in_a_batch_of_another_tenant(decided, fields, job_id, batch):
    for prompt, code in (("a", "wrong_tenant"), ("", "invalid_job")):
        good, bad = decided(DEFECT, {"prompt": prompt} | fields)
        assert [item.job.id for item in good] == ["d"]
        assert [(item.error.code, item.job_id, item.batch) for item in bad] == [(code, job_id, batch)]
    good, _ = decided({"id": "acme~x", "tenant": "acme", "batch": "acme~b", "prompt": "a", "task": "faq"})
    assert [item.job.id for item in good] == ["acme~x"]


def test_a_late_job_is_revoked_and_the_others_fail(decided):
    _, bad = decided(DEFECT | {"deadline": NOW - 5, "batch": "b1"}, FAQ | {"task": "nope"})
    finals = [item.final() for item in bad]
    assert [(final[0], final[1], final[2]) for final in finals if final] == [
        ("d", "b1", State.REVOKED),
        ("f", "", State.FAILURE),
    ]
    assert isinstance(bad[0].error, JobExpired) and "5.0 s" in bad[0].error.message


def test_all_options_of_a_job_are_kept(decided):
    body = DEFECT | {
        "id": "gold~d",
        "priority": 2,
        "deadline": NOW + 60,
        "time_limit": 7.5,
        "max_retries": 1,
        "batch": "gold~b1",
        "tenant": "gold",
        "sampling": {"max_tokens": 5, "temperature": 0.5, "seed": 3},
        "output": {"type": "choices", "choices": ["pass", "fail"]},
        "metadata": {"n": [1, {"deep": None}], "文": "字"},
    }
    good, _ = decided(body)
    (publication,), refused = publications(good, NOW - 2, NOW, 0.0005)
    assert refused == []
    assert (publication.job_id, publication.queue, publication.priority) == ("gold~d", "model.inspector", 2)
    message, kwargs = message_of(publication)
    assert kwargs["job"] == body
    headers = message["headers"]
    assert headers["task"] == "batchyard.run" and headers["id"] == "gold~d"
    assert headers["timelimit"] == [7.5, None]
    assert headers["expires"].startswith("2023-11-14T22:14:20")
    assert (headers["batch"], headers["submitted"], headers["routed"]) == ("gold~b1", NOW - 2, NOW)
    assert headers["max_retries"] == 1
    assert headers["argsrepr"] == headers["kwargsrepr"] == "-"
    assert message["properties"]["priority"] == 2
    assert message["properties"]["delivery_info"]["routing_key"] == "model.inspector"


def test_the_route_travels_and_is_the_routed_state(decided):
    good, _ = decided(DEFECT)
    (publication,), _ = publications(good, NOW - 2, NOW, 0.0005)
    _, kwargs = message_of(publication)
    state = json.loads(publication.state)
    assert publication.state.startswith('{"status": "ROUTED"')
    assert state["result"] == kwargs["route"]
    assert state["result"] == good[0].route.model_dump(exclude_defaults=True) | {
        "seconds": 0.0005,
        "queued_s": 2.0,
    }


def test_a_clock_that_ran_back_gives_no_negative_wait(decided):
    good, _ = decided(DEFECT)
    (publication,), _ = publications(good, NOW + 5, NOW, 0.0)
    assert json.loads(publication.state)["result"]["queued_s"] == 0.0


@pytest.mark.parametrize(
    "fields, field",
    [
        ({"metadata": {"x": "\ud800"}}, "metadata"),
        ({"deadline": 1e300}, "deadline"),
        ({"metadata": {"x": float("nan")}}, "metadata"),
    ],
)
def test_what_cannot_be_sent_ends_its_own_job_only(decided, fields, field):
    good, bad = decided(DEFECT, FAQ | fields)
    ready, refused = publications(good, NOW, NOW, 0.0)
    assert [publication.job_id for publication in ready] == ["d"]
    (ended,) = [*bad, *refused]
    assert isinstance(ended.error, InvalidJob)
    assert (ended.job_id, (ended.error.field or "").split(".")[0]) == ("f", field)


def test_a_final_document_can_always_be_sent(decided):
    _, (bad,) = decided(DEFECT | {"\ud800key": 1})
    final = bad.final()
    assert final is not None
    assert json.loads(final[3].encode())["status"] == "FAILURE"


def test_a_fault_of_the_router_names_no_prompt():
    ended = failed({"id": "x", "prompt": "secret"}, ValueError("secret"))
    assert isinstance(ended.error, RouteFailed)
    assert ended.final() is not None and "secret" not in str(ended.final())


def test_a_foreign_job_ends_nothing_and_the_others_go_on(decided):
    good, bad = decided(DEFECT | {"tenant": "beta"}, FAQ, gate=Gate(flow="default"))
    assert [item.job.id for item in good] == ["f"]
    (foreign,) = bad
    assert (foreign.job_id, foreign.batch, foreign.error.code) == (None, "", "wrong_tenant")
    assert foreign.final() is None


def test_a_signature_does_not_travel_on_and_a_bad_one_ends_its_job(decided):
    gate = Gate(Keys({"default": [bytes(32)]}))
    signed_job = json.loads(signed(json.dumps(DEFECT), bytes(32)))
    good, bad = decided(signed_job, FAQ, signed_job | {"id": "copied"}, gate=gate)
    assert [item.body for item in good] == [DEFECT]
    assert [(one.job_id, one.error.code) for one in bad] == [
        ("f", "bad_signature"),
        ("copied", "bad_signature"),
    ]
