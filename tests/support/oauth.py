"""A token server for one test: tokens without a signature, for the client credentials that it
knows.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LIVES_S = 300


@contextmanager
def token_server(client: str, secret: str) -> Iterator[str]:
    """The URL at which tokens are requested."""
    expected = "Basic " + base64.b64encode(f"{client}:{secret}".encode()).decode()

    class TokenHandler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.headers.get("Authorization") != expected:
                self.send_error(401)
                return
            now = int(time.time())
            claims = {"sub": client, "iat": now, "exp": now + LIVES_S}
            token = f"{_part({'alg': 'none', 'typ': 'JWT'})}.{_part(claims)}."
            body = json.dumps({"access_token": token, "expires_in": LIVES_S}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the signature of http.server
            """No line for each token."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), TokenHandler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/token"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def _part(content: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()
