"""What the environment decides, read once at start and passed down."""

import re
import tempfile
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qs, urlsplit

import redis
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from batchyard.errors import InvalidConfig
from batchyard.names import DEFAULT_TENANT
from batchyard.signing import checked_key, read_key
from batchyard.tenant import TenantName


class Settings(BaseSettings):
    """Settings, from `BATCHYARD_<NAME>` in the environment (arguments win over the environment).

    A secret may come from a file: `BATCHYARD_REDIS_URL_FILE=/run/secrets/redis_url`.
    """

    model_config = SettingsConfigDict(
        env_prefix="BATCHYARD_", frozen=True, extra="forbid", hide_input_in_errors=True
    )

    redis_url: str = "redis://127.0.0.1:6379/0"
    redis_url_file: Path | None = None
    tenant: TenantName = DEFAULT_TENANT
    """Whom a client submits for and whose jobs it sees; `default` may submit for others, too."""
    models: Path = Path("configs/models.yaml")
    hardware: Path = Path("configs/hardware.yaml")
    locks: Path = Path(tempfile.gettempdir())
    """Folder of the locks that let one engine at a time load on a GPU; shared by the workers of a host."""
    routing: Path = Path("configs/routing.yaml")
    result_expires: Annotated[int, Field(gt=0)] = 7 * 24 * 3600
    """Seconds that a job's state, result and attachments stay in Redis."""
    chunk_size: Annotated[int, Field(gt=0, le=10_000)] = 500
    """Jobs in one router message."""
    max_prompt_bytes: Annotated[int, Field(gt=0)] = 1_048_576
    """UTF-8 bytes of all text in one job."""
    max_image_bytes: Annotated[int, Field(gt=0)] = 20_971_520
    max_image_pixels: Annotated[int, Field(gt=0)] = 50_000_000
    redis_timeout: Annotated[float, Field(ge=1.5, le=600)] = 5.0
    """Seconds that Redis may take to accept a connection or to answer; a connection that stays silent for
    longer is given up and made anew."""
    lease_seconds: Annotated[float, Field(ge=1)] = 3.0
    """A worker or router that has not renewed its messages for this long is taken for dead."""
    audit_url: str = "sqlite:///state/audit.db"
    """Where final results are recorded for good: sqlite:///FILE, postgresql://…, or jsonl:FOLDER."""
    audit_url_file: Path | None = None
    signing_key: SecretStr | None = None
    """The key with which this process signs its jobs: 32 or more bytes in hexadecimal."""
    signing_key_file: Path | None = None
    verify_keys_file: Path | None = None
    """The router's file of the tenants' keys: a JSON object, see `batchyard.signing`."""
    log_prompts: bool = False
    """Whether logs may quote the texts of jobs."""
    omp_spin_count: Annotated[int, Field(ge=0)] | None = 2000
    """GOMP_SPINCOUNT of the engine, whose threads share their cores with others; None for OpenMP's own. Where
    it is not set, the machine's hardware profile decides."""

    @field_validator("audit_url")
    @classmethod
    def _audit_usable(cls, url: str) -> str:
        return checked_audit_url(url, "BATCHYARD_AUDIT_URL")

    @field_validator("redis_url")
    @classmethod
    def _usable(cls, url: str) -> str:
        return checked_url(url, "BATCHYARD_REDIS_URL")

    @property
    def url(self) -> str:
        """The Redis URL, from its file where one is named.

        Raises:
            InvalidConfig: the file cannot be read, or holds no URL that we can use.
        """
        if self.redis_url_file is None:
            return self.redis_url
        return checked_url(_secret(self.redis_url_file, "BATCHYARD_REDIS_URL"), "BATCHYARD_REDIS_URL_FILE")

    @property
    def audit(self) -> str:
        """The URL of the audit's record, from its file where one is named.

        Raises:
            InvalidConfig: the file cannot be read, or holds no URL of a kind that we have.
        """
        if self.audit_url_file is None:
            return self.audit_url
        url = _secret(self.audit_url_file, "BATCHYARD_AUDIT_URL")
        return checked_audit_url(url, "BATCHYARD_AUDIT_URL_FILE")

    def signer(self) -> bytes | None:
        """The key to sign jobs with, from its file where one is named; None for none.

        Raises:
            InvalidConfig: the file cannot be read, or the key is none.
        """
        if self.signing_key_file is not None:
            return read_key(self.signing_key_file, "BATCHYARD_SIGNING_KEY_FILE")
        if self.signing_key is not None:
            return checked_key(self.signing_key.get_secret_value(), "BATCHYARD_SIGNING_KEY")
        return None


