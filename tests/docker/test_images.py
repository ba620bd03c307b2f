"""The image recipes: what they copy exists, and they build for the GPUs we promise."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
RECIPES = sorted((ROOT / "docker").glob("*.Dockerfile"))


def instructions(recipe: Path) -> list[str]:
    """The instructions of a recipe, continued lines joined, comments left out."""
    lines = [line for line in recipe.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return [line.strip() for line in "\n".join(lines).replace("\\\n", " ").splitlines() if line.strip()]


def final_stage(recipe: Path) -> list[str]:
    lines = instructions(recipe)
    return lines[max(at for at, line in enumerate(lines) if line.startswith("FROM ")) :]


def copied(lines: list[str]) -> list[str]:
    """Sources that COPY takes from the checkout."""
    found = [line.split()[1:] for line in lines if line.startswith("COPY ")]
    return [source for words in found if not words[0].startswith("--from") for source in words[:-1]]


def arguments(recipe: Path) -> dict[str, str]:
    """Defaults of the build arguments."""
    found = [line[4:].partition("=") for line in instructions(recipe) if line.startswith("ARG ")]
    return {name: value.strip('"') for name, _, value in found}


def test_there_are_three_recipes() -> None:
    assert [recipe.stem for recipe in RECIPES] == ["router", "worker-cpu", "worker-cuda"]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_copied_paths_exist_and_reach_the_build(recipe: Path) -> None:
    allowed = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line[:1] == "!"
    }
    sources = copied(instructions(recipe))
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert source.split("/")[0] in allowed, source


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_image_has_its_part_of_the_checkout_and_no_more(recipe: Path) -> None:
    role = "router" if recipe.stem == "router" else "workers"
    assert {"batchyard", role, "configs", "models"} <= set(copied(final_stage(recipe)))
    assert ("router" in copied(final_stage(recipe))) != ("workers" in copied(final_stage(recipe)))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_image_does_not_run_as_root(recipe: Path) -> None:
    users = [line.split()[1] for line in final_stage(recipe) if line.startswith("USER ")]
    assert users == ["10001:10001"]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_packages_come_with_pinned_versions(recipe: Path) -> None:
    installs = [line for line in instructions(recipe) if "pip install" in line]
    assert installs
    for line in installs:
        assert "constraints.txt" in line


def test_the_router_image_has_no_llama_cpp() -> None:
    assert "llama" not in " ".join(instructions(ROOT / "docker/router.Dockerfile"))


def test_cuda_is_one_that_still_builds_for_pascal() -> None:
    recipe = ROOT / "docker/worker-cuda.Dockerfile"
    version = tuple(int(part) for part in arguments(recipe)["CUDA"].split("."))
    assert (12, 8) <= version < (13,)  # 12.8 is the first that knows compute capability 12.0
    stages = [line for line in instructions(recipe) if line.startswith("FROM ")]
    assert [bool(re.search(r"\$\{CUDA\}-(devel|runtime)-", stage)) for stage in stages] == [True, True]


def test_machine_code_for_a_p40_and_newer_ones() -> None:
    targets = arguments(ROOT / "docker/worker-cuda.Dockerfile")["CUDA_ARCHITECTURES"].split(";")
    assert "61-real" in targets
    assert {"70-real", "80-real", "90-real", "120-real"} <= set(targets)
    assert all(re.fullmatch(r"\d+-real", target) for target in targets)


@pytest.mark.parametrize("name", ["worker-cpu", "worker-cuda"])
def test_the_build_does_not_depend_on_the_building_machine(name: str) -> None:
    flags = arguments(ROOT / f"docker/{name}.Dockerfile")["CPU_FLAGS"].split()
    assert "-DGGML_NATIVE=OFF" in flags and "-DGGML_AVX2=ON" in flags
    assert {"-DGGML_AMX_TILE=OFF", "-DGGML_AMX_INT8=OFF", "-DGGML_AMX_BF16=OFF"} <= set(flags)
    assert not [flag for flag in flags if "AVX512" in flag]
