"""A TLS server before a plain one, with certificates made on the spot, for tests."""

import selectors
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Authority:
    """A certificate that signs itself, for 127.0.0.1, and its key."""

    certificate: Path
    key: Path


def make_authority(folder: Path, name: str) -> Authority:
    """Make one with openssl; the test is left out where there is none."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl to make certificates with")
    made = Authority(folder / f"{name}.pem", folder / f"{name}.key")
    subprocess.run(
        [
            openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}",
            "-addext", f"subjectAltName=IP:{HOST}", "-keyout", made.key, "-out", made.certificate,
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    return made


@contextmanager
def tls_before(port: int, authority: Authority) -> Iterator[int]:
    """The port of a TLS server that passes what it gets to the plain server at `port`, and back."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.certificate, authority.key)
    with socket.create_server((HOST, 0)) as listener:
        threading.Thread(target=_accept, args=(listener, context, port), daemon=True).start()
        yield int(listener.getsockname()[1])


def _accept(listener: socket.socket, context: ssl.SSLContext, port: int) -> None:
    while True:
        try:
            plain, _ = listener.accept()
        except OSError:  # the test is over
            return
        threading.Thread(target=_serve, args=(plain, context, port), daemon=True).start()


def _serve(plain: socket.socket, context: ssl.SSLContext, port: int) -> None:
    """Pass bytes both ways until one side is done."""
    try:
        with (
            context.wrap_socket(plain, server_side=True) as outside,
            socket.create_connection((HOST, port)) as inside,
        ):
            _pass_on(outside, inside)
    except OSError:  # a client that does not trust us, or one that has gone
        return


def _pass_on(outside: ssl.SSLSocket, inside: socket.socket) -> None:
    selector = selectors.DefaultSelector()
    selector.register(outside, selectors.EVENT_READ, inside)
    selector.register(inside, selectors.EVENT_READ, outside)
    while True:
        for key, _ in selector.select():
            source: socket.socket = key.fileobj  # type: ignore[assignment]
            data = source.recv(65_536)
            while isinstance(source, ssl.SSLSocket) and source.pending():
                data += source.recv(65_536)
            if not data:
                return
            key.data.sendall(data)
