"""What the engine reads: frames, requests, JSON schemas, grammars. An EngineError or something that works."""

import json
import random
import zlib
from collections.abc import Callable

from tests.fuzz.oracle import Target, hold
from workers.engine.automaton import Automaton, State
from workers.engine.document import read_document
from workers.engine.errors import EngineError
from workers.engine.frames import FrameError, FrameReader, encode_frame
from workers.engine.grammar import check_grammar
from workers.engine.request import ChoicesOutput, EngineRequest
from workers.engine.schema import compile_schema

_STEPS = 120
"""Characters of a text that is drawn from a grammar."""
_COMMON = frozenset('"\\{}[]:,. -+eE0123456789abtfnruxyz\n')

REQUESTS: list[object] = [
    {"id": "a", "prompt": "x"},
    {
        "id": "b",
        "messages": [
            {"role": "system", "content": "s"},
            {
                "role": "user",
                "content": [{"type": "text", "text": "t"}, {"type": "image", "sha256": "0" * 64}],
            },
        ],
        "sampling": {
            "max_tokens": 5, "temperature": 0, "top_k": -1, "top_p": 1, "min_p": 0, "typical_p": 1, "seed": 1,
            "repeat_penalty": 1, "presence_penalty": 0, "frequency_penalty": 0, "stop": "end", "logprobs": 2,
        },
        "priority": 0,
        "deadline": 1.5,
    },
    {"id": "c", "prompt": "x", "output": {"type": "json_schema", "schema": {"type": "null"}}},
    {"id": "d", "prompt": "x", "output": {"type": "grammar", "grammar": "root ::= [a]"}},
    {"id": "e", "prompt": "x", "output": {"type": "embedding", "normalize": True, "dimensions": 3}},
    {
        "id": "f",
        "messages": [{"role": "user", "content": "x"}],
        "output": {
            "type": "choices", "choices": ["a", "b"], "prior": "content_free", "length_normalization": "mean",
            "temperature": 2,
        },
    },
]  # fmt: skip
SCHEMAS: list[object] = [
    {
        "type": "object",
        "properties": {"a": {"type": "integer", "minimum": -5, "maximum": 12}},
        "required": ["a"],
    },
    {"type": "array", "items": {"type": "string", "maxLength": 3}, "minItems": 1, "maxItems": 2},
    {"anyOf": [{"type": "null"}, {"const": {"k": [1, "é"]}}, {"enum": [1, "x", None]}]},
    {"oneOf": [{"type": "string", "pattern": "^[a-c]{2,3}x?$"}, {"type": "boolean"}]},
    {"allOf": [{"type": "object", "properties": {"a": {"type": "null"}}}, {"required": ["a"]}]},
    {"$ref": "#/$defs/n", "$defs": {"n": {"type": "array", "items": {"$ref": "#/$defs/n"}, "maxItems": 2}}},
    {"type": "array", "prefixItems": [{"type": "number", "minimum": 0}, True], "items": False},
    {"type": ["string", "integer"], "format": "date", "minLength": 0},
    {"type": "object", "additionalProperties": {"type": "number"}, "minProperties": 0},
    {"type": "object", "properties": {"a": True, "b": {"type": "integer"}, "c": False}, "required": ["b"]},
]
GRAMMARS = [
    'root ::= "yes" | "no"',
    'root ::= item+ "." # end\nitem ::= [a-z] [^\\x41-\\U0010FFFF]? ("," item)*',
    'root ::= "{" ws (pair ("," pair)*)? "}"\npair ::= [a-z]{1,3} ":" [0-9]{2,}\nws ::= [ \\t\\n]*',
    'root ::= a | b c{0}\na ::= . [\\]\\\\\\-]\nb ::= ("x" | ())\nc ::= root',
    'root ::= (((("a"){2,4}){2})?){1,} "\\u00e9\\r\\""',
]


def request(data: bytes) -> bool:
    """A frame's request: refused by name, or read into values within their limits."""
    try:
        frame = json.loads(data)
    except (ValueError, RecursionError):
        return False
    try:
        asked = EngineRequest.parse(frame, images=True)
    except EngineError as error:
        check_engine_error(error)
        return False
    hold(
        asked.id and (asked.messages is None) != (asked.prompt is None),
        "neither messages nor prompt, or both",
    )
    hold(0 <= asked.priority <= 9 and asked.sampling.max_tokens >= 1, "numbers beyond the limits")
    hold(not isinstance(asked.output, ChoicesOutput) or asked.output.choices, "no choices")
    for key in ("sampling", "output"):
        hold(
            frame.get(key) is None or isinstance(frame[key], dict),
            f"{key} is {frame.get(key)!r} and was accepted",
        )
    encode_frame({"messages": [message.content for message in asked.messages or ()], "prompt": asked.prompt})
    return True


