"""The catalogue: the shipped file holds, faults name their key."""

from pathlib import Path

import jsonschema
import pytest
import yaml

from batchyard.catalogue import LlamaEntry, TaskEntry, catalogue_schema, load_catalogue, parse_catalogue
from batchyard.entry import OnnxEntry, OpenaiEntry, TenantEntry
from batchyard.errors import InvalidConfig

ROOT = Path(__file__).resolve().parents[2]

MODEL = "model_list: [{model_name: m, model_path: m.gguf%s}]\n"
ENTRY = "model_list: [{model_name: m, %s}]\ntask_list: [{task: t}]\n"
TASKS = "task_list: [{task: t}]\n"
TENANTS = "tenant_list:\n  - {tenant: %s, max_open: 50}\n"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "models.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_shipped_catalogue_explains_every_key_and_its_models_are_there() -> None:
    path = ROOT / "configs/models.yaml"
    catalogue = load_catalogue(path)
    for model in catalogue.model_list:
        assert isinstance(model, LlamaEntry)
        assert (ROOT / model.model_path).is_file()
    text = path.read_text(encoding="utf-8")
    for name in [*LlamaEntry.model_fields, *TaskEntry.model_fields, *TenantEntry.model_fields, "tenant_list"]:
        assert f"{name}:" in text, f"configs/models.yaml does not show {name}"


def test_the_entries_to_be_uncommented_hold_and_show_every_key_of_theirs() -> None:
    text = (ROOT / "configs/models.yaml").read_text(encoding="utf-8")
    lines = [line.removeprefix("#") for line in text.splitlines() if line.startswith("#  ")]
    tasks = "task_list: [{task: contract}, {task: text_cls}]\n"
    data = yaml.safe_load("model_list:\n" + "\n".join(lines) + "\n" + tasks)
    catalogue = parse_catalogue(data, "models.yaml")
    jsonschema.validate(data, catalogue_schema())
    for shown, model in zip(data["model_list"], catalogue.model_list, strict=True):
        assert set(shown) == set(type(model).model_fields)
    assert {type(model) for model in catalogue.model_list} == {OpenaiEntry, OnnxEntry}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (MODEL % ", n_ctx: -1" + TASKS, "model_list.0.n_ctx"),
        (MODEL % ", n_cxt: 512" + TASKS, "model_list.0.n_cxt"),
        (MODEL % ", memory_budget: 1.5" + TASKS, "model_list.0.memory_budget"),
        (MODEL % ", tensor_split: [-1]" + TASKS, "model_list.0.tensor_split"),
        (MODEL % ", split_mode: tensor" + TASKS, "model_list.0.split_mode"),
        (MODEL % ", tasks: [u]" + TASKS, "'u'"),
        (MODEL % ", pooling_type: mean" + TASKS, "goes with embedding: true"),
        (MODEL % ", embedding: true, pooling_type: max" + TASKS, "pooling_type"),
        (MODEL % ", choices_temperature: {u: 2}" + TASKS, "'u'"),
        (MODEL % ", choices_temperature: {t: 0}" + TASKS, "choices_temperature.t"),
        ("model_list: []\n" + TASKS, "model_list"),
        (MODEL % "" + "task_list: [{task: t}, {task: t}]\n", "'t' is there twice"),
        (MODEL % ", chat_format: os.environ/NOT_THERE" + TASKS, "NOT_THERE"),
        (ENTRY % "engine: vllm", "engine must be llama_cpp, openai or onnx"),
        (ENTRY % "engine: openai, model: x", "model_list.0.api_base"),
        (ENTRY % "engine: openai, model: x, api_base: h/v1", "http or https URL"),
        (ENTRY % "engine: openai, model: x, api_base: 'http://h', model_path: x", "model_list.0.model_path"),
        (ENTRY % "engine: onnx", "model_list.0.model_path"),
        (ENTRY % "engine: onnx, model_path: x, labels: [a, a]", "labels must differ"),
        (MODEL % ", max_queued: 0" + TASKS, "model_list.0.max_queued"),
        (MODEL % "" + TASKS + "tenant_list: [{tenant: a~b, max_open: 1}]\n", "tenant_list.0.tenant"),
        (MODEL % "" + TASKS + "tenant_list: [{tenant: a, max_open: -1}]\n", "tenant_list.0.max_open"),
        (
            MODEL % "" + TASKS + TENANTS % "acme" + "  - {tenant: acme, max_open: 2}\n",
            "'acme' is there twice",
        ),
        ("a: b: c", "no YAML"),
        (MODEL % ", n_slots: yes" + TASKS, "model_list.0.n_slots"),
        (MODEL % ", n_ctx: 99999999999" + TASKS, "model_list.0.n_ctx"),
        (MODEL % ", image_cache_bytes: true" + TASKS, "model_list.0.image_cache_bytes"),
        (MODEL % ", interactive_slowdown: .inf" + TASKS, "not a finite number"),
        (MODEL % ", n_ctx: 512, n_ctx: 1024" + TASKS, "'n_ctx' is there twice"),
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


