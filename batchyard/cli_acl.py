"""`batchyard acl`: the ACL file of a yard's Redis, and a URL with a login of its own for each role."""

import argparse
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


def add_acl(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the command to the command line."""
    acl = commands.add_parser(
        "acl",
        help="print the users file of the yard's Redis, and make each user's URL",
        description="One user a role with the least it needs, and one for the producers of each tenant. Each "
        "user's URL is a file redis_url_<user> in the folder, made with a new password if it is missing; a "
        "role finds its own through BATCHYARD_REDIS_URL_FILE.",
    )
    acl.add_argument("--tenant", action="append", metavar="NAME", help="more than once for several [default]")
    acl.add_argument("--model", action="append", metavar="NAME", help="a user for this model's workers alone")
    acl.add_argument("--secrets", type=Path, required=True, metavar="FOLDER", help="where the URLs are")
    acl.add_argument(
        "--url", required=True, metavar="URL", help="such as redis://redis:6379/0, without login"
    )
    acl.add_argument(
        "--redis-version", type=int, choices=[6, 7], default=7, help="6 knows no read-only keys [%(default)s]"
    )
    acl.set_defaults(command=_acl)


def _acl(arguments: argparse.Namespace) -> int:
    from batchyard.acl import users_file, yard_users
    from batchyard.logins import read_or_make
    from batchyard.names import DEFAULT_TENANT

    place = urlsplit(arguments.url).path.strip("/")
    users = yard_users(
        arguments.tenant or [DEFAULT_TENANT], arguments.model or [], int(place) if place.isdecimal() else 0
    )
    passwords = read_or_make(arguments.secrets, users, arguments.url)
    sys.stdout.write(
        users_file(
            {name: (rights, passwords[name]) for name, rights in users.items()}, arguments.redis_version
        )
    )
    return 0
