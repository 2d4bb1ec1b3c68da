"""Paid orders posted to the webhook endpoint from a process of its own: requests that were signed
before the clock starts, over kept connections, each due at its time.

It prints one JSON object: when each order was posted (seconds since 1970), and its own CPU.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import cast

import uvloop

from deploy.demo.woocommerce import Item, Purchase, headers, order_body

STAMPED = ("Ada Example", "Chloé Dupré", "Jürgen Müller", "Grace O'Hara", "Bjørn Ångström")
ODD = "小林 美咲"  # a name that the layout process has to print


def request(options: argparse.Namespace, number: int) -> bytes:
    """Return the whole request of a paid order, signed."""
    odd_every = round(1 / options.odd) if options.odd else 0
    name = ODD if odd_every and number % odd_every == 0 else STAMPED[number % len(STAMPED)]
    item = Item(number * 10, 93, "BENCH", "Raffle entry", options.tickets, 500)
    purchase = Purchase(number, name, f"buyer{number}@example.org", (item,))
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=60)
    body = order_body(purchase, "completed", at, at)
    lines = headers(options.secret, "order.updated", body, second=number)
    head = "".join(f"{name}: {text}\r\n" for name, text in lines.items())
    return (
        f"POST {options.path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        f"{head}\r\n"
    ).encode() + body


class Load:
    """The orders that are left to post, each due at its time."""

    def __init__(self, requests: list[tuple[int, bytes]], rate: float) -> None:
        self._requests = iter(enumerate(requests))
        self._rate, self._begun = rate, time.perf_counter()
        self.posted: dict[int, float] = {}
        self.refused = 0

    def next(self) -> tuple[float, int, bytes] | None:
        """Return when the next order is due (perf_counter), its number and its request."""
        for index, (number, encoded) in self._requests:
            due = self._begun + index / self._rate if self._rate else time.perf_counter()
            return due, number, encoded
        return None


class Connection(asyncio.Protocol):
    """Posts one order after another. A refused one is posted again, as shops do."""

    def __init__(self, load: Load, done: asyncio.Future[None]) -> None:
        self._load, self.done, self._response = load, done, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport is no subclass of asyncio's
        self._transport = cast("asyncio.Transport", transport)
        self._take()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("the endpoint closed the connection"))

    def _take(self) -> None:
        if (entry := self._load.next()) is None:
            self.done.set_result(None)
            self._transport.close()
            return
        due, self._number, self._encoded = entry
        wait_s = max(0.0, due - time.perf_counter())
        asyncio.get_running_loop().call_later(wait_s, self._post)

    def _post(self) -> None:
        # A refused order counts from its first try.
        self._load.posted.setdefault(self._number, time.time())
        self._transport.write(self._encoded)

    def data_received(self, data: bytes) -> None:
        self._response += data
        head, separator, body = self._response.partition(b"\r\n\r\n")
        if not separator:
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        if len(body) < length:
            return
        self._response = b""
        if head[9:12] == b"200":
            self._take()
            return
        self._load.refused += 1
        asyncio.get_running_loop().call_later(0.2, self._post)


def same(connection: Connection) -> Connection:
    return connection


async def run(options: argparse.Namespace) -> dict[str, object]:
    numbers = range(options.first, options.first + options.orders)
    load = Load([(number, request(options, number)) for number in numbers], options.rate)
    loop = asyncio.get_running_loop()
    connections = [Connection(load, loop.create_future()) for _ in range(options.connections)]
    for connection in connections:
        await loop.create_connection(partial(same, connection), "127.0.0.1", options.port)
    await asyncio.gather(*(connection.done for connection in connections))
    return {"posted": load.posted, "refused": load.refused, "cpu_s": time.process_time()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--secret", required=True)
    parser.add_argument("--first", type=int, required=True, help="the first order's number")
    parser.add_argument("--orders", type=int, required=True)
    parser.add_argument("--rate", type=float, default=0.0, help="orders a second; 0: at once")
    parser.add_argument("--tickets", type=int, default=1, help="tickets of an order")
    parser.add_argument("--odd", type=float, default=0.0, help="share of names to lay out")
    parser.add_argument("--connections", type=int, default=16)
    print(json.dumps(uvloop.run(run(parser.parse_args()))))


if __name__ == "__main__":
    main()
