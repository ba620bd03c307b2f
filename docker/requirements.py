"""Print what to install for an image: the project's dependencies and those of the extras named.

The images run from a checkout, so only the dependencies are installed; read from pyproject.toml with the
standard library alone, before anything is installed. Knows no versions: pip takes them from constraints.txt.

    python docker/requirements.py worker > requirements.txt
"""

import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


def requirements(project: dict[str, Any], extras: Sequence[str]) -> list[str]:
    """The requirements of the table `[project]` with these extras, each once.

    Raises:
        SystemExit: the project has no such extra.
    """
    lines = list(project["dependencies"])
    for extra in extras:
        if extra not in project["optional-dependencies"]:
            there = ", ".join(sorted(project["optional-dependencies"]))
            raise SystemExit(f"pyproject.toml has no extra {extra!r}; there are {there}")
        lines += project["optional-dependencies"][extra]
    return list(dict.fromkeys(lines))


def main(extras: Sequence[str]) -> None:
    """Print one requirement a line."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    print("\n".join(requirements(project, extras)))


if __name__ == "__main__":
    main(sys.argv[1:])
