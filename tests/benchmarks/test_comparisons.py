"""The tables of the comparisons, and the contenders behind them with a real engine."""

import argparse
from pathlib import Path

import pytest

from batchyard.catalogue import load_catalogue
from batchyard.errors import EngineLost, JobFailed
from batchyard.hardware import load_hardware
from benchmarks import agreement, choices_vs_text, contenders, interactive, peers, queue_cost, shared_prefix
from benchmarks.contenders import LLAMA_SERVER, OURS, Field, Run
from benchmarks.engine_client import HARDWARE, completions, engine_child, profile_settings, setting
from benchmarks.mix import Ask, mixed, token_counter
from benchmarks.peer_servers import Lockstep, Serving
from benchmarks.shapes import STARTER, copy_endless
from router.policy import load_policy
from workers.profile import choose_profile, this_cpu


def run(design: str, seconds: float, at_once: int = 16) -> Run:
    """Ten jobs of 100 prompt and 20 generated tokens each, half of the prompts cached."""
    return Run(design, at_once, 10, seconds, 0.5, 0.01, 1000, 500, 200)


def test_rates_are_of_the_whole_run() -> None:
    one = run(OURS, 2.0)
    assert (one.rate, one.token_rate, one.hit_rate) == (5.0, 100.0, 0.5)


def test_the_engine_takes_turns_on_the_jobs_of_each_round(tmp_path: Path) -> None:
    model = tmp_path / "endless.gguf"
    copy_endless(STARTER, model)
    count = token_counter(model)
    field = Field(None, None, None, n_batch=256, settings={"kv_unified": False})
    serving = Serving(model, slots=2, n_ctx=256, threads=1, environ={"GOMP_SPINCOUNT": "100"})
    rounds, turns = [mixed(3, count, seed, answers=(2, 4)) for seed in (0, 1)], []

    def jobs_of(number: int) -> list[Ask]:
        turns.append(f"round {number}")
        return rounds[number]

    runs = contenders.take_turns(
        field, serving, jobs_of, rounds[0][:1], 2, exact=True, interlude=lambda: turns.append("lockstep")
    )
    assert [one.design for one in runs] == [OURS, OURS]
    assert turns == ["round 0", "lockstep", "round 1", "lockstep"]
    assert [one.prompt_tokens for one in runs] == [sum(ask.prompt_tokens for ask in asks) for asks in rounds]
    asked = [sum(ask.answer_tokens for ask in asks) for asks in rounds]
    assert [one.generated_tokens for one in runs] == asked
    assert all(one.processor_seconds > 0 for one in runs)


def test_an_answer_of_another_length_ends_the_comparison() -> None:
    """The starter ends its texts before 200 tokens; its endless copy is what is compared on."""
    asks = mixed(1, token_counter(STARTER), answers=(200, 200))
    field = Field(None, None, None, n_batch=None, settings={})
    serving = Serving(STARTER, slots=1, n_ctx=512, threads=1, environ={})
    with pytest.raises(JobFailed, match="asked for 200"):
        contenders.take_turns(field, serving, lambda number: asks, [], 1, exact=True)
    (run,) = contenders.take_turns(field, serving, lambda number: asks, [], 1, exact=False)
    assert run.generated_tokens < 200


def test_without_layers_on_a_gpu_nobody_sees_one() -> None:
    parser = argparse.ArgumentParser()
    contenders.add_options(parser)
    serving = contenders.serving_of(parser.parse_args([]), STARTER, 1, 256)
    assert (serving.n_gpu_layers, serving.environ["CUDA_VISIBLE_DEVICES"]) == (0, "")


def test_the_engine_has_what_the_profile_gives_a_worker() -> None:
    profile = choose_profile(load_hardware(HARDWARE), [], this_cpu())
    found = profile_settings(0)
    assert found["n_batch"] == profile.settings.n_batch
    assert "memory_budget" not in found


def test_options_name_who_takes_part() -> None:
    parser = argparse.ArgumentParser()
    contenders.add_options(parser)
    options = parser.parse_args(["--llama-server", "/x", "--engine-setting", "kv_unified=true"])
    field = contenders.field_of(options)
    assert field.settings == {"kv_unified": True}
    serving = contenders.serving_of(options, Path("model.gguf"), 16, 512)
    assert list(field.contenders(serving)) == [OURS, LLAMA_SERVER]
    assert serving.environ["GOMP_SPINCOUNT"] == "300000"


