"""Signed jobs: a tenant's producers sign what they submit, the router refuses what is not signed with its
key.

The signature is HMAC-SHA256 over the job's body as it travels, all of it (so id, tenant, batch and text), as
canonical JSON, and travels in it as its field `signature`. A repeated body changes nothing, for its id is
claimed. Pure but for reading the files of keys.
"""

import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batchyard.errors import InvalidConfig, InvalidJob

FIELD = "signature"
LEAST_KEY_BYTES = 32
ANY_TENANT = "*"
_SIGNATURE = re.compile(r"[0-9a-f]{64}")
_REMEDY = f"use {LEAST_KEY_BYTES} or more random bytes in hexadecimal, such as from: openssl rand -hex 32"


def signed(body: str, key: bytes) -> str:
    """The JSON object `body` with its signature as the last field."""
    return f'{body[:-1]},"{FIELD}":"{_digest(json.loads(body), key)}"}}'


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys that the router knows, by tenant: several while one takes another's place, none for a tenant
    whose jobs are all refused. Under `*` for tenants that are not named; where that is missing, their jobs
    need no signature.
    """

    by_tenant: Mapping[str, Sequence[bytes]] = field(default_factory=dict)

    def check(self, body: Mapping[str, Any], tenant: str) -> dict[str, Any]:
        """The body without its signature.

        Raises:
            InvalidJob: code `bad_signature`.
        """
        plain = {name: value for name, value in body.items() if name != FIELD}
        keys = self.by_tenant.get(tenant, self.by_tenant.get(ANY_TENANT))
        if keys is None:
            return plain
        given = body.get(FIELD)
        if not isinstance(given, str) or _SIGNATURE.fullmatch(given) is None:
            raise _refused(f"the job has no signature, and those of {tenant} must have one")
        if not any(hmac.compare_digest(_digest(plain, key), given) for key in keys):
            raise _refused(f"the job's signature was made with no key of {tenant}, or it was changed since")
        return plain


NO_KEYS = Keys()


def read_key(path: Path, variable: str) -> bytes:
    """A producer's key, from its file.

    Raises:
        InvalidConfig: naming `variable`; the key is not repeated.
    """
    return checked_key(_text(path, variable).strip(), variable)


def read_keys(path: Path, variable: str) -> Keys:
    """The router's keys, from a JSON object of tenant to key or list of keys.

    Raises:
        InvalidConfig: naming `variable`; no key is repeated.
    """
    try:
        data = json.loads(_text(path, variable))
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise InvalidConfig(
            f"{path} holds no JSON object", field=variable, remedy='such as {"acme": ["<key>"], "*": []}'
        )
    found: dict[str, tuple[bytes, ...]] = {}
    for tenant, given in data.items():
        keys = given if isinstance(given, list) else [given]
        found[tenant] = tuple(checked_key(key, f"{variable}: {tenant}") for key in keys)
    return Keys(found)


def checked_key(text: object, variable: str) -> bytes:
    """The bytes of a key in hexadecimal.

    Raises:
        InvalidConfig: it is none, or too short; it is not repeated.
    """
    try:
        key = bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        raise InvalidConfig("is not hexadecimal", field=variable, remedy=_REMEDY) from None
    if len(key) < LEAST_KEY_BYTES:
        raise InvalidConfig(f"a key of {len(key)} bytes is too short", field=variable, remedy=_REMEDY)
    return key


def _text(path: Path, variable: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "not UTF-8"
        raise InvalidConfig(f"cannot read {path}: {why}", field=variable, remedy="mount the secret") from None


def _digest(body: Mapping[str, Any], key: bytes) -> str:
    """Of the body as JSON with sorted names and nothing between, which both sides write alike."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hmac.new(key, text.encode("ascii"), hashlib.sha256).hexdigest()


def _refused(why: str) -> InvalidJob:
    return InvalidJob(
        why,
        code="bad_signature",
        field=FIELD,
        remedy="set BATCHYARD_SIGNING_KEY_FILE where the job is made to a key in the router's "
        "BATCHYARD_VERIFY_KEYS_FILE",
    )
