import pytest
import yaml

from batchyard.errors import InvalidConfig
from router.policy import Policy, candidates, check_policy, load_policy

BASE = {"version": "1", "default": {"task": "other", "model": "talker"}}


def policy(**fields):
    return Policy.model_validate(BASE | fields)


def rule(**fields):
    return {"name": "r", "when": {"tenant": ["x"]}, "task": "faq"} | fields


def test_minimal_policy_uses_the_shipped_classifier():
    assert policy().classifier is not None
    assert policy().rules == ()


@pytest.mark.parametrize(
    "fields, field, message",
    [
        ({"surprise": 1}, "surprise", "not permitted"),
        ({"rules": [rule(when={})]}, "rules.0.when", "at least one condition"),
        ({"rules": [rule(when={"text": "("})]}, "rules.0.when.text", "is no regular expression"),
        ({"rules": [rule(when={"language": ["fr"]})]}, "rules.0.when.language.0", "'fr'"),
        ({"rules": [rule(when={"min_chars": 9, "max_chars": 8})]}, "rules.0.when", "no job can match"),
        ({"rules": [rule(task=None)]}, "rules.0", "a task, a model or both"),
        ({"rules": [rule(), rule()]}, "", "rule 'r' is there twice"),
        ({"classifier": {"threshold": 2}}, "classifier.threshold", "2"),
        ({"classifier": {"threshold": False}}, "classifier.threshold", "number"),
        ({"rules": [rule(when={"max_chars": True})]}, "rules.0.when.max_chars", "number"),
        ({"rules": [rule(when={"text": "a{99999999999}"})]}, "rules.0.when.text", "is no regular expression"),
        ({"rules": [rule(when={"text": "(" * 2000 + ")" * 2000})]}, "rules.0.when.text", "is no"),
        ({"tasks": {"faq": []}}, "tasks.faq", "at least 1 item"),
        ({"default": None}, "default", "dictionary"),
    ],
)
def test_faults_name_key_value_and_remedy(tmp_path, fields, field, message):
    path = tmp_path / "routing.yaml"
    path.write_text(yaml.safe_dump(BASE | fields))
    with pytest.raises(InvalidConfig) as caught:
        load_policy(path)
    assert message in caught.value.message
    assert caught.value.field == (f"{path}: {field}" if field else str(path))
    assert caught.value.remedy


@pytest.mark.parametrize(
    "fields, field, code",
    [
        ({"tasks": {"nope": ["talker"]}}, "tasks.nope", "unknown_task"),
        ({"tasks": {"faq": ["nope"]}}, "tasks.faq", "unknown_model"),
        ({"default": {"task": "nope", "model": "talker"}}, "default.task", "unknown_task"),
        ({"default": {"task": "other", "model": "nope"}}, "default.model", "unknown_model"),
        ({"rules": [rule(task="nope")]}, "rules.r.task", "unknown_task"),
        ({"rules": [rule(model="nope")]}, "rules.r.model", "unknown_model"),
    ],
)
def test_names_that_the_catalogue_lacks(catalogue, fields, field, code):
    with pytest.raises(InvalidConfig) as caught:
        check_policy(policy(**fields), catalogue, (), "routing.yaml")
    assert (caught.value.code, caught.value.field) == (code, f"routing.yaml: {field}")
    assert "there are" in caught.value.message


@pytest.mark.parametrize("label", ["nope", "lonely"])
def test_a_class_that_leads_nowhere(catalogue, label):
    with pytest.raises(InvalidConfig, match=label):
        check_policy(policy(), catalogue, ("faq", label), "routing.yaml")


def test_candidates_are_the_policys_or_else_the_catalogues(catalogue):
    found = candidates(policy(tasks={"defect": ["talker"]}), catalogue)
    assert found == {"defect": ("talker",), "faq": ("talker",), "other": ("talker",), "lonely": ()}