def test_the_table_of_peers_has_ratios_to_llama_server() -> None:
    meeting = peers.Meeting([run(OURS, 1.0), run(LLAMA_SERVER, 2.0)], [Lockstep(16, 110, 52, 1.0, 1.0)])
    ours, theirs, lockstep = peers.body_of([meeting]).splitlines()[2:]
    assert ours.split()[-6:] == ["16", "10.00", "200", "2.00", "50.0", "1.0"]
    assert theirs.split()[-3] == "1.00"
    assert lockstep.split()[1:5] == ["16", "8.00", "416", "1.60"]


def test_the_table_of_shared_instructions_has_hit_rates() -> None:
    body = shared_prefix.body_of([run(OURS, 1.0), run(LLAMA_SERVER, 4.0)])
    assert body.splitlines()[2].split()[-4:] == ["10.00", "4.00", "50.0", "%"]


def test_answers_that_differ_are_shown() -> None:
    found = agreement.compare(["a", "b"], ["x", "y"], ["x", "z"])
    assert (found.asked, found.equal) == (2, 1)
    assert "equal to llama-server's, greedy: 1 of 2" in found.sentence() and "theirs: z" in found.sentence()


def test_a_label_is_chosen_and_generated_by_the_same_engine() -> None:
    catalogue = load_catalogue(Path("configs/models.yaml"))
    labels = choices_vs_text.own_labels(catalogue)
    asked = [choices_vs_text.Labelled("Solder bridge between pin 3 and pin 4 of U7.", "soldering", "en")]
    with engine_child(STARTER, slots=1, n_ctx=256, threads=1, n_batch=256) as engine:
        runs = [
            choices_vs_text.measure(engine, catalogue, form, output, asked, 1)
            for form, output in choices_vs_text.forms(labels).items()
        ]
    assert [one.right for one in runs] == [1.0] * 3
    assert runs[0].steps == 1.0 < runs[1].steps
    assert "choices" in choices_vs_text.body_of(runs)


def test_latencies_are_compared_with_the_idle_yard() -> None:
    idle = [interactive.Sample(0.01, 0.002, 0.0, 0.008, True)] * 10
    busy = [interactive.Sample(0.02, 0.004, 0.0, 0.016, True)] * 10
    phases = [
        interactive.Phase("idle", idle), interactive.Phase("busy", busy, left=7, rate=3.0),
        interactive.Phase("busy", busy, left=9, rate=5.0), interactive.Phase("idle", idle),
    ]  # fmt: skip
    body = interactive.body_of(phases)
    assert body.splitlines()[3].split() == [
        "busy,",
        "all",
        "20",
        "20.0",
        "20.0",
        "2.00",
        "2.00",
        "4.0",
        "0.0",
        "16.0",
        "0",
    ]
    assert [row.split()[:3] for row in body.splitlines()[4:8]] == [
        [f"{n}:", yard, "10"] for n, yard in enumerate(("idle", "busy", "busy", "idle"), 1)
    ]
    assert "4.0 (3.0-5.0) batch jobs/s; 7 still waited" in body


def test_the_measured_model_is_a_yard_of_its_own(tmp_path: Path) -> None:
    queue_cost.write_configs(tmp_path, STARTER, slots=4)
    catalogue = load_catalogue(tmp_path / "models.yaml")
    assert catalogue.model(queue_cost.MODEL).n_slots == 4
    policy = load_policy(tmp_path / "routing.yaml")
    assert policy.default.model == queue_cost.MODEL


def test_the_cost_of_the_queue_is_a_share_of_the_engine() -> None:
    runs = [
        queue_cost.Run(design, 10, seconds, 500, 0)
        for design, seconds in (("bare engine", 1.0), ("whole path", 2.0), ("Celery + Llama()", 4.0))
    ]
    path = queue_cost.body_of(runs).splitlines()[3]
    assert path.split()[-4:] == ["250", "0.50", "2.00", "0"]


def test_a_refused_request_ends_the_comparison() -> None:
    with (
        engine_child(STARTER, slots=1, n_ctx=256, threads=1) as engine,
        pytest.raises(EngineLost, match="bad"),
    ):
        completions(engine, [{"id": "bad", "prompt": "x", "priority": 77}], 1)


def test_a_setting_is_a_name_and_json() -> None:
    assert setting("kv_unified=true") == ("kv_unified", True)
    with pytest.raises(ValueError, match="NAME=JSON"):
        setting("kv_unified")
