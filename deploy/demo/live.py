"""The live view: each stage's counts, rate and lag during the evening."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, Group, JustifyMethod
from rich.live import Live
from rich.table import Table
from rich.text import Text

from deploy.demo.store import Stage, Store
from deploy.local.programs import STAGES

COLUMNS = (
    *("stage", "records", "effects", "duplicates", "superseded", "dead"),
    *("lag", "records/s"),
)
EVERY_S = 1.0
UNWATCHED_S = 10.0  # between two tables when the output is no terminal


@dataclass
class View:
    """What the table shows. `note` is the line above it, set by the main thread."""

    open_store: Callable[[], Store]
    sent: Callable[[], tuple[int, int]]
    note: str = ""
    _before: dict[str, tuple[float, int]] = field(default_factory=dict)

    def draw(self, store: Store) -> Group:
        table = Table(expand=False)
        for heading in COLUMNS:
            justify: JustifyMethod = "left" if heading == "stage" else "right"
            table.add_column(heading, justify=justify, min_width=9)
        posted, planned = self.sent()
        table.add_row(*self._pair("storefront", posted, planned))
        stages = store.stages()
        for name in STAGES:
            table.add_row(*self._stage(name, stages.get(f"stubline.{name}")))
        states = [state for _, state, _ in store.deliveries()]
        table.add_row(*self._pair("mails", states.count("sent"), len(states)))
        return Group(Text(self.note), table)

    def _pair(self, name: str, done: int, planned: int) -> list[str]:
        return [name, f"{done:,} / {planned:,}", *[""] * 5, self._rate(name, done)]

    def _stage(self, name: str, stage: Stage | None) -> list[str]:
        if stage is None:
            return [name, *["-"] * 7]
        outcomes = (stage.effects, stage.duplicates, stage.superseded, stage.dead)
        numbers = (stage.records, *outcomes, stage.lag)
        return [name, *(f"{number:,}" for number in numbers), self._rate(name, stage.records)]

    def _rate(self, name: str, count: int) -> str:
        now = time.monotonic()
        at, before = self._before.get(name, (now, count))
        self._before[name] = (now, count)
        return f"{(count - before) / (now - at):,.0f}" if now > at else ""


@contextmanager
def shown(view: View, console: Console) -> Iterator[None]:
    """Draw the view in a thread of its own, on a connection of its own."""
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
