"""Make the secrets of a yard in containers: `python docker/make_secrets.py [FOLDER] [--tenant NAME …]`.

Writes for each user of Redis redis_url_<user>, the login of Flower, and redis_users: what each of them may.
Compose mounts a secret with the mode that its file has, and the roles run under users of their own; so the
files can be read by everybody and the folder by its owner alone. Logins that are there are kept, and
redis_users is written anew: run it again after an upgrade, or for another tenant. Needs Python alone, no
package.
"""

import argparse
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from batchyard.acl import users_file, yard_users  # noqa: E402 - it stands beside us, not on the path
from batchyard.errors import YardError  # noqa: E402
from batchyard.logins import read_or_make, url_file  # noqa: E402

REDIS = "redis://redis:6379/0"
FLOWER_USER = "yard"
READABLE = 0o444
MODELS_WITH_A_WAY_OUT = ("cloud_chat",)
"""Their worker talks to the world, so it has a user of its own, which reaches no other model's jobs."""


def make(folder: Path, tenants: Sequence[str]) -> list[Path]:
    """Write what is missing into the folder, which git ignores, and the users; returns the files made.

    Raises:
        InvalidConfig: a file that is there does not fit, or the tenants do not.
    """
    users = yard_users(tenants, MODELS_WITH_A_WAY_OUT)
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    _put(folder / ".gitignore", "*")
    made = [path for user in users if not (path := url_file(folder, user)).exists()]
    passwords = read_or_make(folder, users, REDIS, READABLE)
    login = folder / "flower_login"
    if not login.exists():
        _put(login, f"{FLOWER_USER}:{secrets.token_hex(12)}")
        made.append(login)
    _put(
        folder / "redis_users",
        users_file({name: (rights, passwords[name]) for name, rights in users.items()}).rstrip("\n"),
    )
    return made


def _put(path: Path, content: str) -> None:
    path.unlink(missing_ok=True)
    path.write_text(content + "\n", encoding="utf-8")
    path.chmod(READABLE)


def main(arguments: Sequence[str]) -> None:
    """Make the files and say where they are; no password is printed."""
    parser = argparse.ArgumentParser(prog="python docker/make_secrets.py")
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "secrets")
    parser.add_argument("--tenant", action="append", metavar="NAME", help="[default]")
    given = parser.parse_args(arguments)
    try:
        made = make(given.folder, given.tenant or ["default"])
    except YardError as exc:
        raise SystemExit(str(exc)) from None
    print(
        f"made {', '.join(path.name for path in made) or 'no new login'} in {given.folder}; wrote redis_users"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
