"""The live view: each stage's counts, rate and lag, while the evening goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from deploy.demo.store import Store
from deploy.local.programs import STAGES

EVERY_S = 1.0
UNWATCHED_S = 10.0  # where nobody watches, a table now and then


@dataclass
class View:
    """Written by the story, read by the view's thread. `note` is the line above the table."""

    open_store: Callable[[], Store]
    sent: Callable[[], tuple[int, int]]
    note: str = ""
    _before: dict[str, tuple[float, int]] = field(default_factory=dict)

    def draw(self, store: Store) -> Group:
        table = Table(expand=False)
        for heading in (
            "stage",
            "records",
            "effects",
            "duplicates",
            "superseded",
            "dead",
            "lag",
            "records/s",
        ):
            table.add_column(
                heading, justify="left" if heading == "stage" else "right", min_width=9
            )
        posted, planned = self.sent()
        table.add_row(
            "storefront",
            f"{posted:,} / {planned:,}",
            "",
            "",
            "",
            "",
            "",
            self._rate("storefront", posted),
        )
        found = store.stages()
        for name in STAGES:
            if (stage := found.get(f"stubline.{name}")) is None:
                table.add_row(name, *["-"] * 7)
                continue
            numbers = (
                stage.records,
                stage.effects,
                stage.duplicates,
                stage.superseded,
                stage.dead,
                stage.lag,
            )
            table.add_row(
                name, *(f"{number:,}" for number in numbers), self._rate(name, stage.records)
            )
        states = [state for _, state, _ in store.deliveries()]
        mails = f"{states.count('sent'):,} / {len(states):,}"
        table.add_row("mails", mails, "", "", "", "", "", self._rate("mails", states.count("sent")))
        return Group(Text(self.note), table)

    def _rate(self, name: str, count: int) -> str:
        now = time.monotonic()
        at, before = self._before.get(name, (now, count))
        self._before[name] = (now, count)
        return f"{(count - before) / (now - at):,.0f}" if now > at else ""


@contextmanager
def shown(view: View, console: Console) -> Iterator[None]:
    """Drawn in a thread of its own, on a connection of its own; where nobody watches, a table every
    ten seconds.
    """
    ended = threading.Event()

    def watch() -> None:
        store = view.open_store()
        try:
            if console.is_terminal:
                with Live(view.draw(store), console=console, auto_refresh=False) as live:
                    while not ended.wait(EVERY_S):
                        live.update(view.draw(store), refresh=True)
            else:
                while not ended.wait(UNWATCHED_S):
                    console.print(view.draw(store))
        finally:
            store.connection.close()

    thread = threading.Thread(target=watch, name="live")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
