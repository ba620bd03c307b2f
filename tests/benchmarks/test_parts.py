"""What the benchmarks are made of: figures, labels, comparisons. The measurements themselves are no tests."""

import importlib
import importlib.util
import json
import sys
from pathlib import Path

import pytest

from batchyard import Client, Settings
from benchmarks import __main__ as dispatch
from benchmarks import batched_equals_single, import_time, submit_rate, whole_path
from benchmarks.batched_equals_single import parting
from benchmarks.machine import processor_name, this_machine
from benchmarks.naive import make_naive_app
from benchmarks.reports import labelled_reports, share_right
from benchmarks.table import aligned, ratio, spread, write_json


def test_median_is_shown_with_its_spread() -> None:
    assert spread([3.0, 1.0, 2.0]) == "2.0 (1.0-3.0)"
    assert spread([1234.5], 0) == "1,234"
    assert spread([]) == "-"


def test_ratio_is_of_medians() -> None:
    assert ratio([2.0, 4.0, 100.0], [2.0]) == 2.0
    assert ratio([1.0], []) != ratio([1.0], [])  # NaN


def test_columns_are_aligned() -> None:
    assert aligned(["a", "bb"], [["long", "1"]]).splitlines() == ["a     bb", "----  --", "long   1"]


def test_processor_is_named() -> None:
    assert processor_name("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n") == "Some CPU @ 2 GHz"
    assert processor_name("") == ""


def test_a_busy_machine_is_warned_of() -> None:
    machine = this_machine().running("Redis", "7.0")
    assert "Redis 7.0" in machine.lines()[1]
    assert any("something else was running" in line for line in machine.lines()) == (machine.load > 0.3)


def test_figures_are_written_with_their_machine(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    write_json(path, "some", this_machine(), {"rate": 1.5})
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["figures"] == {"rate": 1.5}
    assert document["machine"]["versions"]["celery"]


def test_reports_are_different_and_the_same_each_time() -> None:
    reports = labelled_reports(50)
    assert len({report.text for report in reports}) == 50
    assert labelled_reports(50) == reports


def test_share_of_right_verdicts_counts_missing_answers_as_wrong() -> None:
    reports = labelled_reports(4)
    answers: dict[str, object] = {report.text: dict(report.verdict) for report in reports[:3]}
    answers[reports[0].text] = "no JSON"
    assert share_right(answers, reports) == 0.5


def test_every_benchmark_can_be_named() -> None:
    assert {"whole_path", "submit_rate", "import_time", "chaos"} <= set(dispatch.names())
    for name in dispatch.names():
        module = importlib.import_module(f"benchmarks.{name}")
        package = hasattr(module, "__path__")  # it runs by its own __main__
        assert importlib.util.find_spec(f"benchmarks.{name}.__main__") if package else module.main, name


def test_import_check_finds_what_must_not_be_loaded() -> None:
    assert import_time.forbidden_modules(sys.executable, "import json") == []
    assert import_time.forbidden_modules(sys.executable, "import numpy") == ["numpy"]


def test_the_client_loads_nothing_forbidden() -> None:
    assert import_time.forbidden_modules(sys.executable, import_time.CLIENT) == []


def test_memory_is_read_on_the_way() -> None:
    meter = submit_rate.Meter(20)
    assert len({job["prompt"] for job in meter}) == 20
    assert list(meter.memory) == ["2", "10", "20"]
    now = submit_rate.resident_bytes()
    assert submit_rate.resident_bytes("VmHWM") >= now > 1_000_000


def test_both_designs_submit_what_they_say(settings: Settings) -> None:
    ours = submit_rate.submit_ours(settings.url, 30)
    naive = submit_rate.submit_naive(settings.url, 5)
    assert (ours.jobs, naive.jobs) == (30, 5)
    with make_naive_app(settings.url) as app, app.connection_for_read() as connection:
        assert connection.default_channel.client.llen("celery") == 6
    with Client(settings) as client:
        handle = client.submit_many([{"task": "defect_detect", "prompt": "one"}])
        assert handle.submitted == 1


def test_answers_are_compared_as_documents() -> None:
    assert whole_path.differing({"a": '{"x": 1}', "b": "no"}, {"a": '{"x":1}', "b": "no"}) == 0
    assert whole_path.differing({"a": '{"x": 2}'}, {"a": '{"x":1}', "b": "{}"}) == 2


def test_the_table_of_the_whole_path_holds_every_design() -> None:
    reports = labelled_reports(2)
    right = {report.text: json.dumps(dict(report.verdict)) for report in reports}
    found = {
        name: [whole_path.Run(name, 2, seconds, 0, 1.0, right)]
        for name, seconds in {"batchyard, 4 slots": 1.0, "naive, solo": 4.0, "naive, threads": 2.0}.items()
    }
    line = whole_path.body_of(found, reports).splitlines()[2]
    assert line.split()[3:] == ["2.0", "4.00", "2.00", "1.0", "0", "100.0", "%", "0", "0"]


def tokens(*chosen: tuple[str, str, float]) -> list[dict[str, object]]:
    """Token log-probabilities: the chosen token, the second best, and the margin between them."""
    return [
        {"token": best, "top": [{"token": best, "logprob": -0.1}, {"token": second, "logprob": -0.1 - gap}]}
        for best, second, gap in chosen
    ]


def test_answers_part_at_the_first_token_that_differs() -> None:
    single = tokens(("{", "[", 9.0), ("pass", "fail", 0.25), ("}", "]", 9.0))
    agreed, margin = parting(single, "{fail}")
    assert agreed == "{"
    assert margin == pytest.approx(0.25)


def test_what_a_schema_forbids_does_not_count_where_answers_part() -> None:
    scores = {'","': -0.1, "none": -18.0, '"}': -18.04, '"': -20.0}
    top = [{"token": token, "logprob": score} for token, score in scores.items()]
    agreed, margin = parting([{"token": "none", "top": top}], '"}')
    assert agreed == "" and margin == pytest.approx(0.04)


def test_a_token_that_the_single_engine_did_not_think_of_has_no_margin() -> None:
    assert parting(tokens(("{", "[", 9.0)), "<") == ("", None)


def test_an_answer_that_only_goes_on_parts_at_its_end() -> None:
    assert parting(tokens(("{", "[", 9.0)), "{}") == ("{", None)


def test_the_table_of_differences_shows_each() -> None:
    difference = batched_equals_single.Difference("report", "single", "batched", "s", 0.003)
    body = batched_equals_single.body_of({16: [difference], 32: []}, 200)
    assert "0.0030" in body and "one by one: single" in body


def test_a_difference_of_unknown_margin_is_not_explained_by_rounding() -> None:
    near, far, unknown = (
        batched_equals_single.Difference("report", "single", "batched", "s", margin)
        for margin in (0.1, 0.2, None)
    )
    assert batched_equals_single.unexplained([near, far, unknown], 0.1) == [far, unknown]
    rows = batched_equals_single.body_of({16: [near, unknown]}, 200).splitlines()
    assert rows[2].split() == ["16", "slots", "200", "2", "0.1000", "1"]
