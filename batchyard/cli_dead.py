"""`batchyard dead`: look through dead letters, and decide on them."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from batchyard.errors import InvalidConfig, YardError

if TYPE_CHECKING:
    import redis

    from batchyard.dead import Letter


def add_dead_commands(parser: argparse.ArgumentParser) -> None:
    """The commands below `batchyard dead`."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="one line a letter, the newest first")
    _add_choice(listing)
    listing.set_defaults(command=_list)
    show = commands.add_parser("show", help="one letter as JSON, with its message")
    show.add_argument("letter", metavar="ID")
    show.set_defaults(command=_show)
    retry = commands.add_parser("retry", help="open jobs again: their messages go back into their queues")
    _add_choice(retry)
    retry.set_defaults(command=_retry)
    drop = commands.add_parser("drop", help="forget letters; the results of their jobs stay")
    _add_choice(drop)
    drop.set_defaults(command=_drop)


def _add_choice(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("letters", nargs="*", metavar="ID", help="ids, or patterns such as 'line4-*'")
    parser.add_argument("--batch", help="those of this batch")
    parser.add_argument("--kind", choices=["poison", "unprocessable"])
    parser.add_argument("--all", action="store_true", help="all of them")


@contextmanager
def _connected() -> "Iterator[redis.Redis]":
    import redis

    from batchyard.settings import load_settings

    with redis.Redis.from_url(load_settings().url) as connection:
        yield connection


def chosen(letters: "list[Letter]", arguments: argparse.Namespace) -> "list[Letter]":
    """The letters that the command line means. Names that stand for none are an error.

    Raises:
        YardError: `unknown_letter`.
    """
    kept = [
        letter
        for letter in letters
        if (not arguments.batch or letter.batch == arguments.batch)
        and (not arguments.kind or letter.kind == arguments.kind)
    ]
    if not arguments.letters:
        return kept
    missing = [name for name in arguments.letters if not any(fnmatchcase(one.id, name) for one in kept)]
    if missing:
        raise _unknown(", ".join(missing))
    return [one for one in kept if any(fnmatchcase(one.id, name) for name in arguments.letters)]


def _unknown(name: str) -> YardError:
    return YardError(
        f"no dead letter {name}", code="unknown_letter", remedy="`batchyard dead list` says which there are"
    )


def _decided(connection: "redis.Redis", arguments: argparse.Namespace) -> "list[Letter]":
    """The letters to change: nobody means all of them by saying nothing."""
    from batchyard import dead, store

    if not (arguments.letters or arguments.batch or arguments.kind or arguments.all):
        raise InvalidConfig(
            "which letters?", field="dead", remedy="name ids or patterns, --batch B, --kind K, or --all"
        )
    return chosen(store.run(connection, dead.letters()), arguments)


def _list(arguments: argparse.Namespace) -> int:
    from batchyard import dead, store

    with _connected() as connection:
        for letter in chosen(store.run(connection, dead.letters()), arguments):
            when = datetime.fromtimestamp(letter.when, UTC).isoformat(timespec="seconds")
            columns = (letter.id, letter.kind, letter.queue, when, f"{letter.attempts} attempts")
            print("\t".join((*columns, letter.exit or "-", letter.reason)))
    return 0


def _show(arguments: argparse.Namespace) -> int:
    from batchyard import dead, store

    with _connected() as connection:
        letter = store.run(connection, dead.letter(arguments.letter))
    if letter is None:
        raise _unknown(arguments.letter)
    print(letter.model_dump_json(indent=2))
    return 0


def _retry(arguments: argparse.Namespace) -> int:
    from batchyard import dead, store
    from batchyard.settings import load_settings

    ttl = load_settings().result_expires
    retried, refused = 0, 0
    with _connected() as connection:
        for letter in _decided(connection, arguments):
            why_not = store.run(connection, dead.revive(letter, ttl))
            if why_not is None:
                retried += 1
            else:
                refused += 1
                print(f"{letter.id}: {why_not}", file=sys.stderr)
    print(f"{retried} retried")
    return 1 if refused else 0


def _drop(arguments: argparse.Namespace) -> int:
    from batchyard import dead, store

    with _connected() as connection:
        ids = [letter.id for letter in _decided(connection, arguments)]
        print(f"{store.run(connection, dead.drop(ids))} dropped")
    return 0
