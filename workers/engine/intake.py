"""From a request to a sequence that is ready to run: what is wrong with it for this model is found here.

It knows the model's words, template and limits, not who else is running.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from functools import partial

from workers.engine.choices import Branches, LabelTrie
from workers.engine.constraint import Constraint
from workers.engine.content_free import Form, content_free_request
from workers.engine.errors import CHOICES_INVALID, OUTPUT_NOT_SUPPORTED, PROMPT_TOO_LONG, EngineError
from workers.engine.images import NO_ROWS, Image
from workers.engine.loader import Runtime
from workers.engine.request import ChoicesOutput, EmbeddingOutput, EngineRequest, GrammarOutput, SchemaOutput
from workers.engine.schema import compile_schema
from workers.engine.sequence import Scoring, Sequence


class Intake:
    """Prepares requests for one model."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._order = 0

    def without_images(self, request: EngineRequest) -> Sequence:
        """The request as if its images had no rows, for whoever asks before they are there. Raises
        EngineError for everything that they cannot mend.
        """
        return self.prepare(request, {image.sha256: NO_ROWS for image in request.images}, 0.0)

    def prepare(self, request: EngineRequest, images: Mapping[str, Image], arrived: float) -> Sequence:
        """A sequence without a slot; `images` are the request's, by hash. Raises EngineError with the field
        at fault.
        """
        if isinstance(request.output, EmbeddingOutput):
            raise EngineError(
                OUTPUT_NOT_SUPPORTED,
                f"the model {self._runtime.settings.model_name!r} generates text and makes no embeddings",
                field="output.type",
                remedy="send the job to a model with embedding: true in the catalogue (task: embed)",
            )
        if isinstance(request.output, ChoicesOutput) and request.output.prior and request.messages is None:
            raise EngineError(
                CHOICES_INVALID,
                "a raw prompt has no content that could be taken out of it",
                field="output.prior",
                remedy="send messages, or leave the prior out",
            )
        return self._sequence(request, images, arrived)

    def content_free(self, form: Form, waits: Sequence) -> Sequence:
        """The sequence that learns the prior of a form for `waits`. Raises EngineError."""
        # no frame's id can be this: it would have to hold a NUL
        name = f"\0content-free {self._order}"
        request = content_free_request(form, waits.request, name)
        one = self._sequence(request, waits.images, waits.marks.arrived)
        one.learns = form
        return one

    def _sequence(self, request: EngineRequest, images: Mapping[str, Image], arrived: float) -> Sequence:
        prompt = self._runtime.prompts.build(request, images)
        room = self._runtime.capacity - len(prompt.tokens)
        scoring = self._scoring(request, room)
        self._order += 1
        seed = request.sampling.seed
        if seed is None:
            seed = self._runtime.settings.seed
        sequence = Sequence(
            request,
            prompt,
            self._runtime.vocabulary,
            seed=secrets.randbits(32) if seed is None else seed,
            max_tokens=min(request.sampling.max_tokens, room),
            order=self._order,
            arrived=arrived,
            kind=_kind(request),
            constrain=self._constrain(request),
            scoring=scoring,
            jumps=self._runtime.settings.jump_forward,
        )
        sequence.images = images
        return sequence

    def _constrain(self, request: EngineRequest) -> Callable[[], Constraint] | None:
        """Compile the output's grammar now; what it returns begins a text under it."""
        output = request.output
        if isinstance(output, SchemaOutput):
            grammar = compile_schema(output.schema, whitespace=self._runtime.settings.json_whitespace)
        elif isinstance(output, GrammarOutput):
            grammar = output.grammar
        else:
            return None
        self._runtime.grammars.compile(grammar)
        return partial(self._runtime.grammars.begin, grammar)

    def _scoring(self, request: EngineRequest, room: int) -> Scoring | None:
        if not isinstance(request.output, ChoicesOutput):
            return None
        labels = request.output.choices
        tokens = tuple(tuple(self._runtime.vocabulary.tokenise(label).tolist()) for label in labels)
        # before the tree is built: what cannot run must not cost its rows either
        longest = max(len(label) for label in tokens)
        if longest > room:
            raise EngineError(
                PROMPT_TOO_LONG,
                f"the longest choice has {longest} tokens, {room} are left behind the prompt",
                field="output.choices",
                remedy="shorten the prompt or the label, or raise n_ctx in the model catalogue",
            )
        try:
            trie = LabelTrie(tokens, self._runtime.vocabulary.end_tokens)
        except ValueError as error:
            raise EngineError(
                CHOICES_INVALID,
                f"the choices are not distinct for this model's vocabulary: {error}",
                field="output.choices",
            ) from error
        paths = trie.paths()
        if paths and not self._runtime.rewinds:
            raise EngineError(
                CHOICES_INVALID,
                "this model's memory cannot be rewound, so only choices of one token can be scored",
                field="output.choices",
                remedy="use shorter labels or a grammar, or set swa_full: true where attention slides",
            )
        return Scoring(labels, trie, Branches(paths))


def _kind(request: EngineRequest) -> int:
    """Requests with one instruction and one output form have answers of like length."""
    first = request.messages[0] if request.messages else None
    instruction = first.content if first is not None and first.role == "system" else ""
    output = request.output
    form = ""
    if isinstance(output, SchemaOutput):
        form = json.dumps(output.schema)
    elif isinstance(output, GrammarOutput):
        form = output.grammar
    return hash((type(output), form, instruction))
