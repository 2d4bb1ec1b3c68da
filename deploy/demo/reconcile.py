"""The evening's books: what was sold against what was issued and sent. Each invariant is counted
and must hold.
"""

from __future__ import annotations

import mailbox
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

from rich.console import Console
from rich.table import Table

from deploy.demo.evening import MALFORMED, Evening
from deploy.demo.store import Store

SOURCE = "riverside"


@dataclass(frozen=True, slots=True)
class Row:
    what: str
    value: str
    wanted: str = ""
    holds: bool | None = None  # None: a figure, not an invariant


@dataclass(frozen=True, slots=True)
class Mails:
    """What the mail server accepted."""

    accepted: int
    different: int  # by Message-ID: a mail sent again after a crash has the same
    first: Path | None


def read_mails(folder: Path) -> Mails:
    seen: set[str] = set()
    accepted, first = 0, None
    box = mailbox.Maildir(folder, create=False)
    for key in box.keys():  # noqa: SIM118 - a mailbox is no dict
        accepted += 1
        message: Message = box[key]
        seen.add(str(message["Message-ID"]))
        first = first or next(
            iter((*folder.glob(f"new/{key}*"), *folder.glob(f"cur/{key}*"))), None
        )
    return Mails(accepted, len(seen), first)


def save_pdf(mail: Path, to: Path) -> Path | None:
    """The first PDF of a mail, as its receiver would save it."""
    with mail.open("rb") as file:
        message = mailbox.MaildirMessage(file)
    for part in message.walk():
        if part.get_content_type() == "application/pdf":
            content = part.get_payload(decode=True)
            if isinstance(content, bytes):
                to.write_bytes(content)
                return to
    return None


def books(store: Store, evening: Evening, mails: Mails) -> list[Row]:
    tickets = store.tickets_by_order()
    wrong = [
        order.order_id
        for order in evening.orders
        if tickets.get(f"{SOURCE}:{order.order_id}", (0, 0))[0] != order.tickets
    ]
    paid = sum(order.is_paid for order in evening.orders)
    sold = sum(order.tickets for order in evening.orders)
    active = sum(count for count, _ in tickets.values())
    released = store.orders_by_state()["released"]
    sent = sum(state == "sent" for _, state, _ in store.deliveries())
    numbers = store.numbers()
    twice = sum(given - different for _, given, different, _ in numbers)
    raffles = [(given, places) for name, given, _, places in numbers if "raffle" in name]
    holes = sum(places - given for given, places in raffles)
    unsent = store.unsent_tickets()
    return [
        Row("orders paid, in the end", f"{released:,}", f"{paid:,} sold", released == paid),
        Row("tickets active", f"{active:,}", f"{sold:,} sold", active == sold),
        Row("orders with other tickets than sold", f"{len(wrong)}", "0", not wrong),
        Row("numbers given to two", f"{twice}", "0", twice == 0),
        Row("holes in the raffle's numbers", f"{holes}", "0", holes == 0),
        Row("active tickets not in one sent mail", f"{unsent}", "0", unsent == 0),
        Row(
            "mails accepted",
            f"{mails.different:,} ({mails.accepted - mails.different} sent again)",
            f"{sent:,} jobs sent",
            mails.different == sent,
        ),
    ]


def stream(store: Store) -> list[Row]:
    stages = store.stages()
    dead_letters = store.dead_letters()
    gap, lag = (
        sum(stage.gap for stage in stages.values()),
        sum(stage.lag for stage in stages.values()),
    )
    gaps = sum(stage.gaps for stage in stages.values())
    stopped = [text for stage in stages.values() for text in stage.stopped]
    dead = sum(count for _, _, count in dead_letters)
    codes = ", ".join(f"{count} x {code}" for _, code, count in dead_letters)
    return [
        Row("duplicates absorbed", f"{sum(stage.duplicates for stage in stages.values()):,}"),
        Row("superseded", f"{sum(stage.superseded for stage in stages.values()):,}"),
        Row(
            "dead letters",
            f"{dead} ({codes})",
            f"{len(MALFORMED)} malformed bodies",
            dead == len(MALFORMED),
        ),
        Row("records without an outcome", f"{gap}", "0", gap == 0),
        Row("offset gaps skipped", f"{gaps}", "0", gaps == 0),
        Row("records not yet worked", f"{lag}", "0", lag == 0),
        Row("lanes stopped", f"{len(stopped)} {' '.join(stopped)}", "0", not stopped),
    ]


def times(store: Store, completed_at: dict[int, float], orders: int, seconds: float) -> list[Row]:
    """Figures; a wait is from an order's first `completed` callback to the mail server's reply."""
    waits = sorted(
        sent_at - completed_at[int(order.partition(":")[2])]
        for order, state, sent_at in store.deliveries()
        if state == "sent" and sent_at is not None and int(order.partition(":")[2]) in completed_at
    )
    if not waits:
        return [Row("paid to mailed", "no mail")]
    p50, p95 = waits[len(waits) // 2], waits[min(len(waits) - 1, int(len(waits) * 0.95))]
    return [
        Row("seconds, first callback to last mail", f"{seconds:.1f}"),
        Row("orders/s", f"{orders / seconds:,.1f}"),
        Row("paid to mailed", f"p50 {p50:.1f} s, p95 {p95:.1f} s"),
    ]


def show(rows: Sequence[Row], console: Console) -> bool:
    """Print the rows. Return whether every invariant holds."""
    table = Table(title="Reconciliation")
    for heading in ("what", "found", "wanted", ""):
        table.add_column(heading)
    words = {True: "[green]holds[/]", False: "[bold red]BROKEN[/]", None: ""}
    for row in rows:
        table.add_row(row.what, row.value, row.wanted, words[row.holds])
    console.print(table)
    return all(row.holds is not False for row in rows)
