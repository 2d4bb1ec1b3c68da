"""The services as processes of their own: started, killed, started again, and stopped by their own
ids. None outlives the process that started it.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local.ports import free_ports
from deploy.local.process import Plan, Server, StackError
from deploy.local.roles import environment_of
from deploy.local.servers import FILES, PLATES

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("ingest", "approval", "issuer", "delivery")
PUBLIC_PORT = "STUBLINE_INGEST_WEBHOOK_PORT"
ENDPOINT = "webhooks"  # the name of the webhook endpoint's process
READY_WITHIN_S = 40.0
STOP_WITHIN_S = 15.0


class Program(Server):
    """A service. `port` is its health server's, `public_port` the webhook endpoint's."""

    public_port = 0

    def __init__(
        self, name: str, module: str, state: Path, port: int, environment: Mapping[str, str]
    ) -> None:
        """`environment` is the whole of it: nothing of the caller's own is added."""
        super().__init__(name, state, port, detached=False)
        self._command = [sys.executable, "-m", module]
        self._environment = dict(environment)

    def start(self) -> None:
        self.start_soon()
        self.wait_ready(self.is_ready, seconds=READY_WITHIN_S)

    def replace_module(self, module: str, *arguments: str, **settings: str) -> None:
        """Make the next start run another module under the same name and ports."""
        self._command = [sys.executable, "-m", module, *arguments]
        self._environment |= settings

    def start_soon(self) -> None:
        if not self.running:
            self.spawn(Plan(self._command, self._environment, ROOT, signal.SIGKILL))

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.port}/readyz", timeout=1
            ) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def stop(self, *, immediate: bool = False) -> None:
        """With SIGTERM, so that what is committed is published first; `immediate` is kill -9."""
        self.end(signal.SIGKILL if immediate else signal.SIGTERM, seconds=STOP_WITHIN_S)


@dataclass
class Services:
    """The webhook endpoint, workers and senders, by name."""

    state: Path
    environment: Mapping[str, str]
    # Settings that only one process has, by its name: its own login, for instance.
    own_settings: Callable[[str], Mapping[str, str]] = lambda _name: {}
    programs: dict[str, Program] = field(default_factory=dict)
    _ports: set[int] = field(default_factory=set)

    def add(
        self, name: str, module: str, port_variable: str, role: str | None, **settings: str
    ) -> Program:
        """`role` is the database role without its prefix; None for a process without a database."""
        port = self._free_port()
        own = environment_of({**os.environ, **self.environment}, role)
        environment = {**own, **self.own_settings(name), **settings, port_variable: str(port)}
        program = self.programs[name] = Program(name, module, self.state, port, environment)
        return program

    def add_endpoint(self) -> Program:
        """The webhook endpoint, with a port for the public and another for its health server."""
        public_port = int(self.environment.get(PUBLIC_PORT, "0")) or self._free_port()
        ports = {PUBLIC_PORT: str(public_port)}
        program = self.add(
            ENDPOINT,
            "services.ingest.webhooks",
            "STUBLINE_INGEST_WEBHOOK_HEALTH_PORT",
            None,
            **ports,
        )
        program.public_port = public_port
        return program

    def _free_port(self) -> int:
        (port,) = free_ports(1, avoid=self._ports)
        self._ports.add(port)
        return port

    def second_member(self, stage: str) -> Program:
        """A second member of a stage's group."""
        return self.add(
            f"{stage}-2", f"services.{stage}", f"STUBLINE_{stage.upper()}_HEALTH_PORT", stage
        )

    def start(self) -> None:
        for program in self.programs.values():
            program.start_soon()
        for program in self.programs.values():
            program.start()

    def stop(self) -> None:
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda program: program.stop(), self.programs.values()))

    @property
    def health(self) -> str:
        """Each process's /readyz and /metrics, by its name."""
        return ", ".join(
            f"{name} http://127.0.0.1:{program.port}/metrics"
            for name, program in self.programs.items()
        )

    @property
    def webhooks_port(self) -> int:
        return self.programs[ENDPOINT].public_port

    @property
    def webhooks_url(self) -> str:
        return f"http://127.0.0.1:{self.webhooks_port}"


@contextmanager
def services(
    state: Path,
    environment: Mapping[str, str],
    sources_file: Path,
    *,
    senders: int = 2,
    own_settings: Callable[[str], Mapping[str, str]] = lambda _name: {},
) -> Iterator[Services]:
    """Start all of them, wait until each is ready, and stop them in the end, whatever happens."""
    environment = {**environment, "STUBLINE_INGEST_SOURCES_FILE": str(sources_file)}
    running = Services(state, environment, own_settings)
    running.add_endpoint()
    for stage in STAGES:
        running.add(stage, f"services.{stage}", f"STUBLINE_{stage.upper()}_HEALTH_PORT", stage)
    for number in range(1, senders + 1):
        port_variable = "STUBLINE_DELIVERY_SENDER_HEALTH_PORT"
        running.add(f"sender-{number}", "services.delivery.sender", port_variable, "delivery")
    try:
        running.start()
        yield running
    finally:
        running.stop()


def main() -> int:
    """`make run`: all services in the foreground, on the servers that the environment names, until
    Ctrl-C.
    """
    parser = argparse.ArgumentParser(prog="make run")
    parser.add_argument(
        "--sources",
        type=Path,
        required=True,
        help="The sources whose callbacks the webhook endpoint takes (TOML).",
    )
    parser.add_argument("--port", type=int, default=8080, help="The webhook endpoint's.")
    options = parser.parse_args()
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: ended.set())
    folders = {FILES: (ROOT / ".local" / "files").as_uri(), PLATES: str(ROOT / ".local" / "plates")}
    environment = {PUBLIC_PORT: str(options.port)}
    environment |= {name: os.environ.get(name) or folder for name, folder in folders.items()}
    with services(ROOT / ".local", environment, options.sources.resolve()) as running:
        print(
            f"webhook endpoint: {running.webhooks_url}/hooks/SOURCE; metrics: {running.health}; "
            f"logs: {ROOT / '.local' / 'logs'}; Ctrl-C ends all of it",
            flush=True,
        )
        while not ended.wait(1.0):
            dead = [name for name, program in running.programs.items() if not program.running]
            if dead:
                raise StackError(
                    f"{', '.join(dead)} ended; the reason is in its log in "
                    f"{ROOT / '.local' / 'logs'}"
                )
    return 0


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except StackError as error:
        raise SystemExit(f"run: {error}") from None
