"""Choices with a content-free prior: learned once a form, waited for, and failed with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from workers.engine.content_free import CONTENT_FREE, form_of
from workers.engine.errors import EngineError
from workers.engine.intake import Intake
from workers.engine.priors import Priors
from workers.engine.request import EngineRequest

LABELS = ["pass", "fail", "open joint"]
PLAIN = {"type": "choices", "choices": LABELS}
PRIOR = PLAIN | {"prior": "content_free"}


def chat(text: str, system: str = "Judge the board.") -> list[dict[str, str]]:
    return [{"role": "system", "content": system}, {"role": "user", "content": text}]


def probabilities(done: dict[str, Any]) -> list[float]:
    return [done["choice_probabilities"][label] for label in LABELS]


@pytest.mark.parametrize("unified", [True, False])
def test_the_prior_is_what_the_labels_score_without_content(
    make_yard: Callable[..., Any], unified: bool
) -> None:
    yard = make_yard(kv_unified=unified)
    yard.submit("plain", messages=chat("R12 is missing"), output=PLAIN)
    yard.submit("free", messages=chat(CONTENT_FREE), output=PLAIN)
    yard.submit("corrected", messages=chat("R12 is missing"), output=PRIOR)
    yard.submit("itself", messages=chat(CONTENT_FREE), output=PRIOR)
    done = yard.run()
    scores = np.array([done["plain"]["choice_logprobs"][label] for label in LABELS])
    free = np.array([done["free"]["choice_logprobs"][label] for label in LABELS])
    expected = np.exp(scores - free) / np.exp(scores - free).sum()
    assert probabilities(done["corrected"]) == pytest.approx(expected.tolist(), rel=1e-3)
    assert done["corrected"]["choice_logprobs"] == pytest.approx(done["plain"]["choice_logprobs"], rel=1e-3)
    assert probabilities(done["itself"]) == pytest.approx([1 / 3] * 3, rel=1e-2)
    assert abs(np.array(probabilities(done["plain"])) - expected).max() > 0.01


def test_a_prior_is_learned_once_and_nobody_sees_how(yard: Any) -> None:
    for at in range(6):
        yard.submit(str(at), messages=chat(f"board {at}"), output=PRIOR)
    yard.run()
    assert sorted(yard.done) == sorted(yard.started) == [str(at) for at in range(6)]
    first = yard.engine.stats()
    assert (first["done"], first["waiting"], first["running"]) == (6, 0, 0)
    yard.submit("later", messages=chat("board 7"), output=PRIOR)
    yard.run()
    yard.submit("bare", messages=chat("board 7"), output=PLAIN)
    yard.run()
    assert yard.done["later"]["timings"]["wait_s"] >= 0
    assert yard.done["later"]["timings"]["steps"] == yard.done["bare"]["timings"]["steps"]
    assert yard.engine.idle


def test_length_and_temperature_are_the_request_s(yard: Any) -> None:
    yard.submit("sum", messages=chat("a"), output=PLAIN)
    yard.submit("mean", messages=chat("a"), output=PLAIN | {"length_normalization": "mean"})
    yard.submit("soft", messages=chat("a"), output=PLAIN | {"temperature": 50.0})
    done = yard.run()
    assert len({len(label) for label in LABELS}) > 1
    assert probabilities(done["mean"]) != pytest.approx(probabilities(done["sum"]), abs=1e-3)
    scores = np.array([done["sum"]["choice_logprobs"][label] for label in LABELS])
    soft = np.exp((scores - scores.max()) / 50)
    assert probabilities(done["soft"]) == pytest.approx((soft / soft.sum()).tolist(), rel=1e-3)


def test_a_raw_prompt_has_no_content_to_take_out(yard: Any) -> None:
    yard.submit("raw", prompt="verdict:", output=PRIOR)
    assert (yard.failed["raw"]["code"], yard.failed["raw"]["field"]) == ("choices_invalid", "output.prior")


def test_those_who_wait_for_a_prior_can_be_cancelled_and_expire(make_yard: Callable[..., Any]) -> None:
    now = [100.0]
    yard = make_yard(wall=lambda: now[0])
    yard.submit("first", messages=chat("a"), output=PRIOR)
    yard.submit("gone", messages=chat("b"), output=PRIOR)
    yard.submit("late", messages=chat("c"), output=PRIOR, deadline=150.0)
    yard.cancel("gone")
    now[0] = 200.0
    assert set(yard.run()) == {"first"}
    assert {name: error["code"] for name, error in yard.failed.items()} == {
        "gone": "cancelled",
        "late": "deadline_exceeded",
    }


def test_a_prior_that_fails_fails_those_who_wait_for_it_and_is_tried_again(
    yard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = yard.engine._runtime.context
    with monkeypatch.context() as broken:
        broken.setattr(context, "decode", lambda _rows: -3)
        yard.submit("a", messages=chat("a"), output=PRIOR)
        yard.submit("b", messages=chat("b"), output=PRIOR)
        yard.run()
    assert {error["code"] for error in yard.failed.values()} == {"decode_failed"}
    assert set(yard.failed) == {"a", "b"}
    yard.submit("again", messages=chat("a"), output=PRIOR)
    assert set(yard.run()) == {"again"}


def test_an_interactive_job_does_not_wait_for_a_batch_job_s_prior(make_yard: Callable[..., Any]) -> None:
    yard = make_yard(n_slots=1)
    for at in range(5):
        yard.submit(f"text {at}", messages=chat("write"), priority=6, sampling={"max_tokens": 4})
    yard.submit("batch", messages=chat("a"), output=PRIOR, priority=6)
    yard.submit("urgent", messages=chat("b"), output=PRIOR, priority=0)
    yard.run()
    order = list(yard.done)
    assert order.index("urgent") < order.index("text 1")
    assert set(order) >= {"batch", "urgent"}


def test_the_content_is_the_last_user_message() -> None:
    shots = [
        {"role": "system", "content": "Judge."},
        {"role": "user", "content": "good board"},
        {"role": "assistant", "content": "pass"},
        {"role": "user", "content": "burnt board"},
    ]
    form = form_of(EngineRequest.parse({"id": "a", "messages": shots, "output": PRIOR}))
    assert form is not None
    assert [one.content for one in form.messages] == ["Judge.", "good board", "pass", CONTENT_FREE]
    assert form_of(EngineRequest.parse({"id": "a", "messages": shots, "output": PLAIN})) is None


def test_priors_least_recently_used_are_forgotten(yard: Any) -> None:
    priors = Priors(remembered=2)
    intake = Intake(yard.engine._runtime)
    made: list[str] = []

    def make(form: Any, waits: Any) -> Any:
        made.append(form.messages[0].content)
        return intake.content_free(form, waits)

    def ask(system: str) -> bool:
        frame = {"id": "x", "messages": chat("board", system), "output": PRIOR}
        one = intake.prepare(EngineRequest.parse(frame), {}, 0.0)
        (entering,) = priors.arrive(one, make)
        if entering is one:
            return True
        assert priors.learn(entering.learns, np.zeros(3)) == [one]
        return False

    assert [ask(system) for system in ("a", "b", "a", "c", "a", "b")] == [
        False,
        False,
        True,
        False,
        True,
        False,
    ]
    assert made == ["a", "b", "c", "b"]


def test_a_prior_fails_nobody_while_another_job_still_learns_it(
    make_yard: Callable[..., Any],
) -> None:
    yard = make_yard(n_slots=2)
    engine = yard.engine
    yard.submit("batch", messages=chat("a"), output=PRIOR, priority=6)
    yard.submit("urgent", messages=chat("b"), output=PRIOR, priority=0)
    learners = [name for name in engine._known if name.startswith("\0")]
    assert len(learners) == 2
    engine._fail(engine._known[learners[0]], EngineError("decode_failed", "broken"))
    assert set(yard.run()) == {"batch", "urgent"}
    assert not yard.failed
