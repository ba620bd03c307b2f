"""The jobs everybody gets: their lengths, and that they are the same ones each time."""

from benchmarks.mix import cut, mixed, sharing, token_counter
from benchmarks.shapes import STARTER


def characters(text: str) -> int:
    """A tokenizer with a token a character."""
    return len(text)


def test_jobs_are_the_same_for_a_seed() -> None:
    assert mixed(20, characters, seed=5) == mixed(20, characters, seed=5)
    assert mixed(20, characters, seed=5) != mixed(20, characters, seed=6)


def test_lengths_stay_within_their_bounds_and_fill_them() -> None:
    asks = mixed(200, characters, prompts=(20, 60), answers=(8, 16))
    prompts = [len(ask.prompt) for ask in asks]
    answers = [ask.answer_tokens for ask in asks]
    assert (min(prompts), max(prompts)) == (20, 60)
    assert (min(answers), max(answers)) == (8, 16)
    assert [ask.prompt_tokens for ask in asks] == prompts


def test_no_two_prompts_begin_alike() -> None:
    asks = mixed(50, characters)
    assert len({ask.prompt[:6] for ask in asks}) == 50


def test_a_shared_instruction_is_followed_by_what_is_ones_own() -> None:
    asks = sharing(10, characters, shared=100, own=30)
    assert len({ask.prompt[:100] for ask in asks}) == 1
    assert len({ask.prompt[100:] for ask in asks}) == 10
    assert {len(ask.prompt) for ask in asks} == {130}


def test_another_round_has_another_instruction() -> None:
    first, second = (sharing(1, characters, seed=seed)[0].prompt for seed in (1, 2))
    assert first[:300] != second[:300]


def test_a_text_is_cut_at_the_last_token_that_fits() -> None:
    def words(text: str) -> int:
        return len(text.split())

    assert cut("one two", 4, words, iter(["three four five"])) == "one two three four "


def test_tokens_are_counted_as_the_model_does() -> None:
    count = token_counter(STARTER)
    assert count("") == 0
    assert 1 <= count("solder bridge at U12") < len("solder bridge at U12")
    assert count("<|end|>") > 1  # a control token's name in a text is text
