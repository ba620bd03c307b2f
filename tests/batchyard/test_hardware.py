"""Hardware profiles: the shipped file holds to its schema and explains its keys, faults name theirs."""

from pathlib import Path

import jsonschema
import pytest
import yaml

from batchyard.errors import InvalidConfig
from batchyard.hardware import Match, Profile, hardware_schema, load_hardware
from batchyard.model_settings import ModelSettings

FILE = Path(__file__).resolve().parents[2] / "configs/hardware.yaml"
ONE = "profile_list: [{profile_name: a%s}]\n"


def test_the_shipped_file_fits_its_schema_and_a_wrong_one_does_not() -> None:
    schema = hardware_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    data = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    jsonschema.validate(data, schema)
    data["profile_list"][0]["settings"]["n_btach"] = 3
    with pytest.raises(jsonschema.ValidationError, match="n_btach"):
        jsonschema.validate(data, schema)


def test_the_shipped_file_explains_every_key() -> None:
    text = FILE.read_text(encoding="utf-8")
    for name in [*Profile.model_fields, *Match.model_fields, *ModelSettings.model_fields]:
        assert f"{name}:" in text, f"configs/hardware.yaml does not show {name}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (ONE % ", settings: {n_batch: 0}", "profile_list.0.settings.n_batch"),
        (ONE % ", settings: {n_slots: 4}", "profile_list.0.settings.n_slots"),
        (ONE % ", match: {device: gpu, min_compute_capability: '6'}", "min_compute_capability"),
        (ONE % ", match: {device: tpu}", "'tpu'"),
        (ONE % ", match: {device: cpu, gpu_name: P40}", "no condition on a GPU"),
        (
            ONE % ", match: {device: gpu, min_compute_capability: '7.0', max_compute_capability: '6.1'}",
            "7.0 is above",
        ),
        (ONE % "}, {profile_name: a", "'a' is there twice"),
        ("profile_list: []", "profile_list"),
    ],
)
def test_a_fault_names_its_key(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "hardware.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidConfig) as caught:
        load_hardware(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_profile_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(InvalidConfig, match="no profile 'p41'; there are p40, pascal") as caught:
        load_hardware(FILE).profile("p41")
    assert caught.value.code == "unknown_profile"
