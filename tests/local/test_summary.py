import math
from typing import Any

import pytest

from batchyard.result import ErrorInfo, Result, Timings
from batchyard.route import Route
from batchyard.states import State
from local.summary import Done, answered_right, failures, lines, percentile, routed_right


def a_result(task: str = "faq", model: str = "chat", *, oos: bool = False, **fields: Any) -> Result:
    route = Route(task=task, model=model, by="classifier", out_of_scope=oos, reason="r", policy="p")
    return Result(**{"job_id": "j", "state": State.SUCCESS, "route": route} | fields)


def labelled(task: str | None, expected: object = None) -> dict[str, Any]:
    return {"metadata": {"expected_task": task, "expected": expected}}


@pytest.mark.parametrize(
    ("row", "result", "right"),
    [
        (labelled("faq"), a_result("faq"), True),
        (labelled("faq"), a_result("ner"), False),
        (labelled("oos"), a_result("other", oos=True), True),
        (labelled("oos"), a_result("other"), False),
        (labelled(None), a_result("faq"), None),
        ({}, a_result("faq"), None),
        (labelled("faq"), Result(job_id="j", state=State.FAILURE), None),
    ],
)
def test_routed_right(row: dict[str, Any], result: Result, right: bool | None) -> None:
    assert routed_right(row, result) is right


@pytest.mark.parametrize(
    ("expected", "fields", "right"),
    [
        ({"verdict": "fail", "ref": None}, {"parsed": {"ref": None, "verdict": "fail"}}, True),
        ({"verdict": "fail", "ref": "R1"}, {"parsed": {"verdict": "fail", "ref": "R2"}}, False),
        ({"verdict": "fail"}, {"text": "no JSON"}, False),
        ("soldering", {"choice": "soldering"}, True),
        ("soldering", {"choice": "none", "text": "soldering"}, False),
        ("hello", {"text": " hello\n"}, True),
        (None, {"text": "anything"}, None),
    ],
)
def test_answered_right(expected: object, fields: dict[str, Any], right: bool | None) -> None:
    assert answered_right(labelled("faq", expected), a_result(**fields)) is right


def test_lines_count_by_label_and_end_with_all() -> None:
    slow = Timings(total_s=4.0, mean_batch=8.0)
    quick = Timings(total_s=1.0, mean_batch=16.0)
    failed = Result(job_id="j", state=State.FAILURE, error=ErrorInfo(code="prompt_too_long", message="m"))
    done = [
        Done(labelled("faq"), a_result("faq", timings=slow), 4.0),
        Done(labelled("faq"), a_result("ner", timings=quick), 1.0),
        Done(labelled("defect_detect"), failed, 0.5),
    ]
    faq, defect, everything = lines(done)
    assert (faq.task, faq.jobs, faq.routed, faq.models) == ("faq", 2, (1, 2), ("chat",))
    assert (faq.p50, faq.p95, faq.mean_batch, faq.per_second) == (1.0, 4.0, 12.0, 0.5)
    assert (defect.jobs, defect.failed, defect.models) == (1, 1, ())
    assert math.isnan(defect.p50) and math.isnan(defect.mean_batch)
    assert (everything.task, everything.jobs, everything.failed, everything.per_second) == ("all", 3, 1, 0.75)
    assert failures(done) == [("prompt_too_long", 1, "j: m")]


def test_nothing_done_is_a_line_of_zeros() -> None:
    (everything,) = lines([])
    assert everything.jobs == 0 and math.isnan(everything.per_second)


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([3.0, 1.0, 2.0], 0.5, 2.0),
        ([1.0, 2.0], 0.5, 1.0),
        ([5.0], 0.95, 5.0),
        ([1.0] * 19 + [9.0], 0.95, 1.0),
    ],
)
def test_percentile_is_a_sample(values: list[float], share: float, expected: float) -> None:
    assert percentile(values, share) == expected
