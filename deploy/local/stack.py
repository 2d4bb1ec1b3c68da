"""One Kafka, one PostgreSQL, one mail server: real ones, in a folder of their own.

A stack ends with the process that started it, even if that is killed; only a detached one
(`make up`) stays until `down`.
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
from typing import Any, Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from deploy.local import postgres, servers
from deploy.local.jars import fetched
from deploy.local.kafka import Broker, BrokerSecurity
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
    def __init__(
        self,
        state_dir: Path,
        brokers: int = 1,
        *,
        detached: bool = False,
        security: BrokerSecurity | None = None,
    ) -> None:
        """`security`: of a single broker."""
        self.state_dir = state_dir.resolve()
        if (
            not self.state_dir.exists()
            or self.state_dir == STATE
            or (self.state_dir / "ports.json").exists()
        ):
            closed_folder(self.state_dir).chmod(CLOSED_FOLDER)  # an earlier release left it open
        numbers = range(1, brokers + 1)
        kinds = ["kafka", "controller", *(["broker", "mutual"] if security is not None else [])]
        names = [f"{kind}-{number}" for number in numbers for kind in kinds]
        self._security = security
        with self._lock():
            ports = kept_ports(self.state_dir, [*names, "postgres", "smtp"])
        self.kafka = [
            Broker(
                self.state_dir,
                number,
                ports,
                brokers=brokers,
                detached=detached,
                security=security,
            )
            for number in numbers
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
    def admin_settings(self) -> dict[str, Any]:
        """Of a client that may do everything."""
        security = self._security.client_settings if self._security is not None else {}
        return {"bootstrap.servers": self.bootstrap_servers, "log_level": 0, **security}

    @property
    def database_url(self) -> str:
        return self.postgres.url

    @property
    def environment(self) -> dict[str, str]:
        """The settings of every process that uses this stack."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "DATABASE_URL": self.database_url,
            "STUBLINE_DELIVERY_SMTP_URL": self.smtp.url,
            servers.FILES: (self.state_dir / "files").as_uri(),
            # They depend on nothing but designs and libraries: all stacks share them.
            servers.PLATES: str(STATE / "plates"),
        }

    def start(self) -> Self:
        """Returns when all servers answer. Does nothing for those that run already."""
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
        """Removes the stack's data and nothing else from its folder; the stack must be stopped."""
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
    def temporary(
        cls, brokers: int = 1, *, security: BrokerSecurity | None = None
    ) -> Iterator[Self]:
        """A new stack for one run, of which only the logs are kept."""
        sweep()
        closed_folder(STATE).chmod(CLOSED_FOLDER)
        folder = Path(tempfile.mkdtemp(prefix="run-", dir=STATE))
        if (identity := Identity.of(os.getpid())) is not None:
            identity.write(folder / "owner")
        stack = cls(folder, brokers, security=security)
        try:
            yield stack.start()
        finally:
            stack.stop(immediate=True)
            shutil.rmtree(LOGS_OF_LAST_RUN, ignore_errors=True)
            with contextlib.suppress(OSError):  # another run may end at the same moment
                shutil.move(folder / "logs", LOGS_OF_LAST_RUN)
            stack.remove()

    def _wait_for_cluster(self) -> None:
        """All brokers are known and one is the controller."""
        admin = AdminClient(self.admin_settings | {"reconnect.backoff.max.ms": 100})

        def complete() -> bool:
            try:
                return len(admin.list_topics(timeout=1).brokers) == len(self.kafka)
            except KafkaException:
                return False

        wait_until("the Kafka cluster", complete, seconds=60)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Keeps two commands from starting the same server."""
        handle = os.open(
            self.state_dir / "lock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, CLOSED_FILE
        )
        with os.fdopen(handle, "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def sweep() -> None:
    """Removes the folders of runs that were killed. Their servers died with them."""
    postgres.sweep()
    for owner in STATE.glob("run-*/owner"):
        identity = Identity.read(owner)
        if identity is None or not identity.alive:
            with contextlib.suppress(StackError):
                Stack(owner.parent).remove()
