"""Make the passwords of a yard in containers: `python docker/make_secrets.py [FOLDER]`, once.

Writes redis_password, redis_url (for the roles) and flower_login into FOLDER (default: secrets/). Compose
mounts a secret with the mode that its file has, and the roles run under users of their own; so the files
can be read by everybody and the folder by its owner alone. Existing files are kept. Standard library only.
"""

import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REDIS_URL = "redis://:{password}@redis:6379/0"
FLOWER_USER = "yard"


def secret_files(redis_password: str, flower_password: str) -> dict[str, str]:
    """Content by file name."""
    return {
        "redis_password": redis_password,
        "redis_url": REDIS_URL.format(password=redis_password),
        "flower_login": f"{FLOWER_USER}:{flower_password}",
    }


def make(folder: Path, files: dict[str, str]) -> list[Path]:
    """Write the files into the folder, which git ignores; returns what was written.

    Raises:
        SystemExit: some of them are there already and some are not: they belong together.
    """
    there = [name for name in files if (folder / name).exists()]
    if there and len(there) < len(files):
        missing = ", ".join(sorted(set(files) - set(there)))
        raise SystemExit(f"{folder} has {', '.join(there)} but not {missing}; complete it, or empty it")
    if there:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    (folder / ".gitignore").write_text("*\n", encoding="utf-8")
    written = []
    for name, content in files.items():
        path = folder / name
        path.write_text(content + "\n", encoding="utf-8")
        path.chmod(0o444)
        written.append(path)
    return written


def main(arguments: Sequence[str]) -> None:
    """Make the files and say where they are; no password is printed."""
    folder = Path(arguments[0]) if arguments else ROOT / "secrets"
    written = make(folder, secret_files(secrets.token_hex(24), secrets.token_hex(12)))
    if written:
        print(f"made {', '.join(path.name for path in written)} in {folder}")
    else:
        print(f"{folder} has its secrets already; nothing was changed")


if __name__ == "__main__":
    main(sys.argv[1:])
