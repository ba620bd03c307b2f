"""Mixed traffic for an engine: requests of every kind, and what may become of each. Pure and seeded.

A kind makes one request; which kinds there are, and how often, is a table for each thing a model can do:
text, images, embeddings. Pictures are named in a request by their hash; `album` has the files.
"""

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from benchmarks.images import QUESTION, picture
from benchmarks.reports import labelled_reports
from benchmarks.vision_file import IMAGE_SIZE

DONE = "done"
CANCELLED, DEADLINE = "cancelled", "deadline"
INSTRUCTION = "Read the board inspection report. Answer with the verdict as JSON."
CATEGORY = "Name the category of the report."
LABELS = ("soldering", "placement", "contamination", "none")
SCHEMA = {
    "type": "object",
    "properties": {
        "verdict": {"enum": ["pass", "fail"]},
        "defect": {"type": "string", "maxLength": 16},
        "ref": {"type": ["string", "null"], "maxLength": 16},
    },
    "required": ["verdict", "defect", "ref"],
    "additionalProperties": False,
}
GRAMMAR = 'root ::= "{" [a-z "]+ "}" | [0-9]+'
PICTURES = 24
NO_PICTURE = b"\x89PNG\r\n\x1a\nno picture"
_TEXTS = 500
_DEADLINE_CODES = frozenset({"deadline_exceeded", "deadline_unreachable"})


@dataclass(frozen=True, slots=True)
class Piece:
    """One request. `outcomes` are what may become of it: "done" or error codes. `cancel_after` is in seconds
    from when it was sent; `expires_in` makes a deadline, as the clock belongs to the sender. `comparable`
    answers are the same whenever they are asked for."""

    kind: str
    request: dict[str, Any]
    outcomes: frozenset[str] = frozenset({DONE})
    cancel_after: float | None = None
    expires_in: float | None = None
    comparable: bool = True


@dataclass(frozen=True, slots=True)
class Draw:
    """What a kind is made from: the generator, a text, and the tokens that fit a slot."""

    random: random.Random
    texts: Sequence[str]
    n_ctx: int

    def text(self) -> str:
        """Some report."""
        return self.random.choice(self.texts)

    def long_text(self, share: float) -> str:
        """Reports of up to `share` of a slot's tokens in characters; a Chinese character is about a token."""
        text = self.text()
        while len(text) + len(more := self.text()) < share * self.n_ctx:
            text += " " + more
        return text


@dataclass(frozen=True, slots=True)
class Kind:
    """How often (relative to the others) and what; `ends` says what ends it from outside: a cancel or a
    deadline."""

    name: str
    weight: float
    make: Callable[[Draw], dict[str, Any]]
    outcomes: frozenset[str] = frozenset({DONE})
    comparable: bool = True
    ends: str | None = None


def _chat(instruction: str, text: str, max_tokens: int, **sampling: float) -> dict[str, Any]:
    messages = [{"role": "system", "content": instruction}, {"role": "user", "content": text}]
    return {"messages": messages, "sampling": {"temperature": 0.0, "max_tokens": max_tokens, **sampling}}


def _short(draw: Draw) -> dict[str, Any]:
    return _chat(INSTRUCTION, draw.text(), draw.random.randint(1, 64))


def _long(draw: Draw) -> dict[str, Any]:
    return _chat(INSTRUCTION, draw.long_text(draw.random.uniform(0.3, 0.7)), draw.random.randint(1, 64))


def _drawn(draw: Draw) -> dict[str, Any]:
    seed = draw.random.randrange(1 << 31)
    return _chat(INSTRUCTION, draw.text(), 48, temperature=0.9, seed=seed)


def _schema(draw: Draw) -> dict[str, Any]:
    return _chat(INSTRUCTION, draw.text(), 96) | {"output": {"type": "json_schema", "schema": SCHEMA}}


def _grammar(draw: Draw) -> dict[str, Any]:
    return _chat(INSTRUCTION, draw.text(), 32) | {"output": {"type": "grammar", "grammar": GRAMMAR}}


def _choices(draw: Draw) -> dict[str, Any]:
    return _chat(CATEGORY, draw.text(), 8) | {"output": {"type": "choices", "choices": list(LABELS)}}


def _phrases(draw: Draw) -> dict[str, Any]:
    labels = [f"the fault is {label}, station {draw.random.randint(1, 9)}" for label in LABELS]
    return _chat(CATEGORY, draw.text(), 8) | {"output": {"type": "choices", "choices": labels}}


def _too_long(draw: Draw) -> dict[str, Any]:
    return _chat(INSTRUCTION, draw.long_text(8.0), 16)


def _bad_schema(draw: Draw) -> dict[str, Any]:
    return _chat(INSTRUCTION, draw.text(), 16) | {"output": {"type": "json_schema", "schema": {"type": "no"}}}


def _urgent(draw: Draw) -> dict[str, Any]:
    return _short(draw) | {"priority": 0}


def _abandoned(draw: Draw) -> dict[str, Any]:
    return _chat(INSTRUCTION, draw.long_text(0.5), 96)