def test_a_key_is_a_name_that_only_its_user_looks_up(tmp_path: Path) -> None:
    entry = ENTRY % "engine: openai, model: x, api_base: 'http://h/v1', api_key: %s"
    model = load_catalogue(write(tmp_path, entry % "os.environ/NOT_SET_HERE")).model("m")
    assert isinstance(model, OpenaiEntry)
    assert model.api_key == "os.environ/NOT_SET_HERE"
    with pytest.raises(InvalidConfig, match="a key does not belong in a file") as caught:
        load_catalogue(write(tmp_path, entry % "sk-a-real-one"))
    assert "sk-a-real-one" not in str(caught.value)
    userinfo = "engine: openai, model: x, api_base: 'http://u:secret@h/v1'"
    with pytest.raises(InvalidConfig, match="no user, password") as caught:
        load_catalogue(write(tmp_path, ENTRY % userinfo))
    assert "secret@" not in str(caught.value)


def test_the_value_of_a_key_that_is_not_known_is_not_shown(tmp_path: Path) -> None:
    misspelt = ENTRY % "engine: openai, model: x, api_base: 'http://h/v1', apikey: sk-a-real-one"
    with pytest.raises(InvalidConfig, match=r"model_list\.0\.apikey: Extra inputs") as caught:
        load_catalogue(write(tmp_path, misspelt))
    assert "sk-a-real-one" not in str(caught.value)


@pytest.mark.parametrize("port", ["abc", "70000", "-1"])
def test_an_endpoints_port_is_a_number_that_a_port_can_be(tmp_path: Path, port: str) -> None:
    entry = ENTRY % f"engine: openai, model: x, api_base: 'http://h:{port}/v1'"
    with pytest.raises(InvalidConfig, match=r"api_base: the port behind the host must be a number"):
        load_catalogue(write(tmp_path, entry))


def test_a_fault_in_the_schema_is_that_of_its_own_engine() -> None:
    check = jsonschema.Draft202012Validator(catalogue_schema())
    model = {"model_name": "m", "engine": "openai", "api_base": "http://h", "model": "x", "n_ctx": 9}
    [fault] = check.iter_errors({"model_list": [model], "task_list": [{"task": "t"}]})
    assert "'n_ctx' was unexpected" in fault.message


def test_a_missing_file_and_a_missing_model_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="No such file"):
        load_catalogue(tmp_path / "none.yaml")
    with pytest.raises(InvalidConfig, match="no model 'x'; there are m"):
        load_catalogue(write(tmp_path, MODEL % "" + TASKS)).model("x")


def test_limits_are_those_of_the_entries_and_generous_without(tmp_path: Path) -> None:
    plain = load_catalogue(write(tmp_path, MODEL % "" + TASKS)).limits
    assert plain == {"model:m": 1_000_000, "tenant:*": 2_000_000}
    text = MODEL % ", max_queued: 7" + TASKS + TENANTS % "acme"
    assert load_catalogue(write(tmp_path, text)).limits == plain | {"model:m": 7, "tenant:acme": 50}
    text += "  - {tenant: '*', max_open: 0}\n"
    assert load_catalogue(write(tmp_path, text)).limits == {"model:m": 7, "tenant:acme": 50, "tenant:*": 0}
