"""Hypothesis strategies for what the parsers read: mostly sound, wrong in one or two places."""

import json
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as hypothesis_seed
from hypothesis import strategies as st

from tests.fuzz.configs import catalogue_seeds, yaml_seeds
from tests.fuzz.engine import GRAMMARS
from tests.fuzz.messages import message_seeds

text = st.text(max_size=40)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.:/@+-]{0,20}", fullmatch=True)
numbers = st.one_of(
    st.integers(-3, 300), st.floats(allow_nan=True, allow_infinity=True), st.integers(), st.booleans(),
    st.sampled_from([2**31, 2**63, 10**30, 2e9, 1e308]),
)  # fmt: skip
leaves = st.one_of(st.none(), numbers, text)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(text, inner, max_size=4)),
    max_leaves=8,
)
"""Any JSON value."""


def _near(strategy: st.SearchStrategy[Any], odd: int = 8) -> st.SearchStrategy[Any]:
    """Mostly `strategy`, and any value at all once in `odd` times."""
    return st.integers(1, odd).flatmap(lambda n: values if n == 1 else strategy)


def _record(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={name: _near(field) for name, field in fields.items()})


schemas = st.recursive(
    st.one_of(
        st.booleans(),
        st.fixed_dictionaries({"type": st.sampled_from(["string", "null", "boolean", "integer", "number"])}),
        st.fixed_dictionaries({"const": values}),
        st.fixed_dictionaries({"enum": st.lists(values, min_size=1, max_size=3)}),
        _record(type=st.just("integer"), minimum=st.integers(-99, 99), maximum=st.integers(-99, 99)),
        _record(type=st.just("number"), minimum=st.integers(-9, 9), exclusiveMaximum=st.integers(-9, 9)),
        _record(type=st.just("string"), minLength=st.integers(0, 3), maxLength=st.integers(0, 5)),
        _record(type=st.just("string"), pattern=st.sampled_from(["^a*$", "^[0-9]{2}$", r"^(x|y)\d?$", "a",
        "^.$"])),
        _record(format=st.sampled_from(["date", "time", "date-time", "uuid", "email"])),
    ),
    lambda inner: st.one_of(
        _record(
            type=st.just("array"), items=inner, minItems=st.integers(0, 3), maxItems=st.integers(0, 3),
            prefixItems=st.lists(inner, max_size=2), uniqueItems=st.booleans(),
        ),
        _record(
            type=st.just("object"),
            properties=st.dictionaries(st.sampled_from(["a", "b", "é", '"', "\\"]), inner, max_size=3),
            required=st.lists(st.sampled_from(["a", "b", "c"]), max_size=2, unique=True),
            additionalProperties=inner,
        ),
        _record(anyOf=st.lists(inner, min_size=1, max_size=3), type=st.just("string")),
        _record(oneOf=st.lists(inner, min_size=1, max_size=2)),
        _record(allOf=st.lists(inner, min_size=1, max_size=2)),
        st.fixed_dictionaries({"$ref": st.sampled_from(["#", "#/$defs/a"]),
        "$defs": st.fixed_dictionaries({"a": inner})}),
    ),
    max_leaves=5,
)  # fmt: skip
"""JSON schemas."""

