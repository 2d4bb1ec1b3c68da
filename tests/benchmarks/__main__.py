"""`make bench`: all benchmarks, on stacks of their own unless the environment names servers.

`--only lanes|webhooks|normalising|storm|pipeline|rendering|delivered` runs one part.
`--against COMMIT` runs it on that commit and on this one in turn, and prints the ratios.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.local.stack import Stack
from tests.benchmarks import (
    against,
    delivered,
    lanes,
    normalising,
    pipeline,
    rendering,
    storm,
    webhooks,
)
from tests.benchmarks.report import MeasuredFigure, show

TITLES = {
    "lanes": "Lanes",
    "webhooks": "The webhook endpoint",
    "storm": "Ingest in a storm of duplicates",
    "normalising": "Callbacks normalised",
    "pipeline": "Orders through ingest, approval and issuer",
    "rendering": "Tickets rendered",
    "delivered": "Paid orders to accepted mails",
}


@contextmanager
def servers() -> Iterator[tuple[str, str]]:
    """Start a migrated database and a broker, new for each part, so that none measures what another
    left.
    """
    names = ("KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL")
    if all(os.environ.get(name) for name in names):
        migrate(os.environ.copy())
        yield os.environ[names[0]], os.environ[names[1]]
        return
    with Stack.temporary() as stack:
        migrate({**os.environ, **stack.environment})
        yield stack.bootstrap_servers, stack.database_url


def migrate(environment: dict[str, str]) -> None:
    program = str(Path(sys.executable).with_name("stubline"))
    subprocess.run([program, "migrate"], env=environment, check=True, stdout=subprocess.DEVNULL)


def measured(part: str, options: argparse.Namespace) -> list[MeasuredFigure]:
    if part == "rendering":
        return rendering.figures(
            runs=options.runs, tickets=options.tickets, odd_names=options.odd_names
        )
    if part == "normalising":
        return normalising.figures(runs=options.runs)
    if part == "delivered":
        return delivered.figures(orders=options.paid_orders, backlog_mails=options.backlog)
    with servers() as (broker, database_url):
        return measured_on_servers(part, options, broker, database_url)


def measured_on_servers(
    part: str, options: argparse.Namespace, broker: str, database_url: str
) -> list[MeasuredFigure]:
    if part == "lanes":
        bench = lanes.open_bench(broker, database_url)
        return lanes.figures(bench, records=options.records, runs=options.runs)
    if part == "webhooks":
        return webhooks.figures(broker, runs=options.runs)
    if part == "storm":
        return storm.figures(broker, database_url, runs=options.runs)
    return pipeline.figures(broker, database_url, orders=options.orders)


def without_comparison(arguments: Iterator[str]) -> Iterator[str]:
    """Return the options that both commits get."""
    for argument in arguments:
        name, separator, _ = argument.partition("=")
        if name not in {"--against", "--rounds"}:
            yield argument
        elif not separator:
            next(arguments, None)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--only", choices=TITLES, help="one part")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--records", type=int, default=600_000)
    parser.add_argument("--orders", type=int, default=200_000)
    parser.add_argument("--tickets", type=int, default=100_000)
    parser.add_argument("--paid-orders", type=int, default=20_000)
    parser.add_argument("--backlog", type=int, default=10_000)
    parser.add_argument("--odd-names", type=int, default=2_000)
    parser.add_argument("--against", metavar="COMMIT", help="compare with this commit, in turn")
    parser.add_argument("--rounds", type=int, default=3, help="of --against")
    options, passed = parser.parse_args(), iter(sys.argv[1:])
    if options.against is not None:
        against.compare(options.against, list(without_comparison(passed)), options.rounds)
        return 0
    missed = 0
    for part in [options.only] if options.only else list(TITLES):
        figures = measured(part, options)
        show(TITLES[part], figures)
        missed += sum(figure.is_met is False for figure in figures)
    return int(missed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
