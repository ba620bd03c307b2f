import math

import pytest

from workers.engine.completion import TokenLogprob
from workers.engine.grammar import check_grammar
from workers.remote.labels import chances_of, label_logprobs, label_of, labels_grammar


def token(text: str, **top: float) -> TokenLogprob:
    chances = {text: 1.0} | top
    return TokenLogprob(
        text, math.log(chances[text]), tuple((name, math.log(chance)) for name, chance in top.items())
    )


def test_the_label_is_read_in_both_forms() -> None:
    labels = ["pass", "fail", "a "]
    assert label_of("pass", labels, document=False) == "pass"
    assert label_of(" fail\n", labels, document=False) == "fail"
    assert label_of("a ", labels, document=False) == "a "
    assert label_of("passed", labels, document=False) is None
    assert label_of('{"choice": "fail"}', labels, document=True) == "fail"
    for text in ("fail", "[]", '{"choice": 1}', '{"choice": "none"}', '{"choice"'):
        assert label_of(text, labels, document=True) is None


def test_chances_are_those_of_the_token_where_labels_part() -> None:
    first = token("pass", **{"pass": 0.6, "fail": 0.2, "Fail": 0.1})
    found = label_logprobs("pass", [first], ["pass", "fail"], document=False)
    assert found == pytest.approx({"pass": math.log(0.6), "fail": math.log(0.2)})
    assert chances_of(found, 1.0) == pytest.approx({"pass": 0.75, "fail": 0.25})
    assert chances_of(found, 2.0)["pass"] == pytest.approx(3**0.5 / (1 + 3**0.5))


def test_in_a_document_the_token_may_hold_what_stands_before_and_behind() -> None:
    tokens = [token('{"choice":'), token(' "fa', **{' "fa': 0.3, ' "pass"': 0.5, ' "p': 0.1}), token('il"}')]
    found = label_logprobs('{"choice": "fail"}', tokens, ["pass", "fail"], document=True)
    assert found == pytest.approx({"pass": math.log(0.6), "fail": math.log(0.3)})


@pytest.mark.parametrize(
    ("text", "tokens", "why"),
    [
        ("pass", [token("pass", **{"pass": 0.6})], "fail is not among the alternatives"),
        ("pass", [token("pa", **{"pa": 0.6, "fail": 0.3, "": 0.1})], "pass and patch begin alike"),
        ("pass", [token("p�"), token("ss")], "the tokens are not the text's"),
        ("pass", [], "there are no tokens"),
    ],
)
def test_else_there_are_none(text: str, tokens: list[TokenLogprob], why: str) -> None:
    labels = ["pass", "fail", "patch"] if "alike" in why else ["pass", "fail"]
    assert label_logprobs(text, tokens, labels, document=False) is None, why


def test_a_label_that_begins_another_has_no_token_of_its_own() -> None:
    first = token("no", **{"no": 0.6, "not": 0.3})
    assert label_logprobs("no", [first], ["no", "not"], document=False) is None


def test_any_label_can_stand_in_a_grammar() -> None:
    grammar = labels_grammar(["板", 'a "b"\\', "line\nbreak", "\u200b"])
    check_grammar(grammar)
    assert '"a \\"b\\"\\\\"' in grammar
    assert "\n" not in grammar
