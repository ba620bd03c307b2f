"""Build llama-cpp-python once for this machine's CPU, keep the wheel, install it.

Runs before anything is installed, hence on the standard library alone. The flags come from the CPU
because the package's own default turns on AMX where there is some, and that build dies of a segmentation
fault on quantised models as soon as a batch has more than one row. pip's own cache of wheels is not used:
its key has no CPU flags, and a home folder is often shared by unlike machines.

    python workers/build_llama.py            build (or take from the cache) and install
    python workers/build_llama.py --flags    print the CMake flags and stop
"""

import argparse
import fcntl
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "llama-cpp-python"
LOG_LINES = 30

X86 = (
    # ggml option, flags in /proc/cpuinfo that it needs, compiler options that it adds
    ("SSE42", ("sse4_2",), ("-msse4.2",)),
    ("AVX", ("avx",), ("-mavx",)),
    ("F16C", ("f16c",), ("-mf16c",)),
    ("FMA", ("fma",), ("-mfma",)),
    ("BMI2", ("bmi2",), ("-mbmi2",)),
    ("AVX2", ("avx2",), ("-mavx2",)),
    ("AVX_VNNI", ("avx_vnni",), ("-mavxvnni",)),
    ("AVX512", ("avx512f", "avx512cd", "avx512vl", "avx512dq", "avx512bw"), ("-mavx512f", "-mavx512bw")),
    ("AVX512_VBMI", ("avx512vbmi", "avx512bw"), ("-mavx512vbmi",)),
    ("AVX512_VNNI", ("avx512_vnni", "avx512bw"), ("-mavx512vnni",)),
    ("AVX512_BF16", ("avx512_bf16", "avx512bw"), ("-mavx512bf16",)),
)
AMX_OFF = ("-DGGML_AMX_TILE=OFF", "-DGGML_AMX_INT8=OFF", "-DGGML_AMX_BF16=OFF")
CUDA_12 = "61-real;70-real;75-real;80-real;86-real;89-real;90-real"
CUDA_13 = "75-real;80-real;86-real;89-real;90-real"  # toolkit 13 dropped compute capability 6.1 and 7.0


# -- decisions --------------------------------------------------------------------------------------


def cpu_flags(cpuinfo: str) -> frozenset[str]:
    """The flags that every CPU named in the text of /proc/cpuinfo has."""
    lines = re.findall(r"^flags\s*:\s*(.*)$", cpuinfo, re.MULTILINE)
    return frozenset.intersection(*(frozenset(line.split()) for line in lines)) if lines else frozenset()


def cpu_options(machine: str, flags: Collection[str], compiles: Callable[[str], bool]) -> list[str]:
    """CMake options for a CPU: `machine` as platform.machine() says, `flags` from /proc/cpuinfo.

    `compiles` says whether the compiler knows an option. Unknown kinds of CPU get ggml's own choice.
    """
    if machine not in {"x86_64", "amd64", "AMD64"}:
        return ["-DGGML_NATIVE=ON"]
    chosen = ["-DGGML_NATIVE=OFF", *AMX_OFF]
    for name, needs, options in X86:
        there = all(flag in flags for flag in needs) and all(map(compiles, options))
        chosen.append(f"-DGGML_{name}={'ON' if there else 'OFF'}")
    return chosen


def cuda_options(nvcc_version: str, capabilities: Collection[str], named: str | None) -> list[str]:
    """CMake options for CUDA: architectures `named` by the user, else of the GPUs present
    (`capabilities`, such as "6.1"), else a list for a mixed fleet that this toolkit can build."""
    if named:
        targets = named
    elif capabilities:
        targets = ";".join(sorted(f"{capability.replace('.', '')}-real" for capability in set(capabilities)))
    else:
        release = re.search(r"release (\d+)", nvcc_version)
        targets = CUDA_13 if release and int(release.group(1)) >= 13 else CUDA_12
    return ["-DGGML_CUDA=on", f"-DCMAKE_CUDA_ARCHITECTURES={targets}"]


