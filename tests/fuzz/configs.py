"""The yard's YAML files: any text to an InvalidConfig that can be read, or to something that can be used."""

import json
from collections.abc import Callable
from pathlib import Path

import yaml

from batchyard.catalogue import Catalogue, parse_catalogue
from batchyard.errors import InvalidConfig, YardError
from batchyard.hardware import Hardware, parse_hardware
from batchyard.job import parse_job
from batchyard.jsonvalue import json_fault
from batchyard.submission import Known
from batchyard.wire import dumps
from batchyard.yaml_file import ENV_PREFIX, parse_yaml
from router.decide import Yard, decide, matching_rule
from router.policy import Policy, candidates, check_policy, parse_policy
from tests.fuzz.jobs import CATALOGUE
from tests.fuzz.oracle import Target, check_error, hold

_FILES = Path(__file__).resolve().parents[2] / "configs"
_JOB = parse_job({"id": "J1", "prompt": "hello there 9", "metadata": {"source": "aoi"}})

_YAML = [
    b"a: &x [1, 2]\nb: *x\n<<: {c: 1}\n",
    b"a: &a [x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: [*c, *c]\n",
    b"when: 2026-01-01\nyes: no\nhex: 0x1F\nbig: 1e400\nnan: .nan\nsix: 1:30:00\n",
    b"a: !!int '5'\nb: !!str 7\nc: !!binary aGVsbG8=\nd: !!set {x}\ne: !!python/object/apply:os.getpid []\n",
    b"key: os.environ/HOME\napi_key: os.environ/NOT_THERE\n",
    b'a: "\\ud800"\nb: "\\U00110000"\nc: |\n  text\n  more\nd: >-\n  folded\n? [k]\n: v\n',
    b"--- 1\n...\n--- 2\n",
]


def yaml_text(data: bytes) -> bool:
    """Any bytes to plain JSON data."""
    try:
        value = parse_yaml(data, "f.yaml")
    except InvalidConfig as error:
        check_error(error)
        return False
    json.dumps(value, allow_nan=False, ensure_ascii=False).encode("utf-8")
    return True


def _config(
    parse: Callable[[object, str], object], check: Callable[[object, object], None]
) -> Callable[[bytes], bool]:
    def run(data: bytes) -> bool:
        try:
            given = json.loads(data)  # what YAML makes of text is the target yaml's, a hundred times as slow
        except (ValueError, RecursionError):
            return False
        if json_fault(given, only_json=True) is not None:
            return False  # the reader of the file refuses it before
        try:
            found = parse(given, "f.yaml")
        except InvalidConfig as error:
            check_error(error)
            return False
        check(found, given)
        return True

    return run


def check_policy_holds(found: object, given: object) -> None:
    """A policy that decides, or that is refused against the catalogue by name."""
    assert isinstance(found, Policy)
    dumped = found.model_dump(mode="json")
    hold(
        Policy.model_validate(json.loads(dumps(dumped))) == found,
        "a policy that is not itself when it is read again",
    )
    no_truth_for_numbers(given, dumped)
    try:
        check_policy(found, CATALOGUE, ("t",), "f.yaml")
        route = decide(
            _JOB, matching_rule(_JOB, found), None, Yard(found, CATALOGUE, candidates(found, CATALOGUE))
        )
    except YardError as error:
        check_error(error)
        return
    hold(route.model in CATALOGUE.model_names and CATALOGUE.task(route.task), "a route to nowhere")


def check_catalogue_holds(found: object, given: object) -> None:
    """A catalogue that travels to the clients and is the same there."""
    assert isinstance(found, Catalogue)
    text = found.model_dump_json(by_alias=True)
    hold(
        Catalogue.model_validate_json(text.encode("utf-8")) == found,
        "a catalogue that is not itself when it is read again",
    )
    known = Known.of(json.loads(text))
    hold(
        len(known.models) == len(found.model_list) and len(known.tasks) == len(found.task_list),
        "names are lost",
    )
    no_truth_for_numbers(given, found.model_dump(mode="json", by_alias=True))


def check_hardware_holds(found: object, given: object) -> None:
    """Profiles that are all there by name."""
    assert isinstance(found, Hardware)
    dumped = found.model_dump(mode="json")
    hold(
        Hardware.model_validate(json.loads(dumps(dumped))) == found,
        "profiles that are not themselves when read again",
    )
    hold(all(found.profile(one.profile_name) is one for one in found.profile_list), "a profile is lost")
    no_truth_for_numbers(given, dumped)


def no_truth_for_numbers(given: object, kept: object, where: str = "") -> None:
    """Nothing that was written is gone, and a truth value is no number. A number may come as text, as
    variables of the environment do, and a flag as 0 or 1."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for key, value in given.items():
            hold(key in kept, f"{where}.{key} was accepted and is gone")
            no_truth_for_numbers(value, kept[key], f"{where}.{key}")
    elif isinstance(given, list) and isinstance(kept, list):
        for one, other in zip(given, kept, strict=True):
            no_truth_for_numbers(one, other, f"{where}[]")
    elif isinstance(given, bool) != isinstance(kept, bool):
        hold(
            isinstance(given, str | int | float) and not isinstance(given, bool),
            f"{where}: {given!r} was taken for {kept!r}",
        )


def _shipped(name: str) -> Callable[[], list[bytes]]:
    def seeds() -> list[bytes]:
        text = (_FILES / name).read_bytes()
        tree = yaml.safe_load(text)
        cut = [json.dumps(tree).encode()]
        for key, values in tree.items():
            if isinstance(values, list):
                cut += [json.dumps(tree | {key: [value]}).encode() for value in values]
        return cut

    return seeds


def catalogue_seeds() -> list[bytes]:
    """The shipped catalogue, and one model of each engine."""
    others = {
        "model_list": [
            {"model_name": "o", "engine": "openai", "api_base": "https://h:1/v1", "model": "x", "timeout": 5},
            {
                "model_name": "n",
                "engine": "onnx",
                "model_path": "n.onnx",
                "labels": ["a", "b"],
                "memory_budget": 0.5,
            },
            {
                "model_name": "m",
                "model_path": "m",
                "memory_budget": 1 << 30,
                "tensor_split": [3, 1],
                "flash_attn": "auto",
            },
        ],
        "task_list": [
            {"task": "t", "output": {"type": "choices", "choices": ["a", "b"]}, "sampling": {"top_k": 1}}
        ],
    }
    return [*_shipped("models.yaml")(), json.dumps(others).encode()]


def yaml_seeds() -> list[bytes]:
    """YAML's odd corners, and the shipped policy."""
    assert ENV_PREFIX in _YAML[4].decode()
    policy = yaml.safe_load((_FILES / "routing.yaml").read_bytes())
    return [*_YAML, yaml.safe_dump(policy["rules"][0]).encode()]


TARGETS = [
    Target("yaml", yaml_text, yaml_seeds, "yaml", 2, 1024),
    Target("policy", _config(parse_policy, check_policy_holds), _shipped("routing.yaml"), "json", 7),
    Target("catalogue", _config(parse_catalogue, check_catalogue_holds), catalogue_seeds, "json", 5, 8192),
    Target(
        "hardware", _config(parse_hardware, check_hardware_holds), _shipped("hardware.yaml"), "json", 3, 8192
    ),
]
