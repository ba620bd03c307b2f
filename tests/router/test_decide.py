import pytest

from batchyard.errors import InvalidJob, RouteFailed
from batchyard.job import Job
from router.decide import Guess, decide, matching_rule, needs_guess

SURE = Guess("defect", 0.93, 0.99)


def job(**fields):
    return Job.model_validate({"prompt": "board 7: R4 open"} | fields)


def route(job, yard, guess=SURE):
    rule = matching_rule(job, yard.policy)
    return decide(job, rule, guess if needs_guess(job, rule) else None, yard)


def test_the_class_decides_task_and_first_model(make_yard):
    found = route(job(), make_yard())
    assert (found.task, found.model, found.by) == ("defect", "inspector", "classifier")
    assert (found.confidence, found.out_of_scope) == (0.93, False)
    assert (found.policy, found.classifier) == ("v7", "abc123")
    assert "0.93" in found.reason


def test_the_policys_order_of_models_counts(make_yard):
    assert route(job(), make_yard(tasks={"defect": ["talker", "inspector"]})).model == "talker"


def test_out_of_scope_goes_to_the_default_and_never_to_the_nearest_class(make_yard):
    found = route(job(), make_yard(threshold=0.6), Guess("defect", 0.59, 0.599))
    assert (found.task, found.model, found.by) == ("other", "talker", "default")
    assert found.out_of_scope and found.confidence == 0.59
    assert "out of scope" in found.reason


def test_a_job_at_the_threshold_is_in_scope(make_yard):
    assert not route(job(), make_yard(threshold=0.6), Guess("defect", 0.5, 0.6)).out_of_scope


def test_an_explicit_task_is_honoured_whatever_the_text_says(make_yard):
    rules = [{"name": "all", "when": {"min_chars": 0}, "task": "defect", "model": "inspector"}]
    found = route(job(task="faq"), make_yard(rules=rules[:1]))
    assert (found.task, found.by, found.confidence, found.classifier) == ("faq", "job", None, None)


def test_an_explicit_model_is_honoured(make_yard):
    assert route(job(task="defect", model="talker"), make_yard()).model == "talker"
    assert route(job(model="talker"), make_yard()).model == "talker"


def test_a_class_that_the_explicit_model_does_not_do_is_not_forced_on_it(make_yard):
    found = route(job(model="inspector"), make_yard(), Guess("faq", 0.9, 0.9))
    assert (found.task, found.model, found.by) == ("other", "inspector", "default")
    assert not found.out_of_scope


@pytest.mark.parametrize("field, code", [("task", "unknown_task"), ("model", "unknown_model")])
def test_unknown_names_are_refused_with_what_there_is(make_yard, field, code):
    with pytest.raises(InvalidJob) as caught:
        route(job(**{field: "nope"}), make_yard())
    assert (caught.value.code, caught.value.field) == (code, field)
    assert "'nope'" in caught.value.message and "there are" in caught.value.message
    assert caught.value.remedy


def test_a_task_that_no_model_does(make_yard):
    with pytest.raises(RouteFailed, match="lonely"):
        route(job(task="lonely"), make_yard())
    assert route(job(task="lonely", model="talker"), make_yard()).model == "talker"


def test_without_a_classifier_everything_unnamed_goes_to_the_default(make_yard):
    found = decide(job(), None, None, make_yard())
    assert (found.task, found.model, found.by, found.out_of_scope) == ("other", "talker", "default", False)


def test_the_first_matching_rule_decides(make_yard):
    rules = [
        {"name": "off", "enabled": False, "when": {"min_chars": 0}, "task": "other"},
        {"name": "never", "when": {"tenant": ["x"]}, "task": "other"},
        {"name": "first", "when": {"text": "(?i)BOARD"}, "task": "faq"},
        {"name": "second", "when": {"text": "board"}, "task": "defect"},
    ]
    found = route(job(), make_yard(rules=rules))
    assert (found.task, found.by, found.confidence) == ("faq", "rule:first", None)


def test_a_rule_may_give_the_model_only(make_yard):
    rules = [{"name": "vip", "when": {"tenant": ["gold"]}, "model": "talker"}]
    yard = make_yard(rules=rules)
    found = route(job(tenant="gold"), yard)
    assert (found.task, found.model, found.by) == ("defect", "talker", "classifier")
    assert "rule vip gives the model" in found.reason
    assert route(job(tenant="gold", task="defect"), yard).model == "talker"
    assert route(job(tenant="gold", model="inspector"), yard).model == "inspector"


IMAGE = {"role": "user", "content": [{"type": "image", "sha256": "0" * 64}]}


@pytest.mark.parametrize(
    "when, good, bad",
    [
        ({"task": ["auto"]}, {}, {"task": "faq"}),
        ({"text": "R\\d"}, {}, {"prompt": "nothing"}),
        ({"language": ["zh"]}, {"prompt": "电路板"}, {}),
        ({"min_chars": 10}, {}, {"prompt": "short"}),
        ({"max_chars": 10}, {"prompt": "short"}, {}),
        ({"has_images": True}, {"prompt": None, "messages": [IMAGE]}, {}),
        ({"has_images": False}, {}, {"prompt": None, "messages": [IMAGE]}),
        ({"output": ["choices"]}, {"output": {"type": "choices", "choices": ["a", "b"]}}, {}),
        ({"output": ["text"]}, {}, {"output": {"type": "json_schema", "schema": {}}}),
        ({"tenant": ["gold"]}, {"tenant": "gold"}, {}),
        ({"metadata": {"line": 3}}, {"metadata": {"line": 3, "x": 1}}, {"metadata": {"line": 4}}),
        ({"metadata": {"line": None}}, {"metadata": {"line": None}}, {}),
        ({"tenant": ["gold"], "min_chars": 3}, {"tenant": "gold"}, {"tenant": "gold", "prompt": "ab"}),
    ],
)
def test_conditions(make_yard, when, good, bad):
    policy = make_yard(rules=[{"name": "r", "when": when, "task": "faq"}]).policy
    assert matching_rule(job(**good), policy) is not None
    assert matching_rule(job(**bad), policy) is None