_parts = st.one_of(
    st.fixed_dictionaries({"type": st.just("text"), "text": text}),
    st.fixed_dictionaries({"type": st.just("image"), "sha256": st.just("a" * 64)}),
)
messages = st.lists(
    st.fixed_dictionaries({
        "role": _near(st.sampled_from(["system", "user", "assistant"])),
        "content": _near(st.one_of(text, st.lists(_parts, max_size=3))),
    }),
    min_size=1,
    max_size=3,
)  # fmt: skip
outputs = st.one_of(
    st.just({"type": "text"}),
    st.fixed_dictionaries({"type": st.just("json_schema"), "schema": schemas}),
    st.fixed_dictionaries({"type": st.just("grammar"), "grammar": st.sampled_from(GRAMMARS)}),
    st.fixed_dictionaries(
        {
            "type": st.just("choices"),
            "choices": st.lists(st.text(min_size=1, max_size=5), min_size=2, max_size=4),
        },
        optional={"prior": st.sampled_from(["content_free", None]), "length_normalization": st.just("mean")},
    ),
    st.fixed_dictionaries(
        {"type": st.just("embedding")}, optional={"normalize": st.booleans(), "dimensions": numbers}
    ),
)
samplings = _record(
    max_tokens=st.integers(-1, 300), temperature=st.floats(-1, 11), top_k=st.integers(-1, 50),
    top_p=st.floats(0, 1),
    min_p=st.floats(0, 1), repeat_penalty=st.floats(0, 2), presence_penalty=st.floats(-3, 3),
    frequency_penalty=st.floats(-3, 3), seed=st.integers(0, 2**32), stop=st.lists(text, max_size=2),
    logprobs=st.integers(0, 21),
)  # fmt: skip
_job = _record(
    id=names, task=st.sampled_from(["t", "auto", "c"]), model=st.sampled_from(["m", "auto"]),
    raw=st.booleans(),
    sampling=samplings, output=outputs, priority=st.one_of(st.integers(-1, 10), st.sampled_from(["batch",
    "interactive"])),
    deadline=st.floats(0, 3e11), time_limit=st.floats(-1, 1e6), max_retries=st.integers(-1, 101), batch=names,
    tenant=names, metadata=st.dictionaries(text, values, max_size=3),
)  # fmt: skip
jobs = st.builds(
    lambda job, prompt: {**job, **prompt},
    _job,
    st.one_of(
        st.fixed_dictionaries({"prompt": _near(text)}),
        st.fixed_dictionaries({"messages": _near(messages)}),
        st.just({}),
    ),
)
"""Jobs as a caller might write them."""
requests = st.builds(
    lambda fields, rest: {**fields, **rest},
    st.one_of(
        st.fixed_dictionaries({"id": _near(names), "prompt": _near(text)}),
        st.fixed_dictionaries({"id": _near(names), "messages": _near(messages)}),
    ),
    _record(sampling=samplings, output=outputs, priority=st.integers(-1, 10), deadline=st.floats(-1, 3e9)),
)
"""Requests as the engine gets them."""


def _written(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    return strategy.map(lambda value: json.dumps(value).encode())


def _cut_in(seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """A real input with something else in one place."""
    return st.builds(
        lambda seed, at, size, new: seed[: at % (len(seed) + 1)] + new + seed[at % (len(seed) + 1) + size :],
        st.sampled_from(seeds),
        st.integers(0, 1 << 16),
        st.integers(0, 6),
        st.one_of(st.binary(max_size=6), text.map(lambda word: word.encode())),
    )


def _is_json(seed: bytes) -> bool:
    try:
        return isinstance(json.loads(seed), dict)
    except ValueError:
        return False


def _with_value(seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """A JSON seed with any value under one of its keys."""
    trees = [seed for seed in seeds if _is_json(seed)]

    def changed(seed: bytes, key: int, value: object) -> bytes:
        tree = json.loads(seed)
        keys = list(tree)
        tree[keys[key % len(keys)]] = value
        return json.dumps(tree).encode()

    return st.builds(changed, st.sampled_from(trees), st.integers(0, 99), values)


_lines = st.one_of(_written(jobs), _written(values), st.binary(max_size=30), st.just(b""))
_TEXTS = st.text(alphabet='root:=()[]{}"\\*+?|.- ab\n0123456789,#^', max_size=60)

STRATEGIES: dict[str, st.SearchStrategy[bytes]] = {
    "job": _written(jobs),
    "batch": st.lists(_lines, max_size=6).map(b"\n".join),
    "path": st.one_of(_written(jobs), _written(values)),
    "message": st.one_of(_cut_in(message_seeds()), _with_value(message_seeds())),
    "request": _written(requests),
    "schema": _written(schemas),
    "gbnf": st.one_of(
        _cut_in([one.encode() for one in GRAMMARS]), _TEXTS.map(lambda one: f"root ::= {one}".encode())
    ),
    "yaml": st.one_of(_cut_in(yaml_seeds()), _written(values)),
    "catalogue": _with_value(catalogue_seeds()),
}
"""Inputs for the targets that have strategies of their own; the others begin with their seeds alone."""


def drawn(name: str, count: int, seed: int) -> list[bytes]:
    """So many inputs of a target's strategy, the same for the same seed; none where it has no strategy."""
    found: list[bytes] = []
    if name not in STRATEGIES:
        return found

    @hypothesis_seed(seed)
    @settings(
        max_examples=count,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(STRATEGIES[name])
    def draw(data: bytes) -> None:
        found.append(data)

    draw()
    return found
