import re
from pathlib import Path

import pytest

from workers import build_llama
from workers.build_llama import (
    AMX_OFF,
    cache_key,
    cpu_flags,
    cpu_options,
    cuda_options,
    ninja_counter,
    pinned_version,
    progress_text,
)

ROOT = Path(__file__).resolve().parent.parent

OLD_XEON = (
    "flags\t\t: fpu sse sse2 ssse3 sse4_1 sse4_2 avx f16c rdrand"  # E5-2690 v2, often found beside a P40
)
BROADWELL = "flags\t\t: sse4_2 avx f16c fma bmi1 bmi2 avx2 rdseed"
SAPPHIRE_RAPIDS = (
    "flags\t\t: sse4_2 avx f16c fma bmi2 avx2 avx512f avx512dq avx512cd avx512bw avx512vl avx512vbmi avx_vnni"
    " avx512_vnni avx512_bf16 amx_bf16 amx_tile amx_int8"
)
SKYLAKE_X = "flags\t\t: sse4_2 avx f16c fma bmi2 avx2 avx512f avx512dq avx512cd avx512bw avx512vl"
KNIGHTS_LANDING = "flags\t\t: sse4_2 avx f16c fma bmi2 avx2 avx512f avx512pf avx512er avx512cd"


def chosen(cpuinfo: str, machine: str = "x86_64", unknown: frozenset[str] = frozenset()) -> dict[str, str]:
    """The options as a mapping of ggml's names to ON or OFF."""
    options = cpu_options(machine, cpu_flags(cpuinfo), lambda option: option not in unknown)
    return dict(option.removeprefix("-DGGML_").split("=") for option in options)


@pytest.mark.parametrize("cpuinfo", [OLD_XEON, BROADWELL, SAPPHIRE_RAPIDS, SKYLAKE_X, ""])
def test_amx_and_native_are_off_on_every_cpu(cpuinfo: str) -> None:
    options = chosen(cpuinfo)
    assert options["NATIVE"] == "OFF"
    assert [options[name] for name in ("AMX_TILE", "AMX_INT8", "AMX_BF16")] == ["OFF"] * 3
    assert all(option in cpu_options("x86_64", set(), lambda _option: True) for option in AMX_OFF)


@pytest.mark.parametrize(
    ("cpuinfo", "on"),
    [
        ("", set()),
        (OLD_XEON, {"SSE42", "AVX", "F16C"}),
        (BROADWELL, {"SSE42", "AVX", "F16C", "FMA", "BMI2", "AVX2"}),
        (SKYLAKE_X, {"SSE42", "AVX", "F16C", "FMA", "BMI2", "AVX2", "AVX512"}),
        (KNIGHTS_LANDING, {"SSE42", "AVX", "F16C", "FMA", "BMI2", "AVX2"}),
        (
            SAPPHIRE_RAPIDS,
            {
                *("SSE42", "AVX", "F16C", "FMA", "BMI2", "AVX2", "AVX_VNNI"),
                *("AVX512", "AVX512_VBMI", "AVX512_VNNI", "AVX512_BF16"),
            },
        ),
    ],
)
def test_what_the_cpu_has_is_on_and_the_rest_is_off(cpuinfo: str, on: set[str]) -> None:
    assert {name for name, value in chosen(cpuinfo).items() if value == "ON"} == on


def test_an_option_that_the_compiler_does_not_know_is_off() -> None:
    options = chosen(SAPPHIRE_RAPIDS, unknown=frozenset({"-mavxvnni", "-mavx512bf16"}))
    assert (options["AVX_VNNI"], options["AVX512_BF16"], options["AVX512_VNNI"]) == ("OFF", "OFF", "ON")


def test_another_kind_of_cpu_gets_its_own_instructions() -> None:
    assert cpu_options("aarch64", set(), lambda _option: True) == ["-DGGML_NATIVE=ON"]


def test_flags_are_those_that_every_core_has() -> None:
    text = "processor : 0\nflags : avx avx2\nbugs : x\n\nprocessor : 1\nflags : avx\n"
    assert cpu_flags(text) == {"avx"}
    assert cpu_flags("Features : fp asimd\n") == frozenset()


