"""A small HTTP server in a thread of its own that answers with the bytes a test has written down.

It speaks raw HTTP/1.1 so that it can also say what no server should.
"""

import asyncio
import json
import threading
from collections import deque
from typing import Any

HANG = b""
"""As an answer: none, until the caller hangs up."""


def answer(status: int, body: Any, **headers: str) -> bytes:
    """A whole answer; a body that is no text is sent as JSON."""
    text = body if isinstance(body, str) else json.dumps(body)
    data = text.encode("utf-8")
    lines = [f"HTTP/1.1 {status} X", "Content-Type: application/json", f"Content-Length: {len(data)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + data


def chat(content: Any, **more: Any) -> bytes:
    """An answer of chat.completions."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    return answer(200, {"model": "m-2", "choices": [choice | more.pop("choice", {})], "usage": usage} | more)


class ScriptedServer:
    """Answers /models with a list and every other call with the next of `script`, the last one for ever.

    `calls` holds what was asked: path, headers (lower case) and JSON body. `hung_up` counts callers that left
    before they were answered.
    """

    def __init__(self) -> None:
        self.script: deque[bytes] = deque([chat("fine")])
        self.models = answer(200, {"data": [{"id": "inspector"}]})
        self.calls: list[tuple[str, dict[str, str], Any]] = []
        self.hung_up = threading.Semaphore(0)
        self.asked = threading.Semaphore(0)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> "ScriptedServer":
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop
        ).result(10)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _stop(self) -> None:
        self._server.close()
        mine = asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not mine]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._answer_one(reader, writer):
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        path = head[0].split(" ")[1]
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        if path.endswith("/models"):
            writer.write(self.models)
            return True
        self.calls.append((path, headers, json.loads(body)))
        data = self.script.popleft() if len(self.script) > 1 else self.script[0]
        self.asked.release()
        if data == HANG:
            await reader.read()  # returns when the caller is gone
            self.hung_up.release()
            return False
        writer.write(data)
        return True
