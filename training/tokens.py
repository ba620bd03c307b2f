"""The byte-level BPE tokeniser: learns merges from generated texts, encodes as llama.cpp will.

llama.cpp pre-tokenises pre-type "smollm" by single digits, then GPT-2's pattern. Merges are learned under a
stricter split (no merge across Chinese characters, none of a space with a capital) so that "在U12", "U12" and
"\"U12" all hold the same tokens U, 1, 2 and a designator can be copied token by token.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from training.template import END, PAD, SPECIALS, Example, pieces

PRE_TYPE = "smollm"
VOCAB_SIZE = 2048
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
_LEARN = r"\p{Han}|\p{N}| ?\p{Ll}+|\p{Lu}\p{Ll}+|\p{Lu}|[{}\":,]+|[^\s\p{L}\p{N}]| "


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of one example; `answer_at` is where the answer (with its end mark) begins."""

    ids: tuple[int, ...]
    answer_at: int


class Tokeniser:
    """Encodes text and examples; wraps the learned vocabulary and merges."""

    def __init__(self, learned: Tokenizer) -> None:
        """Wrap a learned tokeniser and give it the pre-tokeniser that llama.cpp applies."""
        self._tokenizer = learned
        self._tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(r"\p{N}"), "isolated"),
                pre_tokenizers.Split(Regex(_GPT2), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        self.special = {name: self.vocab[name] for name in SPECIALS}
        self.end = self.special[END]
        self.pad = self.special[PAD]
        self._cache: dict[str, tuple[int, ...]] = {}

    @property
    def vocab(self) -> dict[str, int]:
        """Token to id, special tokens included."""
        return dict(self._tokenizer.get_vocab())

    @property
    def merges(self) -> list[str]:
        """The merges in rank order, as GGUF wants them: two parts joined by a space."""
        model: dict[str, Any] = json.loads(self._tokenizer.to_str())["model"]
        return [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]

    def encode(self, text: str) -> tuple[int, ...]:
        """Encode plain text: a marker such as <|end|> inside it stays ordinary text."""
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def prompt(self, system: str | None, user: str) -> tuple[int, ...]:
        """Encode a prompt up to and including the assistant marker."""
        ids: list[int] = []
        for text, marker in pieces(system, user):
            if marker:
                ids.append(self.special[text])
            elif text == system:
                ids.extend(self._cache.setdefault(text, self.encode(text)))
            else:
                ids.extend(self.encode(text))
        return tuple(ids)

    def example(self, example: Example) -> Encoded:
        """Encode prompt, answer and end mark."""
        prompt = self.prompt(example.system, example.user)
        return Encoded((*prompt, *self.encode(example.answer), self.end), len(prompt))

    def decode(self, ids: Sequence[int]) -> str:
        """Decode plain tokens to text; special tokens are left out."""
        return str(self._tokenizer.decode(list(ids)))

    def save(self, path: Path) -> None:
        """Write the learned tokeniser as JSON."""
        self._tokenizer.save(str(path))

    @classmethod
    def load(cls, path: Path) -> "Tokeniser":
        """Read what `save` wrote."""
        return cls(_without_added(Tokenizer.from_file(str(path))))


def learn(texts: Iterable[str], vocab_size: int = VOCAB_SIZE) -> Tokeniser:
    """Learn a tokeniser of at most `vocab_size` tokens; the special tokens come first."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_LEARN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=4,
        special_tokens=[AddedToken(name, special=True) for name in SPECIALS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return Tokeniser(_without_added(tokenizer))


def _without_added(tokenizer: Tokenizer) -> Tokenizer:
    """Drop the special-token matcher: text is never parsed for markers; their ids stay in the vocabulary."""
    state: dict[str, Any] = json.loads(tokenizer.to_str())
    state["added_tokens"] = []
    return Tokenizer.from_str(json.dumps(state))