@pytest.mark.parametrize(
    ("nvcc", "present", "named", "expected"),
    [
        ("release 12.9, V12.9.86", ["6.1", "8.6", "6.1"], None, "61-real;86-real"),
        ("release 12.9, V12.9.86", [], "61", "61"),
        ("release 12.4, V12.4", [], None, "61-real;70-real;75-real;80-real;86-real;89-real;90-real"),
        ("release 13.0, V13.0", [], None, "75-real;80-real;86-real;89-real;90-real"),
    ],
)
def test_cuda_architectures(nvcc: str, present: list[str], named: str | None, expected: str) -> None:
    assert cuda_options(nvcc, present, named) == ["-DGGML_CUDA=on", f"-DCMAKE_CUDA_ARCHITECTURES={expected}"]


def test_the_key_changes_with_everything_that_changes_the_wheel() -> None:
    keys = {
        cache_key("0.3.36", ["-DA=ON"], "cpython-311", "g++ 12"),
        cache_key("0.3.37", ["-DA=ON"], "cpython-311", "g++ 12"),
        cache_key("0.3.36", ["-DA=OFF"], "cpython-311", "g++ 12"),
        cache_key("0.3.36", ["-DA=ON"], "cpython-312", "g++ 12"),
        cache_key("0.3.36", ["-DA=ON"], "cpython-311", "g++ 13"),
    }
    assert len(keys) == 5
    assert cache_key("1", ["a"], "b") == cache_key("1", ["a"], "b")


def test_the_pinned_version_is_the_one_of_the_worker_extra() -> None:
    version = pinned_version((ROOT / "constraints.txt").read_text())
    assert f'"llama-cpp-python=={version}"' in (ROOT / "pyproject.toml").read_text()


def test_no_pin_is_said() -> None:
    with pytest.raises(SystemExit, match="llama-cpp-python"):
        pinned_version("celery==5.7.0\n")


def test_constraints_are_plain_pins() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert lines and all(re.fullmatch(r"[a-z0-9.-]+==[0-9][0-9a-z.]*", line) for line in lines)


@pytest.mark.parametrize(
    ("line", "counter"),
    [
        ("  [12/193] /usr/bin/g++ -O3 …", (12, 193)),
        ("[193/193] Linking", (193, 193)),
        ("  -- Configuring done", None),
        ("array[3/4] is", None),
    ],
)
def test_progress_is_read_from_ninja(line: str, counter: tuple[int, int] | None) -> None:
    assert ninja_counter(line) == counter


def test_progress_text_has_count_and_time() -> None:
    assert progress_text(10, 20, 75.9) == "  [###############...............] 10/20 files, 1:15"


def a_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """Run the building step with a shell script in pip's place; its last argument but one is the target."""
    pip = tmp_path / "python"
    pip.write_text(f'#!/bin/sh\nfor word; do last="$before"; before="$word"; done\n{script}\n')
    pip.chmod(0o755)
    monkeypatch.setattr(build_llama.sys, "executable", str(pip))
    return build_llama._build("1.2.3", ["-DA=ON", "-DB=x y"], tmp_path / "cache-key")


def test_a_build_shows_progress_and_leaves_the_wheel_and_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = 'echo "  [1/2] g++ a"; echo "$CMAKE_ARGS"; echo "  [2/2] g++ b"; touch "$last/made.whl"'
    wheel = a_build(tmp_path, monkeypatch, script)
    assert wheel == tmp_path / "cache-key" / "made.whl" and wheel.exists()
    out = capsys.readouterr().out
    assert "4-10 minutes" in out and "1/2 files" in out and "2/2 files" in out
    assert "-DA=ON '-DB=x y'" in (tmp_path / "cache-key.log").read_text()
    assert not list(tmp_path.glob(".building-*")) and not list(tmp_path.glob(".built-*"))


def test_a_failed_build_ends_with_its_log_and_leaves_no_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "seq 1 100; echo 'fatal error: no space left'; exit 3"
    with pytest.raises(SystemExit) as failure:
        a_build(tmp_path, monkeypatch, script)
    text = str(failure.value)
    assert "no space left" in text and "exit code 3" in text and str(tmp_path / "cache-key.log") in text
    assert text.startswith("72\n")  # the last thirty lines
    assert not (tmp_path / "cache-key").exists()


def test_flags_of_the_user_come_last_and_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CMAKE_ARGS", "-DGGML_AVX512=OFF -DX='a b'")
    options, _nvcc = build_llama._options("cc")
    assert options[-2:] == ["-DGGML_AVX512=OFF", "-DX=a b"]
