"""The decision: which task a job is, and which model runs it. Pure; knows no queue, no store, no clock."""

from collections.abc import Mapping
from dataclasses import dataclass

from batchyard.catalogue import Catalogue
from batchyard.errors import InvalidJob, RouteFailed, shown
from batchyard.job import Job
from batchyard.names import AUTO
from batchyard.route import Route
from router.language import language
from router.policy import Conditions, Policy, Rule


@dataclass(frozen=True, slots=True)
class Yard:
    """What decisions are made by: policy, catalogue, the models of each task (best first), and what names the
    classifier (None without one) with the probability of being in scope that a job must have."""

    policy: Policy
    catalogue: Catalogue
    models: Mapping[str, tuple[str, ...]]
    classifier: str | None = None
    threshold: float = 0.0


@dataclass(frozen=True, slots=True)
class Guess:
    """The classifier's best class for a text, its probability, and that of the text being in scope at all."""

    task: str
    probability: float
    scope: float


@dataclass(frozen=True, slots=True)
class _Task:
    """The task of a job and how it was found."""

    name: str
    by: str
    reason: str
    confidence: float | None = None
    out_of_scope: bool = False


def check_names(job: Job, catalogue: Catalogue) -> None:
    """Refuse a job that names a task or model the yard does not have.

    Raises:
        InvalidJob: code `unknown_task` or `unknown_model`.
    """
    for field, name, known in (
        ("task", job.task, catalogue.task_names),
        ("model", job.model, catalogue.model_names),
    ):
        if name != AUTO and name not in known:
            raise InvalidJob(
                f"no {field} {shown(name)}; there are {', '.join(known)}",
                code=f"unknown_{field}",
                field=field,
                remedy=f"name one of these, or {AUTO} to let the router choose",
            )


def matching_rule(job: Job, policy: Policy) -> Rule | None:
    """The first enabled rule whose conditions the job meets."""
    for rule in policy.rules:
        if rule.enabled and _holds(rule.when, job):
            return rule
    return None


def needs_guess(job: Job, rule: Rule | None) -> bool:
    """Whether only the classifier can tell the task of the job."""
    return job.task == AUTO and (rule is None or rule.task is None)


def decide(job: Job, rule: Rule | None, guess: Guess | None, yard: Yard) -> Route:
    """The route of a job, from the rule it matched and the classifier's guess, if any.

    Raises:
        InvalidJob: the job names a task or model that is not there.
        RouteFailed: no model does the task.
    """
    check_names(job, yard.catalogue)
    task = _task(job, rule, guess, yard)
    model, because = _model(job, rule, task, yard)
    return Route(
        task=task.name,
        model=model,
        by=task.by,
        confidence=None if task.confidence is None else round(task.confidence, 4),
        out_of_scope=task.out_of_scope,
        reason=f"{task.reason}; {because}",
        policy=yard.policy.version,
        classifier=None if task.confidence is None else yard.classifier,
    )


def _task(job: Job, rule: Rule | None, guess: Guess | None, yard: Yard) -> _Task:
    if job.task != AUTO:
        return _Task(job.task, "job", f"the job names the task {job.task}")
    if rule is not None and rule.task is not None:
        return _Task(rule.task, f"rule:{rule.name}", f"rule {rule.name} gives the task {rule.task}")
    default = yard.policy.default.task
    if guess is None:
        return _Task(default, "default", f"nothing tells the task, so {default}")
    found = f"{guess.task} {guess.probability:.2f}"
    if guess.scope < yard.threshold:
        reason = f"out of scope: in scope with {guess.scope:.3f}, below {yard.threshold:.3f}, so {default}"
        return _Task(default, "default", reason, guess.probability, True)
    if job.model != AUTO and guess.task not in yard.catalogue.model(job.model).tasks:
        reason = f"classified as {found}, which the model {job.model} does not do, so {default}"
        return _Task(default, "default", reason, guess.probability)
    return _Task(guess.task, "classifier", f"classified as {found}", guess.probability)


def _model(job: Job, rule: Rule | None, task: _Task, yard: Yard) -> tuple[str, str]:
    if job.model != AUTO:
        return job.model, f"the job names the model {job.model}"
    if rule is not None and rule.model is not None:
        return rule.model, f"rule {rule.name} gives the model {rule.model}"
    if task.by == "default":
        return yard.policy.default.model, f"default model {yard.policy.default.model}"
    models = yard.models.get(task.name, ())
    if not models:
        raise RouteFailed(
            f"no model does the task {task.name}",
            field="task",
            remedy="list one under tasks in the routing policy, or name a model in the job",
        )
    return models[0], f"{models[0]} is the first model for it"


def _holds(when: Conditions, job: Job) -> bool:
    """Whether a job meets all conditions; the cheap ones are looked at first."""
    if when.task is not None and job.task not in when.task:
        return False
    if when.tenant is not None and job.tenant not in when.tenant:
        return False
    if when.has_images is not None and bool(job.images) != when.has_images:
        return False
    if when.output is not None and (job.output.type if job.output else "text") not in when.output:
        return False
    if when.metadata is not None and any(
        key not in job.metadata or job.metadata[key] != value for key, value in when.metadata.items()
    ):
        return False
    text = job.text
    if when.min_chars is not None and len(text) < when.min_chars:
        return False
    if when.max_chars is not None and len(text) > when.max_chars:
        return False
    if when.pattern is not None and when.pattern.search(text) is None:
        return False
    return when.language is None or language(text) in when.language
