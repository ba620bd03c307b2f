"""The hook that aborts the engine; what it does to a worker is tested in `tests/workers/test_poison.py`."""

import pytest

from workers.engine import abort_on
from workers.engine.abort_on import VARIABLE, AbortOn

MARKED = {"op": "submit", "request": {"messages": [{"role": "user", "content": '不要 "碰" U99'}]}}


@pytest.fixture
def aborts(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    calls: list[None] = []
    monkeypatch.setattr(abort_on.os, "abort", lambda: calls.append(None))
    return calls


@pytest.mark.parametrize(
    "text, message, expected",
    [
        ("不要", MARKED, 1),
        ("", MARKED, 0),
        ("something else", MARKED, 0),
        ("不要", {"op": "cancel", "id": "不要"}, 0),
    ],
)
def test_only_a_request_with_the_text_arms_it(
    aborts: list[None], text: str, message: dict[str, object], expected: int
) -> None:
    hook = AbortOn.from_environment({VARIABLE: text} if text else {})
    hook.step_done()
    hook.see(message)
    hook.see({"op": "stats"})
    assert aborts == [], "not before a step with it is done"
    hook.step_done()
    assert len(aborts) == expected