def cache_key(version: str, options: Sequence[str], *tools: str) -> str:
    """Name of the cache folder: the same version, options, Python and compilers give the same one."""
    digest = hashlib.sha256(json.dumps([version, list(options), list(tools)]).encode()).hexdigest()
    return f"{version}-{digest[:16]}"


def pinned_version(constraints: str) -> str:
    """The version of llama-cpp-python in the text of constraints.txt."""
    found = re.search(r"^llama[-_]cpp[-_]python==(\S+)\s*$", constraints, re.MULTILINE | re.IGNORECASE)
    if found is None:
        raise SystemExit(f"constraints.txt names no version of {PACKAGE}; add {PACKAGE}==VERSION")
    return found.group(1)


def ninja_counter(line: str) -> tuple[int, int] | None:
    """(done, all) from a line of ninja's output, `[12/193] …`."""
    found = re.match(r"\s*\[(\d+)/(\d+)\] ", line)
    return (int(found.group(1)), int(found.group(2))) if found else None


def progress_text(done: int, total: int, seconds: float) -> str:
    """One line of progress."""
    filled = 30 * done // total
    bar = "#" * filled + "." * (30 - filled)
    return f"  [{bar}] {done}/{total} files, {int(seconds) // 60}:{int(seconds) % 60:02d}"


# -- the machine ------------------------------------------------------------------------------------


def _output(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _compilers() -> tuple[str, str]:
    c = os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), "")
    cxx = os.environ.get("CXX") or next(filter(shutil.which, ("c++", "g++", "clang++")), "")
    if not c or not cxx:
        missing = "C" if not c else "C++"
        raise SystemExit(
            f"no {missing} compiler found; install gcc and g++ (Debian: apt-get install build-essential)"
        )
    return c, cxx


def _compiles(compiler: str) -> Callable[[str], bool]:
    def check(option: str) -> bool:
        command = [*shlex.split(compiler), option, "-E", "-x", "c", os.devnull, "-o", os.devnull]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    return check


def _options(compiler: str) -> tuple[list[str], str]:
    """(CMake options for this machine, version text of the CUDA compiler or empty)."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="utf-8", errors="replace") if cpuinfo.exists() else ""
    options, nvcc = cpu_options(platform.machine(), cpu_flags(text), _compiles(compiler)), ""
    if os.environ.get("BATCHYARD_CUDA") == "1":
        nvcc = _output(["nvcc", "--version"])
        if not nvcc:
            raise SystemExit(
                "BATCHYARD_CUDA=1 is set and there is no nvcc on PATH; install a CUDA 12 toolkit"
            )
        present = _output(["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]).split()
        options += cuda_options(nvcc, present, os.environ.get("BATCHYARD_CUDA_ARCHITECTURES"))
    return options + shlex.split(os.environ.get("CMAKE_ARGS", "")), nvcc


def _parallel() -> int:
    """Compilers at once: one a core, and about 1.5 GB of memory for each."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    meminfo = Path("/proc/meminfo")
    found = re.search(r"MemAvailable:\s+(\d+)", meminfo.read_text()) if meminfo.exists() else None
    return max(1, min(cores, int(found.group(1)) // 1_500_000 if found else cores))


def _cache_root() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "batchyard" / "wheels"


# -- building ---------------------------------------------------------------------------------------


def _show(output: IO[str], log: IO[str], started: float) -> None:
    """Copy the build's output into the log, and its progress onto the terminal."""
    live, said = sys.stdout.isatty(), -1
    for line in output:
        log.write(line)
        counter = ninja_counter(line)
        if counter is None:
            continue
        text = progress_text(*counter, time.monotonic() - started)
        if live:
            print(f"\r{text}", end="", flush=True)
        elif 10 * counter[0] // counter[1] > said:  # a plain line every tenth
            said = 10 * counter[0] // counter[1]
            print(text, flush=True)
    if live:
        print(flush=True)


def _build(version: str, options: Sequence[str], folder: Path) -> Path:
    """Build the wheel into `folder`, which appears whole or not at all; returns the wheel."""
    parallel = os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL") or str(_parallel())
    log_path = folder.with_name(folder.name + ".log")
    print(f"Building {PACKAGE} {version} for this machine, once: about 4-10 minutes on two cores.")
    print(f"  {parallel} compilers at once; log: {log_path}", flush=True)
    pins = str(ROOT / "constraints.txt")
    environment = os.environ | {
        "CMAKE_ARGS": shlex.join(options),
        "CMAKE_BUILD_PARALLEL_LEVEL": parallel,
        "PIP_CONSTRAINT": pins,
        "PIP_BUILD_CONSTRAINT": pins,
    }
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".building-") as scratch:
        command = [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--disable-pip-version-check",
            "--no-deps",
            "--no-cache-dir",
        ]
        command += ["--no-binary", PACKAGE, "-v", "-w", scratch, f"{PACKAGE}=={version}"]
        with log_path.open("w", encoding="utf-8") as log:
            process = subprocess.Popen(
                command,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
            assert process.stdout is not None
            try:
                _show(process.stdout, log, started)
            except BaseException:
                process.terminate()
                raise
            finally:
                code = process.wait()
        wheels = list(Path(scratch).glob("*.whl"))
        if code != 0 or not wheels:
            tail = log_path.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
            raise SystemExit(
                "\n".join([*tail, "", f"The build failed (exit code {code}); whole log: {log_path}"])
            )
        target = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".built-"))
        shutil.move(wheels[0], target / wheels[0].name)
        (target / "options.json").write_text(
            json.dumps({"version": version, "options": list(options)}, indent=1)
        )
        target.rename(folder)
    print(f"  built in {int(time.monotonic() - started)} s", flush=True)
    return next(folder.glob("*.whl"))


