"""Paid orders posted to the webhook endpoint from a process of its own: requests that were signed
before the clock starts, over kept connections, each due at its time.

It prints one JSON object: when each order was posted (seconds since 1970), and its own CPU.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

import uvloop

from deploy.demo import kept_connection
from deploy.demo.kept_connection import KeptConnection
from deploy.demo.woocommerce import Item, Purchase, headers, order_body

STAMPED = ("Ada Example", "Chloé Dupré", "Jürgen Müller", "Grace O'Hara", "Bjørn Ångström")
ODD = "小林 美咲"  # a name that the layout process has to print
REFUSED_WAIT_S = 0.2


def request(options: argparse.Namespace, number: int) -> bytes:
    """Return the whole request of a paid order, signed."""
    odd_every = round(1 / options.odd) if options.odd else 0
    name = ODD if odd_every and number % odd_every == 0 else STAMPED[number % len(STAMPED)]
    item = Item(number * 10, 93, "BENCH", "Raffle entry", options.tickets, 500)
    purchase = Purchase(number, name, f"buyer{number}@example.org", (item,))
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=60)
    body = order_body(purchase, "completed", at, at)
    lines = headers(options.secret, "order.updated", body, second=number)
    return kept_connection.post(options.path, lines, body)


@dataclass
class Load:
    """The orders that are left to post, each due at its time."""

    requests: Iterator[tuple[int, tuple[int, bytes]]]
    rate: float  # orders a second; 0: at once
    begun: float = field(default_factory=time.perf_counter)
    posted: dict[int, float] = field(default_factory=dict)  # order -> when, since 1970
    refused: int = 0

    async def post(self, port: int) -> None:
        """Post orders over one connection until none is left. A refused one is posted again, as
        shops do, and counts from its first try.
        """
        async with KeptConnection(port) as connection:
            for index, (number, encoded) in self.requests:
                due = self.begun + index / self.rate if self.rate else 0.0
                if (wait_s := due - time.perf_counter()) > 0:
                    await asyncio.sleep(wait_s)
                self.posted[number] = time.time()
                while (await connection.request(encoded)).status != HTTPStatus.OK:
                    self.refused += 1
                    await asyncio.sleep(REFUSED_WAIT_S)


async def run(options: argparse.Namespace) -> dict[str, object]:
    numbers = range(options.first, options.first + options.orders)
    load = Load(enumerate([(number, request(options, number)) for number in numbers]), options.rate)
    await asyncio.gather(*(load.post(options.port) for _ in range(options.connections)))
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
