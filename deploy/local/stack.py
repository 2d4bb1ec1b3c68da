"""One Kafka, one PostgreSQL, one mail server: real ones, in a folder of their own, gone when their
owner is.

A stack ends with the process that started it, by whatever death; only a detached one (`make up`)
stays until `down`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from deploy.local import postgres, servers
from deploy.local.jars import fetched
from deploy.local.kafka import Broker
from deploy.local.mail import Mail
from deploy.local.ports import kept_ports
from deploy.local.postgres import Postgres
from deploy.local.process import (
    CLOSED_FILE,
    CLOSED_FOLDER,
    Identity,
    Server,
    StackError,
    closed_folder,
    replace_text,
    wait_until,
)

ROOT = Path(__file__).resolve().parents[2]
STATE = ROOT / ".local"
JARS = STATE / "kafka"
LOGS_OF_LAST_RUN = STATE / "logs-of-last-run"


class Stack:
    def __init__(self, state_dir: Path, brokers: int = 1, *, detached: bool = False) -> None:
        self.state_dir = state_dir.resolve()
        if (
            not self.state_dir.exists()
            or self.state_dir == STATE
            or (self.state_dir / "ports.json").exists()
        ):
            closed_folder(self.state_dir).chmod(CLOSED_FOLDER)  # an earlier release left it open
        numbers = range(1, brokers + 1)
        names = [name for n in numbers for name in (f"kafka-{n}", f"controller-{n}")]
        with self._lock():
            ports = kept_ports(self.state_dir, [*names, "postgres", "smtp"])
        self.kafka = [
            Broker(self.state_dir, n, ports, brokers=brokers, detached=detached) for n in numbers
        ]
        self.postgres = Postgres(self.state_dir, ports["postgres"], detached=detached)
        self.smtp = Mail(self.state_dir, ports["smtp"], detached=detached)

    @property
    def servers(self) -> list[Server]:
        return [*self.kafka, self.postgres, self.smtp]

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(broker.address for broker in self.kafka)

    @property
    def database_url(self) -> str:
        return self.postgres.url

    @property
    def environment(self) -> dict[str, str]:
        """What everything that uses this stack needs to know."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "DATABASE_URL": self.database_url,
            "STUBLINE_DELIVERY_SMTP_URL": self.smtp.url,
            servers.FILES: (self.state_dir / "files").as_uri(),
            servers.PLATES: str(
                STATE / "plates"
            ),  # made of nothing but designs and libraries: every stack's are the same
        }

    def start(self) -> Self:
        """Returns when all of it answers. Starting what runs already does nothing."""
        with self._lock():
            jars = fetched(JARS)
            for broker in self.kafka:
                broker.jars = jars
            missing = [server for server in self.servers if not server.running]
            try:
                with ThreadPoolExecutor() as pool:
                    starts = [pool.submit(server.start) for server in missing]
                for start in starts:
                    start.result()
                self._wait_for_cluster()
            except BaseException:
                for server in missing:
                    server.stop(immediate=True)
                raise
            lines = [f"{name}={value}\n" for name, value in self.environment.items()]
            replace_text(self.state_dir / "env", "".join(lines))
        return self

    def stop(self, *, immediate: bool = False) -> None:
        with ThreadPoolExecutor() as pool:
            stops = [pool.submit(server.stop, immediate=immediate) for server in self.servers]
        (self.state_dir / "env").unlink(missing_ok=True)
        for stop in stops:
            stop.result()

    def forget(self) -> None:
        """Removes all data; the stack must be stopped. What others keep in the same folder
        stays.
        """
        self.postgres.remove()
        for name in (
            *(server.name for server in self.servers),
            "mail",
            "files",
            "run",
            "ports.json",
            "postgres.password",
        ):
            path = self.state_dir / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Removes the whole folder; the stack must be stopped."""
        self.postgres.remove()
        shutil.rmtree(self.state_dir, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @classmethod
    @contextlib.contextmanager
    def temporary(cls, brokers: int = 1) -> Iterator[Self]:
        """A stack for one run, new and without a trace behind it but its logs."""
        sweep()
        closed_folder(STATE).chmod(CLOSED_FOLDER)
        folder = Path(tempfile.mkdtemp(prefix="run-", dir=STATE))
        if (identity := Identity.of(os.getpid())) is not None:
            identity.write(folder / "owner")
        stack = cls(folder, brokers)
        try:
            yield stack.start()
        finally:
            stack.stop(immediate=True)
            shutil.rmtree(LOGS_OF_LAST_RUN, ignore_errors=True)
            with contextlib.suppress(OSError):  # another run ends at the same moment
                shutil.move(folder / "logs", LOGS_OF_LAST_RUN)
            stack.remove()

    def _wait_for_cluster(self) -> None:
        """All brokers are known and one is the controller."""
        admin = AdminClient(
            {
                "bootstrap.servers": self.bootstrap_servers,
                "log_level": 0,
                "reconnect.backoff.max.ms": 100,
            }
        )

        def complete() -> bool:
            try:
                return len(admin.list_topics(timeout=1).brokers) == len(self.kafka)
            except KafkaException:
                return False

        wait_until("the Kafka cluster", complete, seconds=60)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Two commands at once do not start two of the same."""
        handle = os.open(
            self.state_dir / "lock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, CLOSED_FILE
        )
        with os.fdopen(handle, "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def sweep() -> None:
    """Removes what runs left behind that were killed. Their servers died with them."""
    postgres.sweep()
    for owner in STATE.glob("run-*/owner"):
        identity = Identity.read(owner)
        if identity is None or not identity.alive:
            with contextlib.suppress(StackError):
                Stack(owner.parent).remove()
