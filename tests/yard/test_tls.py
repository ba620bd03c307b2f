"""Everything over TLS: client, router and worker, by the URL alone."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import pytest

from batchyard.aclient import AsyncClient
from batchyard.client import Client
from batchyard.errors import YardUnavailable
from batchyard.settings import Settings
from tests.roles import ROOT, redis_with_users
from tests.tls import HOST, make_authority, tls_before
from tests.yard.own_users import own_users_yard

pytestmark = pytest.mark.yard

GOOD = {"prompt": "Board A17: solder bridge at U12, pin 3 to pin 4.", "task": "defect_detect"}


@dataclass(frozen=True)
class Encrypted:
    port: int
    folder: Path
    ours: Path
    plain: Settings

    def url(self, user: str, ca: Path) -> str:
        """The user's URL, over TLS, trusting `ca` alone."""
        plain = (self.folder / f"redis_url_{user}").read_text(encoding="utf-8").strip()
        login = plain.removeprefix("redis://").partition("@")[0]
        query = urlencode({"ssl_cert_reqs": "required", "ssl_ca_certs": str(ca)})
        return f"rediss://{login}@{HOST}:{self.port}/0?{query}"


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encrypted]:
    folder = tmp_path_factory.mktemp("tls")
    authority = make_authority(folder, "ours")
    with redis_with_users(folder, ["default"]) as roles, tls_before(roles.port, authority) as port:
        yield Encrypted(port, folder, authority.certificate, roles.settings("operator"))


def test_the_whole_path_is_encrypted(encrypted: Encrypted) -> None:
    files = {}
    for user in ("router", "worker"):
        files[user] = encrypted.folder / f"tls_url_{user}"
        files[user].write_text(encrypted.url(user, encrypted.ours), encoding="utf-8")
    settings = Settings(
        redis_url=encrypted.url("producer-default", encrypted.ours), models=ROOT / "configs/models.yaml"
    )
    with own_users_yard(encrypted.folder, files, encrypted.plain), Client(settings) as client:
        client.submit_many((GOOD for _ in range(20)), batch="t")
        assert sum(result.ok for result in client.results("t", timeout=60)) == 20

        async def ask() -> bool:
            async with AsyncClient(settings) as other:
                return (await other.result(await other.submit(**GOOD), timeout=60)).ok

        assert asyncio.run(ask())


def test_a_server_that_is_not_ours_is_not_talked_to(encrypted: Encrypted) -> None:
    another = make_authority(encrypted.folder, "another").certificate
    settings = Settings(redis_url=encrypted.url("producer-default", another))
    with Client(settings) as client, pytest.raises(YardUnavailable) as caught:
        client.submit(**GOOD)
    assert caught.value.code == "yard_untrusted" and not caught.value.retryable
    assert "certificate" in caught.value.message and "ssl_ca_certs" in str(caught.value.remedy)


def test_without_tls_nobody_answers(encrypted: Encrypted) -> None:
    url = encrypted.url("producer-default", encrypted.ours).replace("rediss://", "redis://").partition("?")[0]
    with Client(Settings(redis_url=url)) as client, pytest.raises(YardUnavailable):
        client.submit(**GOOD)
