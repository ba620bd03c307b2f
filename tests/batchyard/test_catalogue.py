"""The catalogue: the shipped file holds, faults name their key."""

from pathlib import Path

import pytest

from batchyard.catalogue import ModelEntry, TaskEntry, load_catalogue
from batchyard.errors import InvalidConfig

ROOT = Path(__file__).resolve().parents[2]

MODEL = "model_list: [{model_name: m, model_path: m.gguf%s}]\n"
TASKS = "task_list: [{task: t}]\n"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "models.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_shipped_catalogue_explains_every_key_and_its_models_are_there() -> None:
    path = ROOT / "configs/models.yaml"
    catalogue = load_catalogue(path)
    for model in catalogue.model_list:
        assert (ROOT / model.model_path).is_file()
    text = path.read_text(encoding="utf-8")
    for name in [*ModelEntry.model_fields, *TaskEntry.model_fields]:
        assert f"{name}:" in text, f"configs/models.yaml does not show {name}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (MODEL % ", n_ctx: -1" + TASKS, "model_list.0.n_ctx"),
        (MODEL % ", n_cxt: 512" + TASKS, "model_list.0.n_cxt"),
        (MODEL % ", tasks: [u]" + TASKS, "'u'"),
        ("model_list: []\n" + TASKS, "model_list"),
        (MODEL % "" + "task_list: [{task: t}, {task: t}]\n", "'t' is there twice"),
        (MODEL % ", chat_format: os.environ/NOT_THERE" + TASKS, "NOT_THERE"),
        ("a: b: c", "no YAML"),
    ],
)
def test_a_fault_names_its_key(tmp_path: Path, text: str, words: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InvalidConfig) as caught:
        load_catalogue(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_secret_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPLATE", "{{ messages }}")
    path = write(tmp_path, MODEL % ", chat_format: os.environ/TEMPLATE" + TASKS)
    assert load_catalogue(path).model("m").chat_format == "{{ messages }}"


def test_a_missing_file_and_a_missing_model_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="No such file"):
        load_catalogue(tmp_path / "none.yaml")
    with pytest.raises(InvalidConfig, match="no model 'x'; there are m"):
        load_catalogue(write(tmp_path, MODEL % "" + TASKS)).model("x")
