import json

import pytest

from router.cli import main


@pytest.fixture(scope="module")
def files(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("rows")
    data = folder / "data.jsonl"
    data.write_text("".join(json.dumps({"text": row.text, "task": row.task}) + "\n" for row in rows))
    return folder, data


def test_train_then_evaluate(files, capsys):
    folder, data = files
    assert main(["train", str(data), "--out", str(folder / "made"), "--test", str(data)]) == 0
    shown = capsys.readouterr().out
    assert "on left-out wordings" in shown and "held out" in shown and "macro-F1" in shown
    metadata = json.loads((folder / "made/classifier.json").read_text())
    assert metadata["training"]["rows"] == 120
    assert metadata["training"]["held_out"]["accuracy"] == 1.0
    assert main(["evaluate", str(data), "--artefact", str(folder / "made"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == 1.0


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "{bad}"],
        ["train", "{data}", "--test", "{bad}"],
        ["train", "{folder}/none.jsonl"],
        ["evaluate", "{data}", "--artefact", "{folder}/none"],
        ["explain", "text", "--task", "nope"],
        ["explain", "text", "--metadata", "["],
        ["explain", " "],
    ],
)
def test_errors_are_one_line_and_status_2(files, capsys, arguments):
    folder, data = files
    bad = folder / "bad.jsonl"
    bad.write_text('{"text": "a"}\n')
    words = [word.format(bad=bad, data=data, folder=folder) for word in arguments]
    assert main(words) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: [") and shown.count("\n") == 1 and " — " in shown


@pytest.mark.parametrize("share", ["2", "x", "nan"])
def test_refuse_is_a_share(files, capsys, share):
    with pytest.raises(SystemExit):
        main(["train", str(files[1]), "--refuse", share])
    assert "--refuse" in capsys.readouterr().err


def test_explain_shows_probabilities_evidence_rule_and_route(capsys):
    assert main(["explain", "U80 on board 3 has a solder bridge at pad 2"]) == 0
    shown = capsys.readouterr().out
    assert "rule        none matches" in shown
    assert "out of scope" in shown
    assert "for defect_detect:" in shown
    assert "model       defect_detect" in shown


def test_explain_shows_the_rule(capsys):
    assert main(["explain", "whatever", "--metadata", '{"source": "aoi"}']) == 0
    shown = capsys.readouterr().out
    assert "rule        inspection-line" in shown
    assert "task        defect_detect, by rule:inspection-line" in shown


def test_schema_on_stdout(capsys):
    assert main(["schema", "--out", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Batchyard routing policy"


def test_importing_the_command_line_loads_neither_celery_nor_scikit_learn():
    import subprocess
    import sys

    code = "import sys, router.cli; print([m for m in ('celery', 'sklearn', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
