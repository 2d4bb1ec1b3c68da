"""The four services with traps in them, and between them and the database a network that loses what
a test wants it to lose.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.local.process import replace_text, stat
from deploy.local.programs import STAGES, Program
from tests.support.proxy import Proxy
from tests.support.stubline import Stubline

SENDERS = ("sender-1", "sender-2")
# When a producer reports that a delivery failed; the default is ten times that.
QUICK_DELIVERY_MS = 1_000
DEFAULT_DELIVERY_MS = 10_000


@dataclass(frozen=True)
class ServiceTrap:
    """What happens inside one service from now on; see tests/support/sabotaged.py."""

    file: Path

    def set(self, what: str) -> None:
        self.noted.unlink(missing_ok=True)
        replace_text(self.file, what)

    @property
    def noted(self) -> Path:
        return self.file.with_suffix(".sprung")

    def sprung(self) -> list[str]:
        """Return POINT:ACTION of each trap that acted since it was set."""
        return self.noted.read_text("utf-8").splitlines() if self.noted.exists() else []


@dataclass(frozen=True)
class TrappedPipeline:
    stubline: Stubline
    traps: dict[str, ServiceTrap]  # by stage
    proxies: dict[str, Proxy]  # by program

    def set(self, what: str) -> None:
        for trap in self.traps.values():
            trap.set(what)

    def program(self, name: str) -> Program:
        return self.stubline.services.programs[name]

    def is_stopped(self, stage: str) -> bool:
        return (stat(self.program(stage).pid) or ["X"])[0] == "T"


def until(
    what: str,
    done: Callable[[], bool],
    meanwhile: Callable[[], object] = lambda: None,
    seconds: float = 300,
) -> None:
    """Wait until it is done, and do something in between. Fail after the timeout, naming it."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"after {seconds:g} s: {what}"
        meanwhile()
        time.sleep(0.1)


@contextmanager
def with_traps(stubline: Stubline, folder: Path) -> Iterator[TrappedPipeline]:
    """Restart the services with traps and networks, and afterwards without."""
    programs = stubline.services.programs
    with ExitStack() as stack:
        proxies = {
            name: stack.enter_context(Proxy(stubline.database_url)) for name in (*STAGES, *SENDERS)
        }
        pipeline = TrappedPipeline(
            stubline, {stage: ServiceTrap(folder / f"{stage}.trap") for stage in STAGES}, proxies
        )

        def start(name: str, *, is_trapped: bool) -> None:
            url = proxies[name].url(stubline.database_url) if is_trapped else stubline.database_url
            settings, module, arguments = (
                {"DATABASE_URL": url},
                f"services.{name}",
                tuple[str, ...](),
            )
            if name in SENDERS:
                module = "services.delivery.sender"
            else:
                delivery_ms = QUICK_DELIVERY_MS if is_trapped else DEFAULT_DELIVERY_MS
                settings[f"STUBLINE_{name.upper()}_DELIVERY_TIMEOUT_MS"] = str(delivery_ms)
                settings["SABOTAGE_FILE"] = str(pipeline.traps[name].file) if is_trapped else ""
                if is_trapped:
                    module, arguments = "tests.support.sabotaged", (name,)
            programs[name].stop()
            programs[name].replace_module(module, *arguments, **settings)
            programs[name].start()

        def start_all(*, is_trapped: bool) -> None:
            with ThreadPoolExecutor() as pool:
                list(pool.map(lambda name: start(name, is_trapped=is_trapped), proxies))

        start_all(is_trapped=True)
        try:
            yield pipeline
        finally:
            start_all(is_trapped=False)
