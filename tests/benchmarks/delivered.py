"""From a paid order's callback to its accepted mail: CPU of every process, time, and throughput.

Everything runs as an installation does: the webhook endpoint, four lanes, two senders, one broker,
one database, one mail server that writes each mail to disk before it accepts it.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import psutil
import psycopg

from deploy.local.programs import ENDPOINT, STAGES, Services, services
from deploy.local.stack import Stack
from services.issuer.commands import CampaignCommands
from services.issuer.rules.campaigns import CampaignDefinition
from services.runtime.admin.commands import OperatorCommand
from services.runtime.admin.migrate import migrate
from services.runtime.postgres import connection as database
from tests.benchmarks import cpu_account
from tests.benchmarks.cpu_account import Account
from tests.benchmarks.report import MeasuredFigure, percentile

SOURCE, SENDERS, WARM_ORDERS = "bench", 2, 60
CPU_MS_MAX, RATE_MIN, P95_S_MAX, BACKLOG_MIN, IDLE_CORES_MAX = 9.0, 200.0, 2.0, 300.0, 0.12
IDLE_S, STALLED_S = 15.0, 90.0
SENT = """
select orders.order_id, extract(epoch from max(sent_at))
from delivery.jobs join delivery.orders using (order_id)
where state = 'sent' and order_id = any(%s::text[]) group by orders.order_id
"""
DONE = "select count(*) from delivery.jobs where state = 'sent'"


@dataclass
class DeliverySite:
    """The installation under measurement."""

    stack: Stack
    running: Services
    secret: str
    next_order: int = 1_000
    mails: int = 0
    loops_ms: list[float] = field(default_factory=list)

    def kinds(self) -> dict[str, tuple[int, ...]]:
        """Return the ids of the processes by kind."""
        program = self.running.programs
        return {
            "kafka": tuple(broker.pid for broker in self.stack.kafka),
            "postgresql": (self.stack.postgres.pid,),
            "mail server": (self.stack.smtp.pid,),
            "endpoint": (program[ENDPOINT].pid,),
            "senders": tuple(program[f"sender-{n}"].pid for n in range(1, SENDERS + 1)),
            **{stage: (program[stage].pid,) for stage in STAGES},
        }

    def read(self) -> cpu_account.Reading:
        self.loops_ms.append(cpu_account.fixed_loop_ms())
        return cpu_account.read(self.kinds(), self.stack.database_url)

    def post(self, orders: int, rate: float, tickets: int, odd: float) -> dict[str, object]:
        """Post paid orders, and return what the load reports."""
        first, self.next_order = self.next_order, self.next_order + orders
        options = [
            *(
                "--port",
                str(self.running.webhooks_port),
                "--path",
                f"/hooks/{SOURCE}",
                "--secret",
                self.secret,
            ),
            *("--first", str(first), "--orders", str(orders), "--rate", str(rate)),
            *("--tickets", str(tickets), "--odd", str(odd)),
        ]
        command = [sys.executable, "-m", "tests.benchmarks.delivered_load", *options]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        report: dict[str, object] = json.loads(done.stdout)
        return report

    def wait_for_mails(self, mails: int) -> None:
        """Wait until so many more mails were accepted; raise when nothing moves any more."""
        self.mails += mails
        last, moved_at = -1, time.monotonic()
        with psycopg.connect(self.stack.database_url, autocommit=True) as connection:
            while (row := connection.execute(DONE).fetchone() or (0,))[0] < self.mails:
                if row[0] != last:
                    last, moved_at = row[0], time.monotonic()
                if time.monotonic() - moved_at > STALLED_S:
                    raise TimeoutError(f"{last} of {self.mails} mails were accepted")
                time.sleep(0.1)

    def mailed(self, posted: dict[str, float]) -> dict[str, float]:
        """Return when the last mail of each order was accepted, in seconds since 1970."""
        ids = {f"{SOURCE}:{number}": number for number in posted}
        with psycopg.connect(self.stack.database_url) as connection:
            return {ids[name]: float(at) for name, at in connection.execute(SENT, [list(ids)])}


@contextmanager
def site() -> Iterator[DeliverySite]:
    """Start the installation, with one campaign, and send it some orders."""
    with Stack.temporary() as stack, tempfile.TemporaryDirectory(prefix="stubline-bench-") as name:
        folder, secret = Path(name), secrets.token_urlsafe(24)
        migrate(stack.database_url, stack.bootstrap_servers)
        apply_campaign(stack.database_url)
        sources = folder / "sources.toml"
        sources.write_text(
            f'[sources.{SOURCE}]\nkind = "woocommerce"\nsecrets = ["env:BENCH_SECRET"]\n'
        )
        environment = {**stack.environment, "BENCH_SECRET": secret}
        with services(folder, environment, sources, senders=SENDERS) as running:
            started = DeliverySite(stack, running, secret)
            started.post(WARM_ORDERS, 30.0, 1, 0.0)
            started.wait_for_mails(WARM_ORDERS)
            yield started


def apply_campaign(database_url: str) -> None:
    content = {
        "id": "bench",
        "name": "Bench Draw",
        "sources": [SOURCE],
        "skus": ["BENCH"],
        "prefix": "B-",
        "padding": 7,
        "date": "2027-03-20",
        "venue": "Riverside Hall",
        "design": "raffle-entry",
    }
    with database.connect(database_url, name="bench") as connection:
        CampaignCommands(connection, OperatorCommand("bench", uuid4())).apply(
            [CampaignDefinition.model_validate(content)]
        )


@dataclass(frozen=True, slots=True)
class DeliveryRun:
    """Orders at a rate: what they cost and how long each took."""

    orders: int
    account: Account
    waits_s: Sequence[float]
    seconds: float  # from the first callback to the last mail

    @property
    def cpu_ms(self) -> float:
        return 1_000 * self.account.total_s / self.orders

    @property
    def times(self) -> str:
        p50, p95 = percentile(self.waits_s, 0.5), percentile(self.waits_s, 0.95)
        return f"paid to mailed p50 {p50:.2f} s, p95 {p95:.2f} s"


def measured(
    place: DeliverySite, orders: int, rate: float, *, tickets: int = 1, odd: float = 0.0
) -> DeliveryRun:
    first = place.read()
    report = place.post(orders, rate, tickets, odd)
    place.wait_for_mails(orders)
    last = place.read()
    poster_s, posted = report["cpu_s"], report["posted"]
    assert isinstance(poster_s, float)
    assert isinstance(posted, dict)
    mailed = place.mailed(posted)
    waits_s = [at - posted[number] for number, at in mailed.items()]
    seconds = max(mailed.values()) - min(posted.values())
    return DeliveryRun(orders, cpu_account.between(first, last, poster_s), waits_s, seconds)


def verdict(account: Account, is_met: bool) -> bool | None:
    """Return None where other processes kept the machine too busy for a verdict."""
    return None if account.is_too_busy else is_met


def per_order(run: DeliveryRun) -> str:
    """Return what an order costs besides CPU, and how quiet the machine was."""
    account = run.account
    return (
        f"{account.commits / run.orders:.1f} commits, {account.fsyncs / run.orders:.1f} WAL fsyncs "
        f"an order; {account.cores:.2f} cores; others used {account.others_share:.0%}"
        + (": too busy to tell" if account.is_too_busy else "")
    )


def cost(place: DeliverySite, orders: int, rate: float) -> list[MeasuredFigure]:
    run = measured(place, orders, rate)
    return [
        MeasuredFigure(
            f"CPU of an order with its mail, {rate:.0f}/s",
            f"{run.cpu_ms:.2f} ms",
            run.account.by_kind(orders),
            f"<= {CPU_MS_MAX} ms",
            verdict(run.account, run.cpu_ms <= CPU_MS_MAX),
        ),
        MeasuredFigure(
            f"time of an order, {rate:.0f}/s",
            run.times,
            per_order(run),
            f"p95 <= {P95_S_MAX} s",
            verdict(run.account, percentile(run.waits_s, 0.95) <= P95_S_MAX),
        ),
    ]


def throughput(place: DeliverySite, orders: int) -> list[MeasuredFigure]:
    """Post as fast as the endpoint takes them."""
    run = measured(place, orders, 0.0)
    rate = orders / run.seconds
    return [
        MeasuredFigure(
            f"{orders:,} orders at once, to their mails",
            f"{rate:.0f}/s",
            f"{run.cpu_ms:.2f} ms each: {run.account.by_kind(orders)}; {per_order(run)}",
            f">= {RATE_MIN:.0f}/s",
            verdict(run.account, rate >= RATE_MIN),
        )
    ]


def others(place: DeliverySite, orders: int, rate: float) -> list[MeasuredFigure]:
    """Measure the same with three tickets, and with names that have to be laid out."""
    figures = []
    for title, options in (("3 tickets", {"tickets": 3}), ("5 % odd names", {"odd": 0.05})):
        run = measured(place, orders, rate, **options)
        figures.append(
            MeasuredFigure(
                f"CPU of an order, {title}, {rate:.0f}/s",
                f"{run.cpu_ms:.2f} ms",
                f"{run.times}; {run.account.by_kind(orders)}",
                "printed",
            )
        )
    return figures


def idle(place: DeliverySite) -> list[MeasuredFigure]:
    first = place.read()
    time.sleep(IDLE_S)
    account = cpu_account.between(first, place.read(), 0.0)
    used = ", ".join(f"{kind} {s / account.wall_s:.3f}" for kind, s in account.seconds.items())
    return [
        MeasuredFigure(
            "idle",
            f"{account.cores:.3f} core",
            used,
            f"<= {IDLE_CORES_MAX}",
            verdict(account, account.cores <= IDLE_CORES_MAX),
        )
    ]


def backlog(place: DeliverySite, orders: int) -> list[MeasuredFigure]:
    """Hold the senders still, fill the queue, and let them go."""
    senders = [place.running.programs[f"sender-{n}"] for n in range(1, SENDERS + 1)]
    for sender in senders:
        sender.pause()
    place.post(orders, 0.0, 1, 0.0)
    wait_until_created(place, place.mails + orders)
    first, begun = place.read(), time.monotonic()
    for sender in senders:
        sender.resume()
    place.wait_for_mails(orders)
    seconds = time.monotonic() - begun
    account = cpu_account.between(first, place.read(), 0.0)
    rate = orders / seconds
    return [
        MeasuredFigure(
            f"a backlog of {orders:,} mails, {SENDERS} senders",
            f"{rate:.0f} mails/s",
            f"{account.by_kind(orders)} ms; {account.commits / orders:.1f} commits a mail",
            f">= {BACKLOG_MIN:.0f}/s",
            verdict(account, rate >= BACKLOG_MIN),
        )
    ]


def wait_until_created(place: DeliverySite, jobs: int) -> None:
    with psycopg.connect(place.stack.database_url, autocommit=True) as connection:
        until = time.monotonic() + 10 * STALLED_S
        query = "select count(*) from delivery.jobs"
        while (connection.execute(query).fetchone() or (0,))[0] < jobs:
            if time.monotonic() > until:
                raise TimeoutError("the jobs were not created")
            time.sleep(0.2)


def figures(*, orders: int, backlog_mails: int) -> list[MeasuredFigure]:
    with site() as place:
        rows = idle(place)
        rows += cost(place, max(200, orders // 10), 25.0)
        rows += cost(place, orders // 2, 100.0)
        rows += others(place, max(200, orders // 10), 25.0)
        rows += backlog(place, backlog_mails)
        rows += throughput(place, orders)
        loops = place.loops_ms
    speed = f"{min(loops):.0f} to {max(loops):.0f} ms"
    rows.append(
        MeasuredFigure(
            "a fixed loop on this machine", speed, f"{psutil.cpu_count()} cores", "printed"
        )
    )
    return rows
