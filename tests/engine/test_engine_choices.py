"""Labels through a running engine: among others, out of their slot and back, and where forks are few."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from workers.engine.output_rows import OutputRow

Make = Callable[..., Any]
LABELS = [
    f"{kind} {side} {at}xyz" for kind in ("bridge", "joint") for side in ("top", "low") for at in range(10)
]


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def pick(yard: Any, name: str, labels: list[str] = LABELS, **request: Any) -> None:
    yard.submit(name, messages=user("which?"), output={"type": "choices", "choices": labels}, **request)


def scores(yard: Any, name: str) -> dict[str, float]:
    assert name not in yard.failed, yard.failed[name]
    return dict(yard.done[name]["choice_logprobs"])


def scoring(yard: Any, name: str) -> bool:
    """Whether a job has a slot and some of its labels behind it."""
    one = yard.engine._known.get(name)
    return one is not None and one.slot >= 0 and not one.pending and one.scoring.branches.held > 0


@pytest.fixture
def expected(make_yard: Make) -> dict[str, float]:
    yard = make_yard(n_slots=1)
    pick(yard, "alone")
    yard.run()
    return scores(yard, "alone")


@pytest.mark.parametrize("unified", [True, False])
@pytest.mark.parametrize("shares", [True, False])
def test_labels_that_give_way_while_they_are_scored_are_scored_again(
    make_yard: Make, expected: dict[str, float], unified: bool, shares: bool
) -> None:
    yard = make_yard(n_slots=2, kv_unified=unified, prefix_cache=shares)
    context = yard.engine._runtime.context
    codes: list[int] = []

    def decode(n_rows: int, real: Any = context.decode) -> int:
        # once the labels have given way often enough the next step with some of them fails too
        fails = yard.engine.stats()["retreats"] >= 3 and not any(codes) and scoring(yard, "labels")
        codes.append(-3 if fails else real(n_rows))
        return codes[-1]

    context.decode = decode
    pick(yard, "labels")
    yard.submit("neighbour", messages=user("write"), sampling={"max_tokens": 60})
    urgent = 0
    while not yard.engine.idle:
        if scoring(yard, "labels") and yard.engine.stats()["retreats"] < 3:
            for _ in range(2):
                yard.submit(f"now {urgent}", messages=user("!"), priority=0, sampling={"max_tokens": 1})
                urgent += 1
        yard.step()
    stats = yard.engine.stats()
    assert not yard.failed
    assert stats["retreats"] >= 3
    assert (stats["recovered"], [code for code in codes if code]) == (1, [-3])
    assert scores(yard, "labels") == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("unified", [True, False])
def test_more_labels_than_rows_and_forks_take_a_few_steps(
    make_yard: Make, expected: dict[str, float], unified: bool
) -> None:
    yard = make_yard(kv_unified=unified)
    for at in range(3):
        yard.submit(f"busy {at}", messages=user("write"), sampling={"max_tokens": 60})
    pick(yard, "labels")
    yard.run()
    assert scores(yard, "labels") == pytest.approx(expected, abs=0.02)
    assert yard.done["labels"]["timings"]["steps"] <= (8 if unified else 12)


def test_tokens_of_labels_in_a_slot_are_counted(make_yard: Make) -> None:
    yard = make_yard(kv_unified=True, prefix_cache=False)
    pick(yard, "labels")
    counted = []
    while not yard.engine.idle:
        yard.step()
        if scoring(yard, "labels"):
            one = yard.engine._known["labels"]
            counted.append(yard.engine.stats()["cells_used"] - len(one.prompt) - one.scoring.branches.held)
    assert counted and set(counted) == {0}
    assert yard.engine.stats()["cells_used"] == 0


@pytest.mark.parametrize("unified", [True, False])
def test_forks_have_whole_rows_where_slots_have_candidates(
    make_yard: Make, expected: dict[str, float], unified: bool
) -> None:
    yard = make_yard(kv_unified=unified, in_graph_sampling=True)
    yard.submit("text", messages=user("write"), sampling={"max_tokens": 20})
    for name in ("a", "b"):
        pick(yard, name)
    yard.run()
    assert "text" in yard.done
    for name in ("a", "b"):
        assert scores(yard, name) == pytest.approx(expected, abs=0.02)
    assert yard.engine.stats()["recovered"] == 0


def test_a_row_that_cannot_be_scored_fails_its_job_alone(
    make_yard: Make, expected: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    yard = make_yard(n_slots=3)
    for name in ("bad", "good"):
        pick(yard, name)
    yard.submit("text", messages=user("write"), sampling={"max_tokens": 20})
    real = yard.engine._paths.score

    def score(one: Any, sequence_id: int, row: OutputRow) -> None:
        if one.request.id == "bad":
            row = OutputRow(row.logits[:2], 0, row.normaliser, row.logits[:2].astype("int32"))
        real(one, sequence_id, row)

    monkeypatch.setattr(yard.engine._paths, "score", score)
    yard.run()
    assert yard.failed["bad"]["code"] == "decode_failed"
    assert sorted(yard.done) == ["good", "text"]
    assert scores(yard, "good") == pytest.approx(expected, abs=0.02)
    assert yard.engine._memory.free_slots == 3
