"""The GPU benchmark: what follows from figures, energy from power, and a short run on this machine's CPU."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.gpu_figures import Case, Decoding, Figures, cases, in_turns, joined, report, suggest
from benchmarks.power import PowerMeter, joules

ROOT = Path(__file__).resolve().parents[2]
# public step times of a P40 with an 8B Q4 (docs/design.md)
P40_ROWS = {16: (37.0,), 32: (59.0,), 64: (89.0,), 128: (154.0,), 256: (281.0,), 512: (546.0,)}


def figures(**milliseconds: float) -> Figures:
    """Decoding at 16 slots takes 20 ms, or what is given for another case."""
    usual, no_flash, quantised, in_graph = cases()
    named = {"no_flash": no_flash, "quantised": quantised, "in_graph": in_graph}
    times = dict.fromkeys(cases(), 20.0) | {named[name]: value for name, value in milliseconds.items()}
    decoding = [Decoding(case, 16, (value,), None, None) for case, value in times.items()]
    return Figures(P40_ROWS, {}, (Decoding(usual, 1, (99.0,), None, None), *decoding))


def test_the_largest_step_within_the_limit_is_suggested() -> None:
    assert suggest(figures(), 160.0)["n_batch"] == 128
    assert suggest(figures(), 300.0)["n_ubatch"] == 256
    assert suggest(figures(), 1.0)["n_batch"] == 16, "the smallest that was measured, where none is within"


def test_flash_attention_is_left_out_only_where_it_is_slower() -> None:
    assert suggest(figures(no_flash=25.0), 160.0)["flash_attn"] is True
    assert suggest(figures(no_flash=19.8), 160.0)["flash_attn"] is True, "within a spread"
    assert suggest(figures(no_flash=15.0), 160.0)["flash_attn"] is False


def test_sampling_in_the_graph_must_win_by_more_than_a_spread() -> None:
    assert suggest(figures(in_graph=19.8), 160.0)["in_graph_sampling"] is False
    assert suggest(figures(in_graph=15.0), 160.0)["in_graph_sampling"] is True


def test_cases_take_turns_there_and_back() -> None:
    asked = []

    def measured(case: Case, slots: int, steps: int) -> Decoding:
        asked.append(case)
        return Decoding(case, slots, (float(len(asked)),) * steps, None, None)

    found = in_turns(4, 3, measured)
    assert asked == [*cases(), *reversed(cases())]
    assert [one.case for one in found] == cases()
    assert found[0].milliseconds == (1.0, 1.0, 8.0) and found[-1].milliseconds == (4.0, 4.0, 5.0)


def test_two_measurements_of_a_case_are_one() -> None:
    one = joined(Decoding(Case(), 4, (1.0, 2.0, 3.0), 1.0, 7), Decoding(Case(), 4, (5.0,), 2.0, 9))
    assert one == Decoding(Case(), 4, (1.0, 2.0, 3.0, 5.0), 1.25, 9)


def test_the_report_says_what_was_measured_and_what_follows() -> None:
    one = Decoding(Case(in_graph=True), 8, (10.0, 12.0, 11.0), 0.5, 3 << 30)
    text = report(replace(figures(), decoding=(one,)), {"n_batch": 128, "flash_attn": True})
    assert "flash attention on, KV f16, sampling in graph" in text
    assert " ".join(text.split("sampling in graph")[1].splitlines()[0].split()) == (
        "8 11.00 (10.00-12.00) 727 0.50 3,072"
    )
    assert text.endswith("settings:\n      n_batch: 128\n      flash_attn: true")


def test_energy_is_the_area_under_the_power() -> None:
    assert joules([(0.0, 100.0), (1.0, 200.0), (3.0, 200.0)]) == pytest.approx(150 + 400)
    assert joules([(0.0, 100.0)]) == 0
    with PowerMeter(None) as meter:
        pass
    assert meter.joules is None


def test_it_runs_on_a_machine_without_a_gpu(tmp_path: Path) -> None:
    target = tmp_path / "figures.json"
    short = ["--rows", "1", "2", "--slots", "1", "2", "--steps", "2", "--repeats", "1", "--prompt", "40"]
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--gpu", "none", *short, "--json", str(target)],
        cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "suggested for configs/hardware.yaml" in ended.stdout
    measured = json.loads(target.read_text(encoding="utf-8"))["figures"]["figures"]
    assert measured["rows"].keys() == {"1", "2"} and measured["chunks"].keys() == {"32"}
    assert len(measured["decoding"]) == 2 + 3  # the usual case at 1 and 2 slots, the three others at 2


def test_a_model_that_is_not_there_is_one_line_and_status_2(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--gpu", "none", "--model", str(tmp_path / "none.gguf")],
        cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 2
    assert "none.gguf" in ended.stderr
