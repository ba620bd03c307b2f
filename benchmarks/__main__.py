"""`python -m benchmarks [NAME] [options]`: one benchmark; without a name, jobs/s through the whole path."""

import runpy
import sys
from pathlib import Path

_ENTRY = 'if __name__ == "__main__":'


def names() -> list[str]:
    """The benchmarks there are."""
    here = Path(__file__)
    others = (path for path in here.parent.glob("*.py") if path != here)
    packages = (path.parent.name for path in here.parent.glob("*/__main__.py"))
    modules = (path.stem for path in others if _ENTRY in path.read_text(encoding="utf-8"))
    return sorted([*modules, *packages])


def main() -> None:
    """Run the one named first, else `whole_path`, with the rest of the command line."""
    there, arguments = names(), sys.argv[1:]
    name = "whole_path"
    if arguments and not arguments[0].startswith("-"):
        name = arguments.pop(0)
    if name not in there:
        raise SystemExit(f"no benchmark {name!r}; there are {', '.join(there)}")
    sys.argv[1:] = arguments
    runpy.run_module(f"benchmarks.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
