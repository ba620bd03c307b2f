"""Models whose attention slides over a window."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from llama_cpp import llama_cpp as c


@pytest.mark.parametrize("window", [0, 64])
@pytest.mark.parametrize("whole", [True, False])
def test_labels_of_several_tokens_need_a_memory_that_keeps_what_is_behind_the_window(
    make_yard: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, window: int, whole: bool
) -> None:
    monkeypatch.setattr(c, "llama_model_n_swa", lambda _model: window)
    yard = make_yard(swa_full=whole)
    for name, labels in (("long", ["open joint", "bridge"]), ("short", ["A", "B"])):
        yard.submit(name, prompt="Verdict: ", output={"type": "choices", "choices": labels})
    yard.run()
    assert "short" in yard.done
    assert ("long" in yard.done) == (whole or not window)
    if "long" in yard.failed:
        assert "swa_full" in yard.failed["long"]["remedy"]
