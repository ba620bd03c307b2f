"""A job's whole path: submitted, classified, routed, batched through a GGUF model, answered."""

import pytest

from batchyard.client import Client

pytestmark = pytest.mark.yard


def test_a_mixed_batch_is_answered_and_each_result_says_why_and_by_what(client: Client) -> None:
    jobs = [
        {"prompt": "Board K3: solder bridge found at U7 between pin 1 and pin 2."},
        {"prompt": "hello, good morning"},
        {"prompt": "What will the weather in Paris be like on Sunday?"},
        {"prompt": "板K3：U7第1脚和第2脚连锡。"},
    ] * 5
    handle = client.submit_many(jobs, batch="mixed")
    results = list(client.results("mixed", timeout=60))
    assert len(results) == handle.submitted == 20
    for result in results:
        assert result.ok, result.error
        assert result.route is not None
        assert result.route.reason
        assert result.provenance is not None
        assert len(result.provenance.model_sha256) == 64
        assert result.timings.total_s > 0
        assert result.usage.completion_tokens > 0
    verdicts = [result for result in results if result.route and result.route.task == "defect_detect"]
    assert len(verdicts) == 10
    for result in verdicts:
        assert isinstance(result.parsed, dict)
        assert set(result.parsed) == {"verdict", "defect", "ref", "location"}
    weather = [result for result in results if result.route and result.route.out_of_scope]
    assert len(weather) == 5
    assert {result.route.model for result in weather if result.route} == {"chat"}


def test_the_instruction_is_computed_once(client: Client) -> None:
    jobs = [{"prompt": f"Board {n}: R{n} missing.", "task": "defect_detect"} for n in range(30)]
    client.submit_many(jobs, batch="prefix")
    results = list(client.results("prefix", timeout=60))
    assert sum(result.usage.cached_tokens > 0 for result in results) >= 29


def test_choices_answer_with_a_distribution(client: Client) -> None:
    labels = ["soldering", "placement", "contamination", "none"]
    job_id = client.submit(
        prompt="Categorise this report: board K3, solder bridge at U7.",
        task="text_cls",
        output={"type": "choices", "choices": labels},
    )
    result = client.result(job_id, timeout=60).value()
    assert result.choice in labels
    assert result.choice_probabilities is not None
    assert set(result.choice_probabilities) == set(labels)
    assert sum(result.choice_probabilities.values()) == pytest.approx(1.0)
    assert result.choice == max(result.choice_probabilities, key=result.choice_probabilities.__getitem__)


def test_batch_jobs_do_not_hold_up_an_interactive_one(client: Client) -> None:
    client.submit_many(
        ({"prompt": f"Board {n}: R{n} missing.", "task": "defect_detect"} for n in range(400)), batch="bulk"
    )
    urgent = client.submit(prompt="Board Z: U1 shifted.", task="defect_detect", priority="interactive")
    client.result(urgent, timeout=60).value()
    assert client.batch("bulk").done < 400
    assert len(list(client.results("bulk", timeout=60))) == 400
