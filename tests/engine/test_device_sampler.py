"""Candidates found in the compute graph: the same texts, probabilities and draws as from whole rows.

llama.cpp runs the graph's samplers on the CPU too, so all of this needs no GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from workers.engine.llama.device_sampler import PATIENCE
from workers.engine.loader import Runtime
from workers.engine.model import EngineModel
from workers.engine.rows import RowWriter
from workers.engine.sampler import log_sum_exp, top_tokens
from workers.engine.shape import choose_in_graph

MakeYard = Callable[..., Any]
SCHEMA = {"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"]}


def completions(yard: Any, requests: dict[str, dict[str, Any]]) -> dict[str, Any]:
    for name, request in requests.items():
        yard.submit(name, **request)
    yard.run()
    assert yard.failed == {}
    return {
        name: (one["text"], one["choice"], one["confidence"], one["usage"]) for name, one in yard.done.items()
    }


def prompts(count: int, **request: Any) -> dict[str, dict[str, Any]]:
    return {f"job-{at}": {"prompt": f"Board {at}: " + "pass fail " * at} | request for at in range(count)}


def same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, (text, choice, confidence, usage) in one.items():
        assert (text, choice, usage) == (other[name][0], other[name][1], other[name][3]), name
        if confidence is not None:
            assert confidence == pytest.approx(other[name][2], abs=2e-6), name


@pytest.mark.parametrize("unified", [True, False])
def test_greedy_jobs_read_the_same_with_the_same_confidence(make_yard: MakeYard, unified: bool) -> None:
    requests = prompts(7, sampling={"max_tokens": 12})
    whole = completions(make_yard(kv_unified=unified), requests)
    same(completions(make_yard(kv_unified=unified, in_graph_sampling=True), requests), whole)


def test_a_seed_draws_the_same_tokens(make_yard: MakeYard) -> None:
    sampling = {"temperature": 1.1, "seed": 5, "max_tokens": 24, "top_k": 40, "top_p": 0.9, "min_p": 0.02}
    requests = prompts(5, sampling=sampling)
    whole = completions(make_yard(), requests)
    assert len({text for text, *_ in whole.values()}) == 5
    same(completions(make_yard(in_graph_sampling=True), requests), whole)


def test_jobs_that_need_whole_rows_share_steps_with_those_that_do_not(make_yard: MakeYard) -> None:
    kinds = [
        {},
        {"output": {"type": "json_schema", "schema": SCHEMA}},
        {"output": {"type": "choices", "choices": ["pass", "fail"]}},
        {"sampling": {"temperature": 0.8, "seed": 3}},
        {"sampling": {"temperature": 0.8, "seed": 3, "top_k": 0}},
        {"sampling": {"repeat_penalty": 1.3}},
        {"sampling": {"logprobs": 3}},
    ]
    # more than there are slots: each slot changes between the two ways
    requests = {f"{at}": {"prompt": f"Board {at} of many"} | kinds[at % len(kinds)] for at in range(21)}
    whole = completions(make_yard(kv_unified=True), requests)
    same(completions(make_yard(kv_unified=True, in_graph_sampling=True), requests), whole)


def test_a_context_made_anew_has_its_samplers_again(
    make_yard: MakeYard, load_tiny: Callable[..., Runtime]
) -> None:
    runtime = load_tiny(in_graph_sampling=True, n_slots=2)
    first = shortlists(runtime, [0, 1])
    runtime.context.want_candidates(1, 0)
    runtime.context.renew()
    again = shortlists(runtime, [0, 1])
    assert again[0] is not None and again[1] is None
    assert again[0].tokens.tolist() == first[0].tokens.tolist()


def shortlists(runtime: Runtime, sequences: list[int]) -> list[Any]:
    """Decode a short prompt in each sequence; what is known of its last row."""
    writer = RowWriter(runtime.context.batch)
    writer.clear()
    for sequence in sequences:
        writer.add_run(sequence, [40, 50 + sequence, 60], 0, outputs="last")
    assert runtime.context.decode(writer.n_rows) == 0
    return runtime.context.candidates(sequences)


def test_candidates_are_the_largest_logits_with_the_whole_rows_normaliser(
    load_tiny: Callable[..., Runtime],
) -> None:
    whole = load_tiny(kv_unified=True)
    assert shortlists(whole, [0, 1, 2]) == [None, None, None]
    logits = whole.context.logits(3).copy()
    device = load_tiny(kv_unified=True, in_graph_sampling=True)
    for sequence, count in ((0, 64), (1, 0), (2, 2)):
        device.context.want_candidates(sequence, count)
    many, none, few = shortlists(device, [0, 1, 2])
    assert none is None
    np.testing.assert_allclose(device.context.logits(3)[1], logits[1], atol=1e-5)
    assert many.tokens.tolist() == top_tokens(logits[0], 64).tolist()
    assert few.tokens.tolist() == top_tokens(logits[2], 2).tolist()
    np.testing.assert_allclose(many.logits, logits[0][many.tokens], atol=1e-5)
    assert [many.normaliser, few.normaliser] == pytest.approx(log_sum_exp(logits[[0, 2]]).tolist(), abs=1e-5)


def test_a_slot_goes_back_to_candidates_only_after_several_jobs_that_would_do_with_them(
    load_tiny: Callable[..., Runtime],
) -> None:
    runtime = load_tiny(in_graph_sampling=True, n_slots=1)
    runtime.context.want_candidates(0, 0)
    for _ in range(PATIENCE - 1):
        runtime.context.want_candidates(0, 2)
        assert shortlists(runtime, [0]) == [None]
        runtime.context.clear()
    runtime.context.want_candidates(0, 2)
    [one] = shortlists(runtime, [0])
    assert len(one.tokens) == 2


def test_by_itself_it_is_used_on_a_gpu_with_the_output_layer_alone() -> None:
    assert choose_in_graph(EngineModel("a", "b"), on_gpu=True)
    assert not choose_in_graph(EngineModel("a", "b", n_gpu_layers=20), on_gpu=True)
    assert not choose_in_graph(EngineModel("a", "b"), on_gpu=False)
    assert choose_in_graph(EngineModel("a", "b", in_graph_sampling=True), on_gpu=False)
    assert not choose_in_graph(EngineModel("a", "b", in_graph_sampling=False), on_gpu=True)


def test_views_on_the_buffers_are_made_once(
    load_tiny: Callable[..., Runtime], monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = load_tiny(in_graph_sampling=True)
    first = shortlists(runtime, [0, 1, 2])
    made: list[Any] = []
    real = np.ctypeslib.as_array
    monkeypatch.setattr(np.ctypeslib, "as_array", lambda *given: made.append(given) or real(*given))
    for sequences in ([0, 1, 2], [1, 2], [2]):
        runtime.context.clear()
        again = shortlists(runtime, sequences)
        assert [one.tokens.tolist() for one in again] == [first[at].tokens.tolist() for at in sequences]
    assert not made
