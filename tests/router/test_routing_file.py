"""The shipped policy, its schema, and the shipped classifier, held against each other."""

import json
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
import yaml

from batchyard.catalogue import load_catalogue
from batchyard.settings import Settings
from router import artefact
from router.policy import load_policy, policy_schema
from router.report import evaluate
from router.rows import read_rows
from router.service import load

ROOT = Path(__file__).resolve().parent.parent.parent
POLICY = ROOT / "configs/routing.yaml"
SCHEMA = ROOT / "configs/routing.schema.json"


def test_the_schema_is_the_generated_one():
    assert json.loads(SCHEMA.read_text()) == policy_schema(), "run: python -m router schema"


def test_the_file_fits_the_schema():
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(yaml.safe_load(POLICY.read_text()), schema)


def keys_of(schema: dict, root: dict) -> Iterator[str]:
    for name, part in schema.get("properties", {}).items():
        yield name
        yield from keys_of(part, root)
    for part in schema.get("anyOf", []):
        yield from keys_of(part, root)
    if "$ref" in schema:
        yield from keys_of(root["$defs"][schema["$ref"].rsplit("/", 1)[1]], root)
    if isinstance(schema.get("items"), dict):
        yield from keys_of(schema["items"], root)


def keys_in(data: object) -> set[str]:
    if isinstance(data, dict):
        return set(data).union(*(keys_in(value) for value in data.values()))
    return set().union(*map(keys_in, data)) if isinstance(data, list) else set()


def test_the_file_shows_every_key():
    schema = policy_schema()
    wanted = set(keys_of(schema, schema))
    assert {"version", "min_chars", "has_images", "artefact", "tenant"} <= wanted
    assert wanted <= keys_in(yaml.safe_load(POLICY.read_text()))


def test_policy_catalogue_and_classifier_fit_each_other():
    loaded = load(Settings(models=ROOT / "configs/models.yaml", routing=POLICY))
    assert loaded.classifier is not None
    assert set(loaded.yard.models) == set(load_catalogue(ROOT / "configs/models.yaml").task_names)
    assert loaded.yard.threshold == loaded.classifier.threshold


@pytest.mark.parametrize("text", ["Hello!", "你好", "  hi ", "Good morning.", "早上好!"])
def test_bare_greetings_need_no_classifier(text):
    rule = next(rule for rule in load_policy(POLICY).rules if rule.name == "bare-greeting")
    assert rule.when.pattern is not None and rule.when.pattern.search(text)


@pytest.mark.parametrize("text", ["Hello, is R4 open?", "你好,怎么取消任务", "this"])
def test_a_greeting_with_a_question_is_none(text):
    rule = next(rule for rule in load_policy(POLICY).rules if rule.name == "bare-greeting")
    assert rule.when.pattern is not None and not rule.when.pattern.search(text)


def test_the_shipped_classifier_on_wordings_it_has_not_seen():
    folder = ROOT / "models/router"
    classifier = artefact.load(folder)
    rows = read_rows(ROOT / "training/data/routing_test.jsonl")
    report = evaluate(classifier, artefact.load_metadata(folder).baselines, rows)
    assert report.unknown_tasks == ()
    assert report.accuracy > 0.88
    assert report.accuracy > 2.5 * max(report.majority_accuracy, report.length_accuracy)
    assert report.auroc is not None and report.auroc > 0.9
    assert report.refused is not None and report.refused > 0.75
    assert sum(path.stat().st_size for path in folder.iterdir()) < 3_000_000