def _cached_or_built(version: str, options: Sequence[str], key: str) -> Path:
    root = _cache_root()
    root.mkdir(parents=True, exist_ok=True)
    folder = root / key
    with (root / f"{key}.lock").open("w") as lock:  # another checkout may be building the same wheel
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = next(folder.glob("*.whl"), None)
        if found is not None:
            print(f"Taking {PACKAGE} {version} from {folder}", flush=True)
            return found
        return _build(version, options, folder)


_PROOF = """
import ctypes, pathlib, sys
library = ctypes.CDLL(str(pathlib.Path(sys.argv[1]) / "llama_cpp" / "lib" / "libllama.so"))
library.llama_backend_init()
library.llama_print_system_info.restype = ctypes.c_char_p
print(library.llama_print_system_info().decode())
"""


def _install(wheel: Path, key: str) -> None:
    """Install the wheel into this Python, unless it is there already, and prove that it loads."""
    site = Path(sysconfig.get_path("platlib"))
    marker = site / "llama_cpp" / ".batchyard-build"
    if not (marker.exists() and marker.read_text() == key):
        command = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*command, "--no-index", "--force-reinstall", str(wheel)], check=True)
    proof = subprocess.run(
        [sys.executable, "-c", _PROOF, str(site)], capture_output=True, text=True, check=False
    )
    if proof.returncode != 0:
        raise SystemExit(
            f"the built library does not load (exit code {proof.returncode}):\n{proof.stderr.strip()}\n"
            f"Remove {wheel.parent} and build again, with other flags in CMAKE_ARGS if need be."
        )
    marker.write_text(key)
    print(f"{PACKAGE} is installed. {proof.stdout.strip()}", flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Build, or take from the cache, and install."""
    parser = argparse.ArgumentParser(prog="build_llama", description="Build and install llama-cpp-python.")
    parser.add_argument(
        "--flags", action="store_true", help="print the CMake flags for this machine and stop"
    )
    arguments = parser.parse_args(argv)
    c, cxx = _compilers()
    options, nvcc = _options(c)
    if arguments.flags:
        print(shlex.join(options))
        return
    version = pinned_version((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    compiler = _output([*shlex.split(cxx), "--version"]).partition("\n")[0]
    tag = f"{sys.implementation.cache_tag}-{sysconfig.get_platform()}"
    key = cache_key(version, options, tag, compiler, nvcc.strip().rpartition("\n")[2])
    _install(_cached_or_built(version, options, key), key)


if __name__ == "__main__":
    main()
