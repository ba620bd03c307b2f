"""Signatures over a body as it travels, and the files of keys."""

import json
from pathlib import Path

import pytest

from batchyard.errors import InvalidConfig, InvalidJob
from batchyard.settings import Settings, load_settings
from batchyard.signing import Keys, read_keys, signed
from batchyard.wire import dumps

KEY = bytes(range(32))
BODIES = [
    {"id": "acme~1", "prompt": "plain"},
    {"id": "acme~1", "prompt": '电阻 R7 \u2028 \x7f "quoted" \\ 🙂'},
    {
        "prompt": "x",
        "id": "a",
        "deadline": 1764000000.123456789,
        "sampling": {"temperature": 1e-07, "top_p": 0.1},
    },
    {"id": "a", "prompt": "x", "metadata": {"z": [1, None, True, {"ä": -0.0}], "a": 2**60, "": ""}},
]


@pytest.mark.parametrize("body", BODIES)
def test_a_body_that_has_travelled_carries_a_good_signature(body: dict[str, object]) -> None:
    travelled = json.loads(signed(dumps(body), KEY))
    assert Keys({"acme": [KEY]}).check(travelled, "acme") == body
    swapped = dict(reversed(travelled.items()))
    assert Keys({"acme": [KEY]}).check(swapped, "acme") == body
    with pytest.raises(InvalidJob):
        Keys({"acme": [KEY[::-1]]}).check(travelled, "acme")


def test_the_signature_is_hmac_sha256_of_the_canonical_body() -> None:
    # echo -n '{"id":"J","prompt":"\u00e9"}' | openssl dgst -sha256 -mac HMAC -macopt hexkey:000102…1f
    given = json.loads(signed('{"prompt":"é","id":"J"}', KEY))["signature"]
    assert given == "ced1ffe7ff19d397194183efbec4d1de063e46dba3d2ada426f22a0e4d0f8305"


def test_keys_are_read_with_those_that_take_their_place(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(
        json.dumps({"acme": [KEY.hex(), "ab" * 32], "beta": KEY.hex(), "*": []}), encoding="utf-8"
    )
    keys = read_keys(path, "V")
    assert keys.by_tenant == {"acme": (KEY, b"\xab" * 32), "beta": (KEY,), "*": ()}


@pytest.mark.parametrize(
    "content, field",
    [
        (None, "V"),
        (b"\xff", "V"),
        (b"[]", "V"),
        (b"{", "V"),
        (b"[" * 100_000, "V"),
        (b'{"acme": "5ec2e7"}', "V: acme"),
        (b'{"acme": ["s3cret-words-that-are-no-hexadecimal-at-all"]}', "V: acme"),
        (b'{"acme": null}', "V: acme"),
    ],
)
def test_a_bad_file_of_keys_is_named_and_not_repeated(
    content: bytes | None, field: str, tmp_path: Path
) -> None:
    path = tmp_path / "keys.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidConfig) as caught:
        read_keys(path, "V")
    assert caught.value.field == field
    assert "5ec2e7" not in str(caught.value) and "s3cret" not in str(caught.value)


def test_the_producers_key_comes_from_the_environment_or_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Settings().signer() is None
    monkeypatch.setenv("BATCHYARD_SIGNING_KEY", KEY.hex())
    settings = load_settings()
    assert settings.signer() == KEY
    assert KEY.hex() not in repr(settings)
    secret = tmp_path / "key"
    secret.write_text("ab" * 32 + "\n", encoding="utf-8")
    monkeypatch.setenv("BATCHYARD_SIGNING_KEY_FILE", str(secret))
    assert load_settings().signer() == b"\xab" * 32
    secret.write_text("short", encoding="utf-8")
    with pytest.raises(InvalidConfig) as caught:
        load_settings().signer()
    assert caught.value.field == "BATCHYARD_SIGNING_KEY_FILE"
    assert "short" not in caught.value.message.replace("too short", "")
