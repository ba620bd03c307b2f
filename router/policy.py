"""The routing policy as a value: `configs/routing.yaml`, typed and checked against catalogue and classifier.

Its JSON Schema (`configs/routing.schema.json`) is generated from these classes. Takes no decision.
"""

import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    field_validator,
    model_validator,
)

from batchyard.catalogue import Catalogue, config_error
from batchyard.entry import Finite, Whole, twice
from batchyard.errors import InvalidConfig, shown
from batchyard.job import Name
from batchyard.yaml_file import read_yaml
from router.language import Language


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Conditions(_Part):
    """What a rule asks of a job; all that are given must hold."""

    task: Annotated[
        tuple[Name, ...] | None,
        Field(description="The job's own task is one of these (auto: it names none)."),
    ] = None
    text: Annotated[
        str | None, Field(description="Python regular expression found in the job's text; (?i) ignores case.")
    ] = None
    language: Annotated[
        tuple[Language, ...] | None, Field(description="The text is in one of these: zh, en, other.")
    ] = None
    min_chars: Annotated[
        Whole | None, Field(ge=0, description="The text has at least this many characters.")
    ] = None
    max_chars: Annotated[
        Whole | None, Field(ge=0, description="The text has at most this many characters.")
    ] = None
    has_images: Annotated[bool | None, Field(description="Whether the job brings images.")] = None
    output: Annotated[
        tuple[Literal["text", "json_schema", "grammar", "choices"], ...] | None,
        Field(description="The job asks for one of these output forms."),
    ] = None
    tenant: Annotated[tuple[Name, ...] | None, Field(description="The job's tenant is one of these.")] = None
    metadata: Annotated[
        dict[str, JsonValue] | None, Field(description="The job's metadata has these keys with these values.")
    ] = None

    @field_validator("text")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            try:
                re.compile(pattern)
            except (re.error, OverflowError, RecursionError) as exc:
                raise ValueError(f"is no regular expression: {exc}") from None
        return pattern

    @model_validator(mode="after")
    def _asks_something(self) -> "Conditions":
        if not self.model_fields_set:
            raise ValueError("a rule needs at least one condition; what every job gets is the default")
        if None not in (self.min_chars, self.max_chars) and (self.min_chars or 0) > (self.max_chars or 0):
            raise ValueError("min_chars is above max_chars: no job can match")
        return self

    @cached_property
    def pattern(self) -> re.Pattern[str] | None:
        """`text`, compiled."""
        return None if self.text is None else re.compile(self.text)


class Rule(_Part):
    """One rule: the first whose conditions hold gives the job its task, its model or both."""

    name: Annotated[Name, Field(description="Shown in the route as rule:<name>.")]
    enabled: Annotated[bool, Field(description="false keeps the rule in the file, but out of use.")] = True
    when: Annotated[Conditions, Field(description="All of these must hold.")]
    task: Annotated[
        Name | None, Field(description="Task the job gets, if it names none; null leaves it to classify.")
    ] = None
    model: Annotated[
        Name | None, Field(description="Model the job gets, if it names none; null takes the task's.")
    ] = None

    @model_validator(mode="after")
    def _decides_something(self) -> "Rule":
        if self.task is None and self.model is None:
            raise ValueError("a rule gives a task, a model or both")
        return self


class ClassifierChoice(_Part):
    """Which trained classifier is used, and from which probability on its answer counts."""

    artefact: Annotated[
        str, Field(description="Folder of the artefact; relative to the folder above the policy's own.")
    ] = "models/router"
    threshold: Annotated[
        Finite | None,
        Field(
            ge=0,
            le=1,
            description="A job less likely than this to be in scope goes to the default; null: as trained.",
        ),
    ] = None


class Default(_Part):
    """Where jobs go that are out of scope."""

    task: Annotated[Name, Field(description="Task such a job gets.")]
    model: Annotated[Name, Field(description="Model such a job goes to.")]


class Policy(_Part):
    """A versioned set of routing rules: rules first, then the classifier, then the default."""

    version: Annotated[Name, Field(description="Travels with every route; change it with the file.")]
    rules: Annotated[tuple[Rule, ...], Field(description="In order; the first that matches decides.")] = ()
    classifier: Annotated[
        ClassifierChoice | None,
        Field(description="null: jobs without task that no rule matches go to the default."),
    ] = ClassifierChoice()
    tasks: Annotated[
        dict[Name, Annotated[tuple[Name, ...], Field(min_length=1)]],
        Field(description="Models of a task, best first; a task left out takes those of the catalogue."),
    ] = {}
    default: Annotated[Default, Field(description="For what is out of scope.")]

    @model_validator(mode="after")
    def _names_differ(self) -> "Policy":
        again = twice(rule.name for rule in self.rules)
        if again is not None:
            raise ValueError(f"rule {again!r} is there twice")
        return self


def load_policy(path: Path) -> Policy:
    """The policy in a YAML file.

    Raises:
        InvalidConfig: naming the key, the value and the remedy.
    """
    return parse_policy(read_yaml(path), str(path))


def parse_policy(data: object, source: str) -> Policy:
    """The policy in plain data; `source` names it in errors."""
    try:
        return Policy.model_validate(data)
    except ValidationError as exc:
        raise config_error(exc, source) from None


def candidates(policy: Policy, catalogue: Catalogue) -> dict[str, tuple[str, ...]]:
    """The models of every task of the catalogue, best first; empty where no model does it."""
    offered = {
        task: tuple(model.model_name for model in catalogue.model_list if task in model.tasks)
        for task in catalogue.task_names
    }
    return offered | policy.tasks


def check_policy(policy: Policy, catalogue: Catalogue, classes: tuple[str, ...], source: str) -> None:
    """Hold a policy against the catalogue it routes to and the classes its classifier knows.

    Raises:
        InvalidConfig: it names a task or model that is not there, or a class leads nowhere.
    """
    for where, task in _tasks_named(policy):
        if catalogue.task(task) is None:
            known = ", ".join(catalogue.task_names)
            raise InvalidConfig(
                f"no task {shown(task)} in the catalogue; there are {known}",
                code="unknown_task",
                field=f"{source}: {where}",
                remedy="name one of these, or add it under task_list",
            )
    for where, model in _models_named(policy):
        if model not in catalogue.model_names:
            known = ", ".join(catalogue.model_names)
            raise InvalidConfig(
                f"no model {shown(model)} in the catalogue; there are {known}",
                code="unknown_model",
                field=f"{source}: {where}",
                remedy="name one of these, or add it under model_list",
            )
    models = candidates(policy, catalogue)
    for label in classes:
        if not models.get(label):
            raise InvalidConfig(
                f"the classifier knows the class {shown(label)}, for which there is no task with a model",
                field=f"{source}: classifier.artefact",
                remedy="add the task to the catalogue, train again without it, or set classifier: null",
            )


def _tasks_named(policy: Policy) -> list[tuple[str, str]]:
    named = [(f"tasks.{task}", task) for task in policy.tasks]
    named += [(f"rules.{rule.name}.task", rule.task) for rule in policy.rules if rule.task is not None]
    return [*named, ("default.task", policy.default.task)]


def _models_named(policy: Policy) -> list[tuple[str, str]]:
    named = [(f"tasks.{task}", model) for task, models in policy.tasks.items() for model in models]
    named += [(f"rules.{rule.name}.model", rule.model) for rule in policy.rules if rule.model is not None]
    return [*named, ("default.model", policy.default.model)]


def policy_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the policy file."""
    schema = Policy.model_json_schema()
    first = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Batchyard routing policy"}
    return first | schema | first
