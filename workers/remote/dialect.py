"""How endpoints spell what OpenAI's API has no words for, or what they spell otherwise.

Sources: llama-cpp-python's `server/types.py`, which the tests talk to; text-generation-webui's
`extensions/openai/typing.py` and vLLM's documentation of extra parameters, which they do not. It knows no
request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from batchyard.entry import Dialect


@dataclass(frozen=True, slots=True)
class Spelling:
    """One dialect. `options`: our sampling name to theirs, for those that OpenAI's API has not.

    `schema` is the type of `response_format` that carries a JSON schema (`json_schema`: OpenAI's form;
    `json_object`: with a key `schema` beside it), None if there is none. `grammar` is the key of a GBNF text.
    """

    max_tokens: str = "max_tokens"
    schema: str | None = "json_schema"
    grammar: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)


_OPTIONS: Final = {"top_k": "top_k", "min_p": "min_p"}
SPELLINGS: Final[Mapping[Dialect, Spelling]] = {
    "openai": Spelling(max_tokens="max_completion_tokens"),
    "compatible": Spelling(),
    "vllm": Spelling(options=_OPTIONS | {"repeat_penalty": "repetition_penalty"}),
    "llama_cpp": Spelling(
        grammar="grammar",
        options=_OPTIONS | {"typical_p": "typical_p", "repeat_penalty": "repeat_penalty"},
    ),
    "llama_cpp_python": Spelling(
        schema="json_object", grammar="grammar", options=_OPTIONS | {"repeat_penalty": "repeat_penalty"}
    ),
    "text_generation_webui": Spelling(
        schema=None,
        grammar="grammar_string",
        options=_OPTIONS | {"typical_p": "typical_p", "repeat_penalty": "repetition_penalty"},
    ),
}
