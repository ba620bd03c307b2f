import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from batchyard.errors import InvalidConfig, InvalidJob
from batchyard.result import ErrorInfo, Result, Timings
from batchyard.route import Route
from batchyard.states import State
from local.demo import Outcome, read_rows, show
from local.summary import Done


def a_done(task: str, model: str, job_id: str = "j", **fields: Any) -> Done:
    route = Route(task=task, model=model, by="classifier", reason="r", policy="p")
    timings = Timings(total_s=12.345, mean_batch=15.6)
    result = Result(**{"job_id": job_id, "state": State.SUCCESS, "route": route, "timings": timings} | fields)
    return Done({"metadata": {"expected_task": task}}, result, 123.4)


def printed(outcome: Outcome) -> str:
    out = io.StringIO()
    show(outcome, Console(file=out, width=80))
    return out.getvalue()


def test_the_table_fits_80_columns_and_cuts_nothing() -> None:
    failed = ErrorInfo(code="prompt_too_long", message="500 tokens, 256 fit")
    done = (
        *(a_done("defect_detect", model) for model in ["defect_detect"] * 150 + ["chat"]),
        a_done("text_cls", "chat", "lost", state=State.FAILURE, error=failed),
    )
    text = printed(Outcome(done, (), (), 123.4))
    assert "…" not in text and max(map(len, text.splitlines())) <= 80
    assert "defect_detect +1" in text and "100.0%" in text and " 12.3 " in text
    assert "1 failed with prompt_too_long, such as lost: 500 tokens" in text


def test_what_was_refused_and_what_is_open_is_said() -> None:
    outcome = Outcome((), ((2, InvalidJob("the prompt is empty", field="prompt")),), ("demo.7",), 1.0)
    text = printed(outcome)
    assert "job 3 of the file was refused" in text and "the prompt is empty" in text
    assert "1 jobs have no result, such as demo.7" in text
    assert not outcome.complete


def test_rows_without_an_id_get_their_line_number(tmp_path: Path) -> None:
    file = tmp_path / "jobs.jsonl"
    file.write_text('{"prompt": "a"}\n\n{"prompt": "b", "id": "own"}\n{"prompt": "c"}\n')
    assert [row["id"] for row in read_rows(file)] == ["1", "own", "4"]


@pytest.mark.parametrize(
    ("content", "says"), [(None, "cannot read it"), ("", "has no jobs"), ('{"prompt": "a"}\n{\n', "line 2")]
)
def test_a_file_without_jobs_is_refused(tmp_path: Path, content: str | None, says: str) -> None:
    file = tmp_path / "jobs.jsonl"
    if content is not None:
        file.write_text(content)
    with pytest.raises(InvalidConfig, match=says):
        read_rows(file)