def _secret(path: Path, variable: str) -> str:
    """What a file holds that `<variable>_FILE` names, without white space around it."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "not UTF-8"
        raise InvalidConfig(
            f"cannot read {path}: {why}",
            field=f"{variable}_FILE",
            remedy=f"mount the secret, or set {variable}",
        ) from None


_AUDIT_URL = re.compile(r"sqlite:///[^?]+|postgresql(\+psycopg)?://\S+|jsonl:\S.*")


def checked_audit_url(url: str, variable: str) -> str:
    """`url`, if it is of a kind that results can be recorded in; nothing is opened.

    Raises:
        InvalidConfig: naming `variable`. The URL may hold a password, so no part of it is repeated.
    """
    if _AUDIT_URL.fullmatch(url):
        return url
    raise InvalidConfig(
        "must be sqlite:///FILE, postgresql://USER:PASSWORD@HOST/DATABASE, or jsonl:FOLDER",
        field=variable,
        remedy="such as sqlite:///state/audit.db, or sqlite:////var/lib/… for a path from the root",
    )


def checked_url(url: str, variable: str) -> str:
    """`url`, if Redis can be asked for under it; nothing is connected.

    Raises:
        InvalidConfig: naming `variable`. The URL holds a password, so no part of it is repeated.
    """
    fault = _url_fault(url)
    if fault is not None:
        raise InvalidConfig(
            fault,
            field=variable,
            remedy="such as redis://:PASSWORD@HOST:6379/0, with / # ? @ in the password percent-encoded",
        )
    return url


_OPTIONS: dict[str, frozenset[str]] = {
    "redis": frozenset(),
    "rediss": frozenset({"ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile"}),
}
"""What may follow the ? of a URL: what redis-py, kombu and Celery's backend all take, as each role uses all
three. Without ssl_cert_reqs the backend refuses a rediss:// URL and kombu would not encrypt."""


def _url_fault(url: str) -> str | None:
    if not url.startswith(("redis://", "rediss://")):
        return "must start with redis:// or rediss:// (Celery's transport takes no unix:// socket here)"
    if any(character.isspace() for character in url):
        return "contains white space"
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  # raises if it is no number
    except ValueError:
        return "its host and port cannot be read"
    place = parts.path.strip("/")
    if place and not (place.isascii() and place.isdecimal()):
        return "the database after the host must be a number"
    options, taken = set(parse_qs(parts.query, keep_blank_values=True)), _OPTIONS[parts.scheme]
    if not options <= taken:
        return f"the options it may have after ? are: {', '.join(sorted(taken)) or 'none'}"
    if parts.scheme == "rediss" and "ssl_cert_reqs" not in options:
        return "rediss:// needs ?ssl_cert_reqs=required (or optional, or none)"
    try:
        redis.ConnectionPool.from_url(url).make_connection()
    except (ValueError, TypeError, redis.RedisError):
        return "the value of an option after ? cannot be used"
    return None


def load_settings(**overrides: object) -> Settings:
    """The settings of this process.

    Raises:
        InvalidConfig: naming the variable, if one does not fit.
    """
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as exc:
        first = exc.errors()[0]
        name = "BATCHYARD_" + "_".join(str(part) for part in first["loc"]).upper()
        raise InvalidConfig(first["msg"], field=name, remedy="correct or unset the variable") from exc
