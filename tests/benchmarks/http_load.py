"""A load of signed callbacks, from a process of its own: keep-alive connections, each with one request under way at a time.

The bodies are made and signed before the clock starts, so that what is measured is the server.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hmac
import json
import time
from pathlib import Path
from typing import cast

import uvloop

SAMPLE = Path(__file__).resolve().parents[1] / "fixtures" / "woocommerce" / "order.json"


def requests(path: str, secret: str, count: int) -> list[bytes]:
    """Different orders in the vendor's form."""
    order = json.loads(SAMPLE.read_bytes())
    made = []
    for number in range(count):
        body = json.dumps(order | {"id": 1_000_000 + number, "number": str(number)}, separators=(",", ":")).encode()
        signature = base64.b64encode(hmac.digest(secret.encode(), body, "sha256")).decode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: WooCommerce/11.2.0 Hookshot (WordPress/6.9)\r\n"
            f"Content-Type: application/json\r\nX-WC-Webhook-Source: https://shop.example.org/\r\n"
            f"X-WC-Webhook-Topic: order.updated\r\nX-WC-Webhook-Resource: order\r\nX-WC-Webhook-Event: updated\r\n"
            f"X-WC-Webhook-Signature: {signature}\r\nX-WC-Webhook-ID: 12\r\n"
            f"X-WC-Webhook-Delivery-ID: {number:032x}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        made.append(head.encode() + body)
    return made


class Connection(asyncio.Protocol):
    """Sends the next request when the answer to the last one has come."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own is none by its class
        self._next()

    def _next(self) -> None:
        if (request := self._load.next()) is None:
            self._transport.close()
            return
        self._sent_at = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, found, body = self._answer.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        if len(body) < length:
            return
        self._answer = b""
        self._load.answered(head[9:12] == b"200", time.perf_counter() - self._sent_at)
        self._next()


class Load:
    """For a number of seconds; what is answered in the first part warms up and is not counted."""

    def __init__(self, made: list[bytes], seconds: float, warm_s: float) -> None:
        self._made, self._sent = made, 0
        self.begun = time.perf_counter() + warm_s
        self.ends = self.begun + seconds
        self.taken = self.refused = 0
        self.times: list[float] = []

    def next(self) -> bytes | None:
        if time.perf_counter() > self.ends:
            return None
        self._sent += 1
        return self._made[self._sent % len(self._made)]

    def answered(self, is_taken: bool, seconds: float) -> None:
        if time.perf_counter() < self.begun:
            return
        if not is_taken:
            self.refused += 1
            return
        self.taken += 1
        self.times.append(seconds)


async def run(given: argparse.Namespace) -> dict[str, float]:
    load = Load(requests(given.path, given.secret, given.bodies), given.seconds, given.warm)
    loop = asyncio.get_running_loop()
    for _ in range(given.connections):
        await loop.create_connection(lambda: Connection(load), "127.0.0.1", given.port)
    await asyncio.sleep(given.warm + given.seconds + 0.5)
    ranked = sorted(load.times) or [float("nan")]
    return {
        "rate": load.taken / given.seconds,
        "refused": load.refused,
        "p50_ms": ranked[len(ranked) // 2] * 1_000,
        "p99_ms": ranked[min(len(ranked) - 1, int(len(ranked) * 0.99))] * 1_000,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--secret", required=True)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--warm", type=float, default=1.0)
    parser.add_argument("--bodies", type=int, default=2_000)
    print(json.dumps(uvloop.run(run(parser.parse_args()))))


if __name__ == "__main__":
    main()