TEXT_KINDS = (
    Kind("short", 20, _short),
    Kind("long", 8, _long),
    Kind("drawn", 6, _drawn, comparable=False),
    Kind("schema", 16, _schema),
    Kind("grammar", 4, _grammar),
    Kind("choices", 8, _choices),
    Kind("phrases", 4, _phrases),
    Kind("urgent", 6, _urgent),
    Kind("too long", 3, _too_long, frozenset({"prompt_too_long"})),
    Kind("bad schema", 2, _bad_schema, frozenset({"schema_invalid"})),
    Kind("cancelled", 8, _abandoned, frozenset({DONE, CANCELLED}), comparable=False, ends=CANCELLED),
    Kind("deadline", 6, _abandoned, _DEADLINE_CODES | {DONE}, comparable=False, ends=DEADLINE),
)


def album() -> dict[str, bytes]:
    """The pictures' files by their hash: so many are drawn from, again and again."""
    return {hashlib.sha256(file).hexdigest(): file for file in _pictures()}


@cache
def _pictures() -> tuple[bytes, ...]:
    """Good ones of two sizes, and last one that is none."""
    sides = (IMAGE_SIZE, 2 * IMAGE_SIZE)
    return (*(picture(seed, sides[seed % 2]) for seed in range(PICTURES)), NO_PICTURE)


def _look(draw: Draw, files: Sequence[bytes], max_tokens: int) -> dict[str, Any]:
    parts: list[dict[str, str]] = [
        {"type": "image", "sha256": hashlib.sha256(file).hexdigest()} for file in files
    ]
    content = [*parts, {"type": "text", "text": f"{QUESTION} {draw.text()}"}]
    sampling = {"temperature": 0.0, "max_tokens": max_tokens}
    return {"messages": [{"role": "user", "content": content}], "sampling": sampling}


def _picture(draw: Draw) -> dict[str, Any]:
    return _look(draw, [draw.random.choice(_pictures()[:-1])], draw.random.randint(1, 32))


def _two_pictures(draw: Draw) -> dict[str, Any]:
    return _look(draw, draw.random.sample(_pictures()[:-1], 2), draw.random.randint(1, 32))


def _corrupt_picture(draw: Draw) -> dict[str, Any]:
    return _look(draw, [NO_PICTURE], 8)


def _missing_picture(draw: Draw) -> dict[str, Any]:
    return _look(draw, [draw.random.randbytes(32)], 8)


def _abandoned_picture(draw: Draw) -> dict[str, Any]:
    return _look(draw, draw.random.sample(_pictures()[:-1], 2), 96)


IMAGE_KINDS = (
    Kind("picture", 8, _picture),
    Kind("two pictures", 4, _two_pictures),
    Kind("corrupt picture", 1, _corrupt_picture, frozenset({"image_corrupt"})),
    Kind("missing picture", 1, _missing_picture, frozenset({"image_missing"})),
    Kind(
        "picture cancelled",
        4,
        _abandoned_picture,
        frozenset({DONE, CANCELLED}),
        comparable=False,
        ends=CANCELLED,
    ),
    Kind(
        "picture deadline", 3, _abandoned_picture, _DEADLINE_CODES | {DONE}, comparable=False, ends=DEADLINE
    ),
)


def _embedding(draw: Draw) -> dict[str, Any]:
    return {"prompt": draw.text(), "output": {"type": "embedding"}}


def _long_embedding(draw: Draw) -> dict[str, Any]:
    return {"prompt": draw.long_text(0.5), "output": {"type": "embedding"}}


def _endless_embedding(draw: Draw) -> dict[str, Any]:
    return {"prompt": draw.long_text(16.0), "output": {"type": "embedding"}}


EMBEDDING_KINDS = (
    Kind("embedding", 20, _embedding),
    Kind("long embedding", 6, _long_embedding),
    Kind("embedding too long", 2, _endless_embedding, frozenset({"prompt_too_long"})),
    Kind(
        "embedding cancelled",
        4,
        _long_embedding,
        frozenset({DONE, CANCELLED}),
        comparable=False,
        ends=CANCELLED,
    ),
    Kind("embedding deadline", 3, _long_embedding, _DEADLINE_CODES | {DONE}, comparable=False, ends=DEADLINE),
)


def traffic(kinds: Sequence[Kind], n_ctx: int, seed: int) -> Iterator[Piece]:
    """Requests without end; the same seed gives the same ones, ids included."""
    draw = Draw(random.Random(seed), [report.text for report in labelled_reports(_TEXTS)], n_ctx)
    weights, number = [kind.weight for kind in kinds], 0
    while True:
        (kind,) = draw.random.choices(kinds, weights)
        request = {"id": f"s{seed}-{number}", "output": {"type": "text"}, "priority": 5, **kind.make(draw)}
        wait = draw.random.expovariate(4.0)
        yield Piece(
            kind.name, request, kind.outcomes,
            cancel_after=wait if kind.ends == CANCELLED else None,
            expires_in=wait if kind.ends == DEADLINE else None,
            comparable=kind.comparable,
        )  # fmt: skip
        number += 1


def crowds(slots: int, seed: int) -> Iterator[int]:
    """How many requests are to be under way, phase by phase: from one alone to a burst of four times the
    slots."""
    sizes = random.Random(f"crowds {seed}")
    while True:
        yield sizes.choice([1, max(1, slots // 2), slots, 4 * slots])
