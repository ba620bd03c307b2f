import io
import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import redis
import yaml

from batchyard import names, store
from batchyard.catalogue import catalogue_schema
from batchyard.cli import main
from batchyard.cli_rows import JobRows, batch_of, longest_line, parse_row, read_lines
from batchyard.errors import InvalidJob
from batchyard.states import State

ROOT = Path(__file__).resolve().parent.parent
MOST = 1 << 20


class Yard:
    """The command line against a real Redis, and a worker's part where a test needs results."""

    def __init__(self, url: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.url = url
        self._capsys = capsys

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        """(exit code, standard output, standard error) of one command."""
        code = main([str(argument) for argument in arguments])
        out, err = self._capsys.readouterr()
        return code, out, err

    def finish(self, batch: str, *job_ids: str) -> None:
        """Store a result for each job, as a worker does."""
        documents = [
            (
                job_id,
                batch,
                State.SUCCESS,
                store.state_document(job_id, State.SUCCESS, {"text": f"to {job_id}"}),
            )
            for job_id in job_ids
        ]
        with redis.Redis.from_url(self.url) as client:
            assert store.run(client, store.finish(documents, 60)) == len(job_ids)


@pytest.fixture
def yard(redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Yard:
    monkeypatch.setenv("BATCHYARD_REDIS_URL", redis_url)
    return Yard(redis_url, capsys)


def jsonl(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_submit_prints_the_batch_and_a_second_time_repeats_nothing(yard: Yard, tmp_path: Path) -> None:
    file = jsonl(tmp_path / "my jobs.jsonl", {"prompt": "a"}, {"prompt": "b", "id": "own"})
    code, out, err = yard("submit", file)
    assert (code, err) == (0, "2 submitted, 0 refused\n")
    batch = out.strip()
    assert batch.startswith("my-jobs-")
    code, out, err = yard("submit", file)
    assert (code, out.strip(), err) == (0, batch, "0 submitted, 2 known already, 0 refused\n")
    assert (
        yard("status", f"{batch}-1", "own", "nobody")[1]
        == f"{batch}-1\tQUEUED\nown\tQUEUED\nnobody\tUNKNOWN\n"
    )


def test_bad_rows_are_named_by_line_and_the_others_go_on(yard: Yard, tmp_path: Path) -> None:
    file = tmp_path / "mixed.jsonl"
    file.write_bytes(
        b'{"prompt": "good"}\n\nnot json\n[1]\n{"prompt": ""}\n{"prompt": "x", "colour": 1}\n\xff\xfe\n'
        b'{"prompt": "good", "sampling": {"temperature": NaN}}\n{"prompt": "also good"}'
    )
    code, out, err = yard("submit", file, "--batch", "b")
    assert (code, out) == (1, "b\n")
    lines = err.splitlines()
    assert [line.partition(":")[0] for line in lines[:-1]] == [f"line {n}" for n in (3, 4, 5, 6, 7, 8)]
    assert "[invalid_json]" in lines[0] and "prompt is empty" in lines[2] and "colour" in lines[3]
    assert "[invalid_utf8]" in lines[4] and "sampling.temperature" in lines[5]
    assert lines[-1] == "2 submitted, 6 refused"
    assert yard("status", "b-1", "b-9")[1] == "b-1\tQUEUED\nb-9\tQUEUED\n"


def test_refused_rows_go_to_a_file(yard: Yard, tmp_path: Path) -> None:
    yard("submit", jsonl(tmp_path / "a.jsonl", {"prompt": "a", "id": "one"}))
    second = jsonl(tmp_path / "b.jsonl", {"prompt": "new"}, {"prompt": "b", "id": "one"})
    code, _out, err = yard("submit", second, "--errors", tmp_path / "errors.jsonl")
    assert (code, err) == (1, "1 submitted, 1 refused\n")
    (row,) = [json.loads(line) for line in (tmp_path / "errors.jsonl").read_text().splitlines()]
    assert (row["line"], row["error"]["code"]) == (2, "id_conflict")


def test_one_id_with_two_bodies_in_one_file_is_a_conflict(yard: Yard, tmp_path: Path) -> None:
    file = jsonl(tmp_path / "f.jsonl", {"prompt": "a", "id": "one"}, {"prompt": "b", "id": "one"})
    code, _out, err = yard("submit", file, "--batch", "b")
    assert code == 1 and "[id_conflict]" in err


def test_the_same_job_twice_in_one_file_counts_once(yard: Yard, tmp_path: Path) -> None:
    file = jsonl(tmp_path / "f.jsonl", {"prompt": "a", "id": "one"}, {"prompt": "a", "id": "one"})
    assert yard("submit", file, "--batch", "b")[0] == 0
    assert yard("status", "--batch", "b")[1].startswith("b\t1 jobs, 1 open")


def test_defaults_fill_what_rows_leave_out() -> None:
    lines = [b'{"prompt": "a"}', b'{"prompt": "b", "task": "ner", "priority": 9, "id": "own"}']
    rows = list(JobRows(lines, "b", {"task": "faq", "priority": "interactive"}, lambda *_: None, MOST))
    assert rows == [
        {"prompt": "a", "task": "faq", "priority": "interactive", "id": "b-1"},
        {"prompt": "b", "task": "ner", "priority": 9, "id": "own"},
    ]


def test_a_priority_is_a_name_or_a_number(yard: Yard, tmp_path: Path) -> None:
    file = jsonl(tmp_path / "f.jsonl", {"prompt": "a"})
    assert yard("submit", file, "--batch", "a", "--priority", "0")[0] == 0
    assert yard("submit", file, "--batch", "b", "--priority", "batch")[0] == 0
    code, _out, err = yard("submit", file, "--batch", "c", "--priority", "urgent")
    assert code == 1 and "line 1: [invalid_job] priority" in err


def test_standard_input_makes_a_new_batch(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for _time in range(2):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"prompt": "a"}\n')))
        code, _out, err = yard("submit", "-")
        assert (code, err) == (0, "1 submitted, 0 refused\n")


def test_results_continue_a_file_and_write_nothing_twice(yard: Yard, tmp_path: Path) -> None:
    file = jsonl(tmp_path / "f.jsonl", *({"prompt": str(n)} for n in range(3)))
    out_file = tmp_path / "out.jsonl"
    yard("submit", file, "--batch", "b")
    yard.finish("b", "b-1", "b-3")
    code, _out, err = yard("results", "--batch", "b", "-o", out_file)
    assert (code, err) == (0, "2 results written\n1 jobs are open; run again, or with --follow\n")
    with out_file.open("a") as half:
        half.write('{"job_id": "b-2", "sta')  # an interrupted run leaves half a line
    yard.finish("b", "b-2")
    assert yard("results", "--batch", "b", "-o", out_file, "--follow")[2] == "1 results written\n"
    rows = [json.loads(line) for line in out_file.read_text().splitlines()]
    assert [row["job_id"] for row in rows] == ["b-1", "b-3", "b-2"]
    assert rows[0]["text"] == "to b-1" and rows[0]["state"] == "SUCCESS"
    assert yard("results", "--batch", "b", "-o", out_file)[2] == "0 results written\n"


def test_results_never_overwrite_a_foreign_file(yard: Yard, tmp_path: Path) -> None:
    file = jsonl(tmp_path / "f.jsonl", {"prompt": "a"})
    before = file.read_bytes()
    yard("submit", file, "--batch", "b")
    code, _out, err = yard("results", "--batch", "b", "-o", file)
    assert code == 2 and "line 1 is not a result" in err
    deep = tmp_path / "deep.jsonl"
    deep.write_bytes(b"[" * 100_000 + b"\n")
    code, _out, err = yard("results", "--batch", "b", "-o", deep)
    assert code == 2 and "line 1 is not a result" in err
    assert file.read_bytes() == before


def test_following_gives_up_after_its_timeout(yard: Yard, tmp_path: Path) -> None:
    yard("submit", jsonl(tmp_path / "f.jsonl", {"prompt": "a"}), "--batch", "b")
    code, _out, err = yard("results", "--batch", "b", "--follow", "--timeout", "0.01")
    assert code == 2 and "[result_timeout]" in err


def test_result_of_one_job(yard: Yard, tmp_path: Path) -> None:
    yard("submit", jsonl(tmp_path / "f.jsonl", {"prompt": "a"}, {"prompt": "b"}), "--batch", "b")
    yard.finish("b", "b-1")
    code, out, _err = yard("result", "b-1")
    assert code == 0 and json.loads(out)["text"] == "to b-1"
    assert yard("result", "b-2", "--timeout", "0")[0] == 2
    yard("cancel", "b-2")
    code, out, _err = yard("result", "b-2")
    assert code == 1 and json.loads(out)["error"]["code"] == "cancelled"


def test_cancel_counts_what_had_no_result(yard: Yard, tmp_path: Path) -> None:
    yard("submit", jsonl(tmp_path / "f.jsonl", *({"prompt": str(n)} for n in range(4))), "--batch", "b")
    yard.finish("b", "b-1")
    assert yard("cancel", "b-1", "b-2")[1] == "1 cancelled\n"
    assert yard("cancel", "--batch", "b")[1] == "2 cancelled\n"
    assert yard("status", "--batch", "b")[1] == "b\t4 jobs, 0 open, 1 succeeded, 0 failed, 3 cancelled\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["status", "--batch", "nowhere"], "[unknown_batch]"),
        (["results", "--batch", "nowhere"], "[unknown_batch]"),
        (["cancel", "--batch", "nowhere"], "[unknown_batch]"),
        (["cancel"], "nothing to cancel"),
        (["result", "nobody"], "[unknown_job]"),
        (["submit", "/no/such/file.jsonl"], "cannot read it"),
        (["submit", "-", "--errors", "/no/such/folder/e.jsonl"], "cannot write it"),
        (["results", "--batch", "b", "-o", "/no/such/folder/o.jsonl"], "cannot write it"),
    ],
)
def test_errors_are_one_line(yard: Yard, arguments: list[str], says: str) -> None:
    code, out, err = yard(*arguments)
    assert code == 2 and out == ""
    assert err.startswith("batchyard: ") and says in err.splitlines()[0] and "Traceback" not in err


def test_redis_away_is_one_line_and_submits_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("BATCHYARD_REDIS_URL", "redis://127.0.0.1:1/0")
    assert main(["submit", str(jsonl(tmp_path / "f.jsonl", {"prompt": "a"}))]) == 2
    err = capsys.readouterr().err
    assert err.startswith("batchyard: [yard_unavailable]") and err.count("\n") == 1


def test_status_without_arguments_shows_the_queues(yard: Yard, tmp_path: Path) -> None:
    yard("submit", jsonl(tmp_path / "f.jsonl", {"prompt": "a"}), "--batch", "b")
    with redis.Redis.from_url(yard.url) as client:
        store.run(client, store.put_catalogue('{"model_list": [{"model_name": "chat"}], "task_list": []}'))
    assert yard("status")[1] == "route\t1 waiting\nmodel.chat\t0 waiting\n"


def test_rows_keep_their_line_numbers_across_bad_and_blank_lines() -> None:
    reported: list[int] = []
    lines = [b"\n", b'{"prompt": "a"}\n', b"bad\n", b"bad\n", b'{"prompt": "b"}\n', b'{"prompt": "c"}\n']
    rows = JobRows(lines, "b", {}, lambda number, _error: reported.append(number), MOST)
    assert [row["id"] for row in rows] == ["b-2", "b-5", "b-6"]
    assert [rows.line_of(index) for index in range(3)] == [2, 5, 6]
    assert reported == [3, 4]


@pytest.mark.parametrize(
    "line", [b"{", b"[1]", b'"text"', b"7", b"\x80", b"[" * 100_000, b"9" * 5000, b'{"a": 1, "a": 1}']
)
def test_a_line_that_is_no_object_is_an_invalid_job(line: bytes) -> None:
    with pytest.raises(InvalidJob):
        parse_row(line, MOST)


def test_blank_lines_and_a_byte_order_mark_are_no_rows() -> None:
    assert parse_row(b" \t\r\n", MOST) is None
    assert parse_row(b'\xef\xbb\xbf{"prompt": "a"}', MOST) == {"prompt": "a"}


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_a_line_beyond_the_limit_is_refused_unread_and_the_next_ones_go_on(end: bytes) -> None:
    most = 40
    fits = b'{"prompt": "' + b"x" * (most - 14) + b'"}'
    assert len(fits) == most
    long = b"[" * 1_000_000
    reported: list[tuple[int, str]] = []
    text = io.BytesIO(long + b"\n" + fits + b"\n" + fits + b" \n" + fits + end)
    rows = JobRows(
        read_lines(text, most), "b", {}, lambda *error: reported.append((error[0], error[1].code)), most
    )
    assert [row["id"] for row in rows] == ["b-2", "b-4"]
    assert reported == [(1, "line_too_long"), (3, "line_too_long")]


def test_no_more_of_a_line_is_held_than_its_limit() -> None:
    assert [len(line) for line in read_lines(io.BytesIO(b"x" * 5_000_000 + b"\nshort"), 1000)] == [1001, 5]


def test_a_job_at_every_limit_fits_a_line() -> None:
    prompt = json.dumps("\x01" * 1000)
    assert len(prompt) <= longest_line(1000)


def test_of_two_values_under_one_key_none_is_taken() -> None:
    with pytest.raises(InvalidJob, match="the key 'prompt' is there twice"):
        parse_row(b'{"prompt": "a", "metadata": {}, "prompt": "b"}', MOST)


def test_the_batch_of_a_file_follows_its_content(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "作业.jsonl", {"prompt": "a"})
    first = batch_of(file)
    assert first == batch_of(file)
    jsonl(file, {"prompt": "b"})
    assert batch_of(file) != first


@pytest.mark.parametrize("what", ["models", "hardware"])
def test_the_committed_schema_is_the_generated_one(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", what]) == 0
    committed = (ROOT / "configs" / f"{what}.schema.json").read_text(encoding="utf-8")
    assert capsys.readouterr().out == committed, (
        f"run: python -m batchyard schema {what} > configs/{what}.schema.json"
    )


def test_the_shipped_catalogue_fits_its_schema_and_a_wrong_one_does_not() -> None:
    schema = catalogue_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    catalogue = yaml.safe_load((ROOT / "configs" / "models.yaml").read_text(encoding="utf-8"))
    jsonschema.validate(catalogue, schema)
    catalogue["model_list"][0]["n_slot"] = 3
    with pytest.raises(jsonschema.ValidationError, match="n_slot"):
        jsonschema.validate(catalogue, schema)


def test_the_job_schema_accepts_the_shipped_jobs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "job"]) == 0
    validator = jsonschema.Draft202012Validator(json.loads(capsys.readouterr().out))
    for line in (ROOT / "examples" / "jobs.jsonl").read_text(encoding="utf-8").splitlines():
        validator.validate(json.loads(line))


