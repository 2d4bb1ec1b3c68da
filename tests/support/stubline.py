"""The pipeline as a test sees it: a shop that posts callbacks, and what they led to.

One stack and one set of processes serve many tests. Each order has a number of its own, so tests do
not see each other's orders.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import httpx
import psycopg
from psycopg.rows import dict_row

from deploy.demo.store import Store, open_store
from deploy.demo.woocommerce import Item, Purchase, deleted_body, headers, order_body
from deploy.local.mail import Mail
from deploy.local.programs import Services, services
from deploy.local.roles import environment_of_command
from deploy.local.stack import Stack
from schemas.topics import all_topics
from services.runtime.kafka.cluster import KafkaCluster
from services.runtime.kafka.topics import BrokerAdmin

SECRET = "a-shop's-own-secret"
PARSER = BytesParser(EmailMessage, policy=policy.default)
PRODUCTS = {"RFL": ("Raffle entry", 500), "DRAW": ("Draw entry", 1500), "SHIRT": ("T-shirt", 2000)}


@dataclass
class BoughtOrder:
    """What the shop knows of an order. `status` is what it reported last."""

    source: str
    purchase: Purchase
    created: datetime
    modified: datetime
    status: str = "pending"

    @property
    def order_id(self) -> str:
        return f"{self.source}:{self.purchase.order_id}"

    @property
    def body(self) -> bytes:
        return order_body(self.purchase, self.status, self.created, self.modified)


@dataclass
class Stubline:
    """Helpers of acceptance tests. The source `shop` issues when an order is completed, the others
    at the trigger in their names.
    """

    services: Services
    store: Store
    mail: Mail
    database_url: str
    numbers: Iterator[int] = field(
        default_factory=lambda: itertools.count(int(time.time()) % 100_000 * 1_000)
    )
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=30))
    # The headers of mails that were read before: reading hundreds again is slow.
    _heads: dict[Path, EmailMessage] = field(default_factory=dict)

    # The shop.

    def order(self, source: str = "shop", /, **quantities: int) -> BoughtOrder:
        """Return an order that is not reported yet; `order(RFL=2, DRAW=1)`."""
        number = next(self.numbers)
        items = tuple(
            Item(number * 10 + place, 90 + place, sku, PRODUCTS[sku][0], quantity, PRODUCTS[sku][1])
            for place, (sku, quantity) in enumerate((quantities or {"RFL": 1}).items())
        )
        created = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
        return BoughtOrder(
            source,
            Purchase(number, "Ada Example", f"buyer{number}@example.org", items),
            created,
            created,
        )

    def paid_order(
        self, quantity: int = 1, *, sku: str = "RFL", source: str = "shop"
    ) -> BoughtOrder:
        """Return a completed order that is not reported yet."""
        order = self.order(source, **{sku: quantity})
        order.status = "completed"
        return order

    def change(self, order: BoughtOrder, *, quantity: int) -> None:
        """Set the quantity of the first line, as an edit in the shop's backoffice does."""
        first, *others = order.purchase.items
        order.purchase = replace(order.purchase, items=(replace(first, quantity=quantity), *others))

    def report(self, order: BoughtOrder, *statuses: str) -> None:
        """Send one callback for each status, a second apart by the shop's clock. Without any, send
        the order as it is once more.
        """
        for status in statuses or (order.status,):
            if statuses:
                order.status, order.modified = status, order.modified + timedelta(seconds=1)
            self.send_callback(order)

    def send_callback(self, order: BoughtOrder, *, times: int = 1, at_once: bool = False) -> None:
        """Send the same bytes that often, one after the other or all at the same moment."""
        self.post(order.source, "order.updated", order.body, times=times, at_once=at_once)

    def trash(self, order: BoughtOrder) -> None:
        self.post(order.source, "order.deleted", deleted_body(order.purchase.order_id))

    def restore(self, order: BoughtOrder) -> None:
        self.post(order.source, "order.restored", order.body)

    def post(
        self, source: str, topic: str, body: bytes, *, times: int = 1, at_once: bool = False
    ) -> None:
        url, signed = f"{self.services.webhooks_url}/hooks/{source}", headers(SECRET, topic, body)

        def once(_number: int) -> int:
            """Send again after a 503, since the callback is not durable yet."""
            until = time.monotonic() + 120
            while (
                status := self.client.post(url, content=body, headers=signed).status_code
            ) == httpx.codes.SERVICE_UNAVAILABLE:
                assert time.monotonic() < until, (
                    "the webhook endpoint has answered 503 for two minutes"
                )
                time.sleep(0.2)
            return status

        with ThreadPoolExecutor(16 if at_once else 1) as pool:
            assert set(pool.map(once, range(times))) == {200}

    # What it led to.

    def settle(self, timeout_s: float = 300.0) -> None:
        """Return once every lane has lag 0 and no delivery is due or unpublished, and that lasts.
        Fail after the timeout, naming what waits.
        """
        until, quiet_since = time.monotonic() + timeout_s, 0.0
        while True:
            waiting = self.waiting()
            now = time.monotonic()
            quiet_since = 0.0 if waiting else quiet_since or now
            if quiet_since and now - quiet_since > 0.7:
                return
            assert now < until, f"after {timeout_s:.0f} s these wait: {waiting}"
            time.sleep(0.1)

    def waiting(self) -> dict[str, int]:
        try:
            lags = {name: stage.lag for name, stage in self.store.stages().items() if stage.lag}
        except psycopg.OperationalError:  # the database fell over meanwhile
            self.store.connection.close()
            self.store = open_store(self.database_url, self.store.cluster)
            return {"database": 1}
        due = self.value("select count(*) from delivery.jobs where state = 'due' and not is_held")
        # Deliveries that changed are published by the next tick.
        dirty = self.value("select count(*) from delivery.orders where dirty_since is not null")
        return lags | ({"jobs": due} if due else {}) | ({"dirty orders": dirty} if dirty else {})

    def rows(self, statement: str, **arguments: object) -> list[dict[str, Any]]:
        with psycopg.connect(
            self.database_url, row_factory=dict_row, autocommit=True
        ) as connection:
            return connection.execute(statement.encode(), arguments).fetchall()

    def value(self, statement: str, **arguments: object) -> int:
        (row,) = self.rows(statement, **arguments)
        return int(next(iter(row.values())))

    def tickets_of(self, order: BoughtOrder, *, status: str = "Active") -> list[dict[str, Any]]:
        """Return the numbered tickets with that status, by line and ordinal."""
        return self.rows(
            "select * from issuer.tickets where order_id = %(order)s and status = %(status)s and "
            "number is not null "
            "order by line_id, ordinal",
            order=order.order_id,
            status=status,
        )

    def state_of(self, order: BoughtOrder) -> str | None:
        rows = self.rows(
            "select state from approval.orders where order_id = %(order)s", order=order.order_id
        )
        return rows[0]["state"] if rows else None

    def mails_to(self, order: BoughtOrder) -> list[EmailMessage]:
        self.sent()
        files = [
            file for file, head in self._heads.items() if order.purchase.email in str(head["To"])
        ]
        return [PARSER.parsebytes(file.read_bytes()) for file in files]

    def sent(self) -> dict[str, list[str]]:
        """Return the Message-IDs of all mails that were accepted for each address, copies too."""
        for file in sorted((self.mail.maildir / "new").glob("*")):
            if file not in self._heads:
                self._heads[file] = PARSER.parsebytes(file.read_bytes(), headersonly=True)
        names = defaultdict[str, list[str]](list)
        for head in self._heads.values():
            names[head["To"].addresses[0].addr_spec].append(str(head["Message-ID"]))
        return names

    # What an operator does.

    def command(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run `stubline ...` in a process of its own."""
        program = [str(Path(sys.executable).with_name("stubline")), *map(str, arguments)]
        environment = environment_of_command(
            {**os.environ, **self.services.environment}, str(arguments[0])
        )
        environment |= self.services.own_settings("commands")
        return subprocess.run(
            program, env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    def conservation_gap(self) -> int:
        """Return the records without an outcome plus the offset gaps, of which there are none."""
        return sum(stage.gap + stage.gaps for stage in self.store.stages().values())


CAMPAIGNS = """
[[campaign]]
id = "raffle"
name = "Spring Raffle"
sources = ["shop", "approved", "processing", "paid", "any-paid"]
skus = ["RFL"]
mode = "sequential"
prefix = "RFL-"
padding = 4

[[campaign]]
id = "draw"
name = "Gala Draw"
sources = ["shop", "approved", "processing", "paid", "any-paid"]
skus = ["DRAW"]
mode = "shuffled"
start = 500
padding = 6
capacity = 100000
"""

POLICY = """
[sources.approved]
issue_when = ["wc-Approved"]

[sources.processing]
issue_when = ["processing"]

[sources.paid]
issue_when = "payment_complete"

[sources.any-paid]
issue_when = ["processing", "completed", "deposit-paid"]
"""


@contextmanager
def connected(
    services: Services,
    environment: Mapping[str, str],
    mail: Mail,
    cluster: KafkaCluster | None = None,
) -> Iterator[Stubline]:
    """`cluster`: how the test itself reaches it, where addresses are not enough."""
    store = open_store(
        environment["DATABASE_URL"], cluster or environment["KAFKA_BOOTSTRAP_SERVERS"]
    )
    stubline = Stubline(services, store, mail, environment["DATABASE_URL"])
    try:
        yield stubline
    finally:
        stubline.client.close()
        stubline.store.connection.close()  # a new one, if the database fell over


def write_files(folder: Path) -> dict[str, Path]:
    """Write the sources, campaigns and policies of the tests' shops."""
    sources = "".join(
        f'[sources.{slug}]\nkind = "woocommerce"\nsecrets = ["env:TEST_SHOP_SECRET"]\n\n'
        for slug in ("shop", "approved", "processing", "paid", "any-paid")
    )
    files = {}
    for name, text in (("sources", sources), ("campaigns", CAMPAIGNS), ("policy", POLICY)):
        files[name] = folder / f"{name}.toml"
        files[name].write_text(text)
    return files


@contextmanager
def piped(stack: Stack, folder: Path, *, partitions: int | None = None) -> Iterator[Stubline]:
    """Run the whole pipeline on these servers, migrated and with its campaigns.

    `partitions` is that of topics that an earlier release made, so `migrate` leaves them alone.
    """
    files = write_files(folder)
    environment = {
        **stack.environment,
        "TEST_SHOP_SECRET": SECRET,
        "STUBLINE_APPROVAL_POLICY_FILE": str(files["policy"]),
        # A sender that was killed is missed after seconds, not a minute.
        "STUBLINE_DELIVERY_LEASE_MS": "6000",
        "STUBLINE_DELIVERY_MAIL_DEADLINE_MS": "4000",
        "STUBLINE_DELIVERY_SMTP_TIMEOUT_MS": "2000",
        "STUBLINE_DELIVERY_RETRY_MIN_MS": "200",
    }
    if partitions is not None:
        BrokerAdmin(stack.bootstrap_servers).repair(
            [replace(topic, partitions=partitions) for topic in all_topics()]
        )
    migrate = ["migrate"] if partitions is None else ["migrate", "--database-only"]
    for command in (migrate, ["campaigns", "apply", str(files["campaigns"])]):
        program = str(Path(sys.executable).with_name("stubline"))
        own = environment_of_command({**os.environ, **environment}, command[0])
        subprocess.run([program, *command], env=own, check=True, capture_output=True)
    with (
        services(folder, environment, files["sources"]) as running,
        connected(running, environment, stack.smtp) as stubline,
    ):
        yield stubline
