"""The HTTP client against a server of the standard library: lengths, chunks, refusals, connections."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks.http_load import Address, HttpError, ask_all


class Handler(BaseHTTPRequestHandler):
    """Answers with what it was asked, and from which port."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        data = json.dumps({"asked": asked, "from": self.client_address[1]}).encode()
        self.send_response(503 if self.path == "/busy" else 200)
        if self.path == "/chunks":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for part in (data[:5], data[5:]):
                self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.send_header("Content-Length", str(len(data)))
            if self.path == "/goodbye":
                self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(data)
            self.close_connection = self.close_connection or self.path == "/hangs-up"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("path", ["/length", "/chunks"])
def test_answers_come_in_the_order_of_the_questions(port: int, path: str) -> None:
    bodies = [{"number": number, "text": "焊接" * number} for number in range(20)]
    answers = ask_all(Address(port, path), bodies, connections=3)
    assert [answer["asked"] for answer in answers] == bodies


def test_connections_are_kept(port: int) -> None:
    answers = ask_all(Address(port, "/length"), [{}] * 20, connections=2)
    assert len({answer["from"] for answer in answers}) <= 2


@pytest.mark.parametrize("path", ["/goodbye", "/hangs-up"])
def test_a_connection_that_the_server_ends_is_opened_again(port: int, path: str) -> None:
    answers = ask_all(Address(port, path), [{"number": number} for number in range(12)], connections=2)
    assert [answer["asked"]["number"] for answer in answers] == list(range(12))
    assert len({answer["from"] for answer in answers}) > 2


def test_a_refusal_is_an_error_with_its_reason(port: int) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        ask_all(Address(port, "/busy"), [{"number": 1}], connections=1)
    assert caught.group_contains(HttpError, match="503.*number")
