"""A load of signed callbacks, from a process of its own, over keep-alive connections with one
request at a time each.

The bodies are made and signed before the clock starts, so that only the server is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from typing import cast

import uvloop

from tests.support.vendors import VENDORS

REWRITTEN = frozenset({b"host", b"content-length"})  # headers that this load sets itself


def requests(path: str, kind: str, count: int) -> list[bytes]:
    """Return requests in the vendor's form, signed now. WooCommerce's are different orders, the
    others repeat their samples.
    """
    vendor, now = VENDORS[kind], time.time()
    samples = list(vendor.samples.values())
    if kind == "woocommerce":
        # A payment's id as Stripe gives it. The sample's many zeros look like a card's number,
        # which costs a closer check.
        order = json.loads(samples[0].body) | {"transaction_id": "ch_3MmlLrLkdIwHu7ix0snN0B15"}
        order["meta_data"] = [
            {"id": 13106, "key": "_stripe_intent_id", "value": "pi_3MtwBwLkdIwHu7ix28a3tqPa"}
        ]
        bodies = [
            json.dumps(order | {"id": 1_000_000 + n, "number": str(n)}, separators=(",", ":"))
            for n in range(count)
        ]
        samples = [samples[0]._replace(body=body.encode()) for body in bodies]
    encoded = list[bytes]()
    for sample in samples:
        headers = dict(vendor.sign(sample, vendor.secret, now))
        headers.setdefault(b"content-type", vendor.source.media)
        lines = [
            b"%b: %b\r\n" % (name, text) for name, text in headers.items() if name not in REWRITTEN
        ]
        tail = f"/{vendor.path_suffix}" if vendor.path_suffix else ""
        head = (
            f"POST {path}{tail} HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
            f"{len(sample.body)}\r\n"
        )
        encoded.append(head.encode() + b"".join(lines) + b"\r\n" + sample.body)
    return encoded


class LoadConnection(asyncio.Protocol):
    """Sends the next request when the response to the last one has come."""

    def __init__(self, load: HttpLoad) -> None:
        self._load = load
        self._response = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(
            "asyncio.Transport", transport
        )  # uvloop's transport is no subclass of it
        self._next()

    def _next(self) -> None:
        due = self._load.due()
        if due is None:
            self._transport.close()
        elif (early := due - time.perf_counter()) > 0:
            asyncio.get_running_loop().call_later(early, self._send, due)
        else:
            self._send(due)

    def _send(self, due: float) -> None:
        self._due = due
        self._transport.write(self._load.next())

    def data_received(self, data: bytes) -> None:
        self._response += data
        head, separator, body = self._response.partition(b"\r\n\r\n")
        if not separator:
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        if len(body) < length:
            return
        self._response = b""
        self._load.answered(head[9:12] == b"200", time.perf_counter() - self._due)
        self._next()


class HttpLoad:
    """Runs for a number of seconds after a warm-up that is not counted.

    With a rate, each request is due at its time, and its response time counts from then, whenever
    it could be sent: a server that falls behind is not spared.
    """

    def __init__(self, encoded: list[bytes], seconds: float, warm_s: float, rate: float) -> None:
        self._encoded, self._sent, self._planned, self._rate = encoded, 0, 0, rate
        self._opened = time.perf_counter()
        self.begun = self._opened + warm_s
        self.ends = self.begun + seconds
        self.taken = self.refused = 0
        self.times: list[float] = []

    def due(self) -> float | None:
        """Return when the next one is to be sent; None when the run is over."""
        now = time.perf_counter()
        self._planned += 1
        due = self._opened + self._planned / self._rate if self._rate else now
        return due if max(now, due) <= self.ends else None

    def next(self) -> bytes:
        self._sent += 1
        return self._encoded[self._sent % len(self._encoded)]

    def answered(self, is_taken: bool, seconds: float) -> None:
        if time.perf_counter() < self.begun:
            return
        if not is_taken:
            self.refused += 1
            return
        self.taken += 1
        self.times.append(seconds)


async def run(options: argparse.Namespace) -> dict[str, float]:
    load = HttpLoad(
        requests(options.path, options.kind, options.bodies),
        options.seconds,
        options.warm,
        options.rate,
    )
    loop = asyncio.get_running_loop()
    for _ in range(options.connections):
        await loop.create_connection(lambda: LoadConnection(load), "127.0.0.1", options.port)
    await asyncio.sleep(options.warm + options.seconds + 0.5)
    ranked = sorted(load.times) or [float("nan")]
    return {
        "rate": load.taken / options.seconds,
        "refused": load.refused,
        "p50_ms": ranked[len(ranked) // 2] * 1_000,
        "p99_ms": ranked[min(len(ranked) - 1, int(len(ranked) * 0.99))] * 1_000,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--kind", default="woocommerce", choices=VENDORS)
    parser.add_argument(
        "--rate", type=float, default=0.0, help="requests a second; 0: as fast as they are answered"
    )
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--warm", type=float, default=1.0)
    parser.add_argument("--bodies", type=int, default=2_000)
    print(json.dumps(uvloop.run(run(parser.parse_args()))))


if __name__ == "__main__":
    main()
