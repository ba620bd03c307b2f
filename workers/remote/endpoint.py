"""One endpoint through the official SDK: a question in, the bytes of an answer or a fault out.

The only file that makes calls. The SDK's own retries are off: `backend` decides. It knows no breaker.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from openai import (
    APIConnectionError,
    APIStatusError,
    AsyncOpenAI,
    DefaultAsyncHttpxClient,
    Omit,
    Timeout,
)

from batchyard.entry import OpenaiEntry
from batchyard.yaml_file import ENV_PREFIX
from workers.port.settings import wrong_setting
from workers.remote.body import PLAIN, bound
from workers.remote.compose import Question
from workers.remote.faults import Fault, no_answer, refused, timed_out, unconnected
from workers.remote.reply import NoAnswer


def read_secret(entry: OpenaiEntry, environ: Mapping[str, str]) -> str | None:
    """The key that the entry names: in the environment under NAME, or in the file that NAME_FILE names.

    Raises:
        EngineError: model_file_invalid where there is none.
    """
    if entry.api_key is None:
        return None
    name = entry.api_key.removeprefix(ENV_PREFIX)
    path = environ.get(f"{name}_FILE", "")
    secret = environ.get(name, "").strip() or (_content(f"{name}_FILE", path) if path else "")
    if not secret or not secret.isascii() or not secret.isprintable():
        why = "is not set" if not secret else "holds what no HTTP header can carry"
        remedy = f"set {name} in the worker's environment, or name a file that holds it in {name}_FILE"
        raise wrong_setting("api_key", f"{name} {why}", remedy=remedy)
    return secret


def _content(variable: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise wrong_setting(
            "api_key", f"{variable}: cannot read {path}: {why}", remedy="mount the secret, readable"
        ) from None


class Endpoint:
    """The endpoint of an entry. `host` is what may be shown of its address."""

    def __init__(self, entry: OpenaiEntry, secret: str | None) -> None:
        self.host = urlsplit(entry.api_base).netloc
        self._entry = entry
        self._secret = secret
        # an endpoint without a key is sent none; the SDK insists on having one
        self._headers: dict[str, str | Omit] = {} if secret else {"Authorization": Omit()}
        self._client = AsyncOpenAI(
            base_url=entry.api_base,
            api_key=secret or "none",
            max_retries=0,
            timeout=Timeout(entry.timeout, connect=entry.connect_timeout),
            # a redirect would take the question to a host that the catalogue does not name
            http_client=DefaultAsyncHttpxClient(
                follow_redirects=False, headers=PLAIN, event_hooks={"response": [bound]}
            ),
        )

    async def ask(self, question: Question) -> bytes | Fault:
        """The body of the answer. Cancelling it closes the connection."""
        return await self._call(self._create(question), self._entry.timeout)

    async def models(self) -> bytes | Fault:
        """The body of /models."""
        call = self._client.models.with_raw_response.list(extra_headers=self._headers)
        return await self._call(call, self._entry.connect_timeout)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def _create(self, question: Question) -> Any:
        if question.chat:
            chat = self._client.chat.completions.with_raw_response
            return await chat.create(**question.body, extra_body=question.extra, extra_headers=self._headers)
        plain = self._client.completions.with_raw_response
        return await plain.create(**question.body, extra_body=question.extra, extra_headers=self._headers)

    async def _call(self, call: Any, seconds: float) -> bytes | Fault:
        try:
            # the SDK's own limits are between two pieces of an answer; this one is for all of it
            async with asyncio.timeout(seconds):
                answer = await call
        except TimeoutError:
            return timed_out(self.host, seconds)
        except NoAnswer as failure:
            return no_answer(self.host, str(failure), again=False)
        except APIStatusError as failure:
            return refused(failure, self.host, self._secret, time.time())
        except APIConnectionError as failure:
            return unconnected(failure, self.host, self._secret)
        body: bytes = answer.content
        return body
