"""The jobs that the engines are compared on: texts of given lengths, the same ones for everybody.

Lengths are counted in tokens of the model at hand, by its own tokenizer, and drawn from a seeded generator.
Pure, but for `token_counter`, which reads a model's vocabulary.
"""

import random
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from batchyard.errors import JobFailed
from benchmarks.reports import labelled_reports

Counter = Callable[[str], int]
PROMPT_TOKENS = (20, 200)
ANSWER_TOKENS = (8, 96)
_TEXTS = 400


@dataclass(frozen=True, slots=True)
class Ask:
    """One job: a raw prompt of about `prompt_tokens` tokens and exactly `answer_tokens` to generate (or
    fewer, where the model ends its text)."""

    id: str
    prompt: str
    prompt_tokens: int
    answer_tokens: int

    def frame(self) -> dict[str, object]:
        """As the engine's `submit` carries it, greedy."""
        sampling = {"temperature": 0.0, "max_tokens": self.answer_tokens}
        return {"id": self.id, "prompt": self.prompt, "sampling": sampling}


def check_lengths(design: str, asks: Sequence[Ask], generated: Sequence[int]) -> None:
    """Refuse a comparison in which one design generated other lengths than it was asked for.

    Raises:
        JobFailed: code `wrong_length`; the model ended a text, or the design cut one short.
    """
    for ask, tokens in zip(asks, generated, strict=True):
        if tokens != ask.answer_tokens:
            raise JobFailed(
                f"{design} generated {tokens} tokens for {ask.id}, asked for {ask.answer_tokens}",
                "wrong_length",
                remedy="compare on a model that ends no text: starter, 1.1B, 7B",
            )


def token_counter(model: Path) -> Counter:
    """Counts a text's tokens as this model would; of the file only the vocabulary is read.

    Raises ValueError where it is no GGUF.
    """
    from llama_cpp import llama_cpp as c

    from workers.engine.llama.log import Log
    from workers.engine.llama.vocabulary import Vocabulary

    log = Log(verbose=False)
    params = c.llama_model_default_params()
    params.vocab_only = True
    pointer = c.llama_model_load_from_file(str(model).encode(), params)
    if not pointer:
        raise ValueError(f"{model} cannot be read: {log.last_errors()}")
    vocabulary = Vocabulary(c.llama_model_get_vocab(pointer))
    return lambda text: len(vocabulary.tokenise(text))


def mixed(
    count: int, counter: Counter, seed: int = 1, prompts: tuple[int, int] = PROMPT_TOKENS,
    answers: tuple[int, int] = ANSWER_TOKENS,
) -> list[Ask]:  # fmt: skip
    """Jobs whose lengths are uniform over the bounds; no two begin alike, so none helps another."""
    lengths, texts = random.Random(seed), _endless_text(seed)
    asks = []
    for number in range(count):
        prompt = cut(f"{number:05d}: {next(texts)}", lengths.randint(*prompts), counter, texts)
        asks.append(Ask(f"j{number}", prompt, counter(prompt), lengths.randint(*answers)))
    return asks


def sharing(
    count: int, counter: Counter, seed: int = 1, shared: int = 300, own: int = 30,
    answers: tuple[int, int] = (4, 16),
) -> list[Ask]:  # fmt: skip
    """Jobs with one instruction of `shared` tokens, then `own` tokens that no other job has."""
    lengths, texts = random.Random(seed), _endless_text(seed)
    instruction = cut("Read the report and answer with the verdict.", shared, counter, texts)
    asks = []
    for number in range(count):
        tail = cut(f"\nReport {number:05d}: {next(texts)}", own, counter, texts)
        prompt = instruction + tail
        asks.append(Ask(f"j{number}", prompt, counter(prompt), lengths.randint(*answers)))
    return asks


def cut(text: str, tokens: int, counter: Counter, more: Iterator[str]) -> str:
    """The longest beginning of `text`, continued with `more` where it is too short, of at most `tokens`
    tokens."""
    while counter(text) < tokens:
        text = f"{text} {next(more)}"
    lengths: Sequence[int] = range(1, len(text) + 1)
    kept = bisect_right(lengths, tokens, key=lambda length: counter(text[:length]))
    return text[: max(1, kept)]


def _endless_text(seed: int) -> Iterator[str]:
    texts = [report.text for report in labelled_reports(_TEXTS)]
    random.Random(seed).shuffle(texts)
    return cycle(texts)