def test_help_needs_no_heavy_import() -> None:
    script = (
        "import sys, batchyard.cli\n"
        "batchyard.cli.build_parser().format_help()\n"
        "print(sorted({'celery', 'kombu', 'redis', 'pydantic', 'yaml'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_the_module_is_the_command(redis_url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "batchyard", "result", "nobody"],
        cwd=ROOT,
        env=os.environ | {"BATCHYARD_REDIS_URL": redis_url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and "[unknown_job]" in done.stderr


def test_submit_waits_for_room_or_says_that_there_is_none(
    yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCHYARD_TENANT", "acme")
    file = jsonl(tmp_path / "jobs.jsonl", *({"id": f"J{n}", "prompt": "x"} for n in range(3)))
    with redis.Redis.from_url(yard.url) as raw:
        raw.hset(names.LIMITS_KEY, "tenant:acme", 2)
        raw.hset(names.RATES_KEY, "chat", "1000")
        code, out, err = yard("submit", file, "--batch", "B", "--wait", "0")
        assert (code, out) == (2, "")
        assert "[too_many_jobs] tenant: the tenant acme has" in err
        assert "2 jobs were accepted before; they stay" in err
        process = subprocess.Popen(
            [sys.executable, "-m", "batchyard", "submit", str(file), "--batch", "B"],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stderr is not None
        assert process.stderr.readline().startswith("batchyard: waiting for room: [too_many_jobs] tenant: ")
        yard.finish("acme~B", "acme~J0")
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out.strip()) == (0, "B")
    assert err == "1 submitted, 2 known already, 0 refused\n"
    assert yard("status", "J0", "J2")[1] == "J0\tSUCCESS\nJ2\tQUEUED\n"