def check_engine_error(error: EngineError) -> None:
    """An engine's error is one readable line of bounded length, and JSON."""
    hold(len(str(error)) <= 1500, f"an error of {len(str(error)):,} characters: {str(error)[:200]!r}")
    hold(error.message and error.message.isprintable(), f"an error that cannot be printed: {error.message!r}")
    encode_frame(error.to_frame())


def schema(data: bytes) -> bool:
    """A JSON schema: refused, or a grammar whose every text is a document that the schema accepts."""
    try:
        form = json.loads(data)
    except (ValueError, RecursionError):
        return False
    try:
        grammar = compile_schema(form)
        text = _draw(grammar, random.Random(zlib.crc32(data)))
    except EngineError as error:
        check_engine_error(error)
        return False
    if text is not None:
        try:
            read_document(text, form)
        except EngineError as error:
            hold(False, f"the grammar lets {text!r} through, which the schema does not: {error.message}")
    return True


def gbnf(data: bytes) -> bool:
    """A grammar: refused, or one that can be walked."""
    try:
        _draw(data.decode("utf-8", "surrogateescape"), random.Random(zlib.crc32(data)))
    except EngineError as error:
        check_engine_error(error)
        return False
    return True


def _draw(grammar: str, chance: random.Random) -> str | None:
    """A text of the grammar; None where none ends within the steps allowed."""
    automaton = Automaton(check_grammar(grammar))
    letters = sorted(_COMMON | set(grammar[:2000]))
    state: State | None = automaton.start
    text = ""
    for _ in range(_STEPS):
        assert state is not None
        allowed = automaton.classes(state)
        if state.may_end and (not allowed or chance.random() < 0.5):
            return text
        fitting = [one for one in letters if automaton.alphabet.class_of(ord(one)) in allowed]
        if not fitting:
            return text if state.may_end else None
        # ends and closing brackets first, now and then: else long texts never close
        closing = [one for one in fitting if one in '"]}']
        character = chance.choice(closing if closing and chance.random() < 0.5 else fitting)
        state = automaton.step(state, automaton.alphabet.class_of(ord(character)))
        hold(state is not None, f"{character!r} is allowed behind {text!r} and leads nowhere")
        text += character
    return text if state is not None and state.may_end else None


def frames(data: bytes) -> bool:
    """A byte stream gives the same messages however it is cut, and each is a frame again."""
    whole, pieces = FrameReader(), FrameReader()
    try:
        messages = whole.feed(data)
    except FrameError as error:
        hold(len(str(error)) < 500, "a long error")
        messages = None
    cut = 1 + zlib.crc32(data) % 7
    found: list[object] | None = []
    try:
        for at in range(0, len(data), cut):
            found += pieces.feed(data[at : at + cut])
    except FrameError:
        found = None
    hold(found == messages, "the messages depend on how the bytes arrive")
    hold(messages is None or whole.pending == pieces.pending, "bytes are lost")
    for message in messages or ():
        try:
            frame = encode_frame(message)
        except ValueError:  # NaN, which JSON does not have and Python's reader takes
            continue
        hold(FrameReader().feed(frame) == [message], "a message changes on its way")
    return bool(messages)


def _jsons(values: list[object]) -> Callable[[], list[bytes]]:
    return lambda: [json.dumps(value, ensure_ascii=False).encode() for value in values]


def frame_seeds() -> list[bytes]:
    """One frame, several, and a cut one."""
    one, other = (
        encode_frame({"op": "stats"}),
        encode_frame({"op": "submit", "request": {"id": "a", "prompt": "é"}}),
    )
    return [one, one + other, other + one[:9], b"\x00\x00\x00\x02[]", b"\xff\xff\xff\xff"]


TARGETS = [
    Target("request", request, _jsons(REQUESTS), "json", 14),
    Target("schema", schema, _jsons(SCHEMAS), "json", 2, 1024),
    Target("gbnf", gbnf, lambda: [text.encode() for text in GRAMMARS], "text", 6, 512),
    Target("frames", frames, frame_seeds, "bytes", 6, 512),
]
