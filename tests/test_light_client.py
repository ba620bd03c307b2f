"""The client stays light: what importing it loads, what the wheel would carry."""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEAVY = (
    "sqlalchemy",
    "batchyard.audit",
    "llama_cpp",
    "torch",
    "numpy",
    "sklearn",
    "router",
    "workers",
    "local",
    "producer",
    "rich",
    "flower",
)


def test_importing_the_client_loads_nothing_heavy() -> None:
    code = "import sys; from batchyard import AsyncClient, Client, Job; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "batchyard.client" in loaded
    assert not loaded.intersection(HEAVY)


def test_celery_is_not_imported_before_it_is_needed() -> None:
    code = "import sys; from batchyard import Client; print('celery' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_wheel_carries_the_contract_alone_and_needs_little() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["setuptools"]["packages"] == ["batchyard", "batchyard.audit"]
    names = {line.split(">")[0].split("[")[0] for line in project["project"]["dependencies"]}
    assert names == {"celery", "kombu", "redis", "pydantic", "pydantic-settings", "PyYAML"}
