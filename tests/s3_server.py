"""A real S3-compatible server on loopback, and a proxy before it that fails as networks do."""

from __future__ import annotations

import http.client
import random
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

# without a wait for more to send, which costs 40 ms a request
MOTO = """
from werkzeug.serving import WSGIRequestHandler
WSGIRequestHandler.disable_nagle_algorithm = True
from moto.server import main
main()
"""


@contextmanager
def s3_server() -> Iterator[str]:
    """The URL of a server in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-c", MOTO, "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                assert server.poll() is None, "the S3 server ended"
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def surroundings(endpoint: str) -> dict[str, str]:
    """What has to be in the environment to reach the server."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }


def make_bucket(endpoint: str, name: str) -> None:
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{name}", method="PUT")).close()


class Bucket:
    """Objects of a place, reached past the proxy and past facefold."""

    def __init__(self, endpoint: str, url: str) -> None:
        from obstore.store import S3Store

        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        options = {"endpoint": endpoint, "region": "us-east-1"}
        keys = {"access_key_id": "test", "secret_access_key": "test"}
        allow = {"allow_http": True}
        self._store = S3Store(bucket, prefix=prefix, **options, **keys, client_options=allow)

    def read(self, name: str) -> bytes:
        import obstore

        return bytes(obstore.get(self._store, name).bytes())

    def write(self, name: str, content: bytes) -> None:
        import obstore

        obstore.put(self._store, name, content)

    def remove(self, name: str) -> None:
        import obstore

        obstore.delete(self._store, name)

    def flip(self, name: str, bit: int) -> None:
        content = bytearray(self.read(name))
        content[bit // 8] ^= 1 << bit % 8
        self.write(name, bytes(content))


class Faults:
    """What the proxy does to requests: of each kind, a share, drawn by seed; `seen` counts them."""

    KINDS = ("403", "500", "503", "reset", "cut", "lost", "stall")

    def __init__(self, shares: dict[str, float] | None = None, seed: int = 0) -> None:
        self.shares, self.random = shares or {}, random.Random(seed)
        self.seen = dict.fromkeys((*self.KINDS, "none"), 0)
        self.stall_s = 2.0
        self.requests: list[tuple[str, str]] = []
        """Method and path of those that were passed on."""
        self.bytes_sent = 0
        self.before: Callable[[str, str], None] = lambda method, path: None
        """Called with the method and path of each request."""
        self._lock = threading.Lock()

    def draw(self) -> str:
        with self._lock:
            at, kind = self.random.random(), "none"
            for candidate, share in self.shares.items():
                if at < share:
                    kind = candidate
                    break
                at -= share
            self.seen[kind] += 1
            return kind


@contextmanager
def failing_proxy(endpoint: str, faults: Faults) -> Iterator[str]:
    """The URL of a proxy before `endpoint`."""
    upstream = urlsplit(endpoint).netloc

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            faults.before(self.command, self.path)
            kind = faults.draw()
            if kind.isdigit():
                self.send_response(int(kind))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if kind == "reset":
                self.reset()
                return
            if kind == "stall":
                time.sleep(faults.stall_s)
                self.close_connection = True
                return
            faults.requests.append((self.command, self.path))
            connection = http.client.HTTPConnection(upstream)
            connection.request(self.command, self.path, body, dict(self.headers.items()))
            got = connection.getresponse()
            content = got.read()
            connection.close()
            if kind == "lost":  # what was asked for is done
                self.reset()
                return
            self.send_response(got.status)
            for name, value in got.getheaders():
                if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                    self.send_header(name, value)
            length = got.getheader("Content-Length")
            self.send_header("Content-Length", length or str(len(content)))
            self.end_headers()
            faults.bytes_sent += len(content)
            if kind == "cut":
                self.wfile.write(content[: len(content) // 2])
                self.wfile.flush()
                self.reset()
                return
            self.wfile.write(content)

        def reset(self) -> None:
            """Close at once, which sends RST."""
            lingering = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, lingering)
            self.close_connection = True
            self.connection.close()

        def handle(self) -> None:
            with suppress(OSError, ValueError):  # the client has hung up, or this side has
                super().handle()

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
