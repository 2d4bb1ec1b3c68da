"""A cluster with TLS, logins and ACLs, and what its tests do with it and its processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from deploy.demo.evening import MALFORMED
from deploy.local.process import replace_text
from deploy.local.programs import Program
from deploy.local.roles import environment_of_command
from deploy.local.stack import Stack
from services.runtime.kafka.cluster import KafkaCluster
from services.runtime.kafka.settings import KafkaSettings
from tests.support.certificates import Issued, LocalAuthority
from tests.support.stubline import Stubline

PREFIX = "acme."
NAMED_WITHIN_S = 10.0
ITERATIONS = 4096


@dataclass(frozen=True)
class Cluster:
    """The broker, its administrator, and a login for each process."""

    stack: Stack
    folder: Path
    authority: LocalAuthority
    certificate: Issued
    expired: Issued
    admin: AdminClient

    def add_user(self, name: str, password: str) -> None:
        """One request a mechanism: Kafka takes no two for one user at once."""
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            credential = ScramCredentialInfo(mechanism, ITERATIONS)
            change = UserScramCredentialUpsertion(name, credential, password.encode())
            for answer in self.admin.alter_user_scram_credentials([change]).values():
                answer.result(10)

    def allow(self, acls: Sequence[Mapping[str, str]]) -> None:
        for answer in self.admin.create_acls([binding(acl) for acl in acls]).values():
            answer.result(10)

    def revoke(self, acl: Mapping[str, str]) -> None:
        acl_binding = binding(acl)
        match = AclBindingFilter(
            acl_binding.restype,
            acl_binding.name,
            acl_binding.resource_pattern_type,
            acl_binding.principal,
            acl_binding.host,
            acl_binding.operation,
            acl_binding.permission_type,
        )
        for answer in self.admin.delete_acls([match]).values():
            assert len(answer.result(10)) == 1

    def present(self, issued: Issued) -> None:
        """The broker's certificate for every connection from now on; open ones live on."""
        values = {"ssl.keystore.location": str(issued.both), "ssl.keystore.type": "PEM"}
        entries = [
            ConfigEntry(
                f"listener.name.clients.{name}",
                content,
                incremental_operation=AlterConfigOpType.SET,
            )
            for name, content in values.items()
        ]
        broker = ConfigResource(ResourceType.BROKER, "1", incremental_configs=entries)
        for answer in self.admin.incremental_alter_configs([broker]).values():
            answer.result(10)

    def secret(self, process: str, text: str) -> str:
        """A file for it, and its reference."""
        file = self.folder / f"{process}.secret"
        replace_text(file, text)
        return f"file:{file}"

    def settings(self, process: str) -> dict[str, str]:
        """The environment of a process: its own user."""
        return {
            "STUBLINE_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "STUBLINE_KAFKA_CA_FILE": str(self.authority.certificate),
            "STUBLINE_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "STUBLINE_KAFKA_USER": f"stubline-{process}",
            "STUBLINE_KAFKA_PASSWORD": f"file:{self.folder / f'{process}.secret'}",
            "STUBLINE_KAFKA_PREFIX": PREFIX,
            "STUBLINE_KAFKA_PARTITIONS": "2",
            "STUBLINE_KAFKA_REPLICATION": "1",
        }

    def reached(self, **settings: Any) -> KafkaCluster:
        return KafkaCluster(
            settings.pop("address", self.stack.bootstrap_servers),
            KafkaSettings(ca_file=self.authority.certificate, **settings),
        )


def binding(acl: Mapping[str, str]) -> AclBinding:
    operation = re.sub(r"(?<!^)(?=[A-Z])", "_", acl["operation"]).upper()
    return AclBinding(
        ResourceType[acl["resource"].upper()],
        acl["name"],
        ResourcePatternType.LITERAL,
        f"User:{acl['user']}",
        "*",
        AclOperation[operation],
        AclPermissionType.ALLOW,
    )


def stubline(cluster: Cluster, process: str, *arguments: str) -> str:
    """Of a command with the login of that process, as in an installation."""
    environment = environment_of_command(
        {**os.environ, **cluster.stack.environment, **cluster.settings(process)}, arguments[0]
    )
    done = subprocess.run(
        [str(Path(sys.executable).with_name("stubline")), *arguments],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def rights(
    acls: list[dict[str, str]], process: str, operation: str, topic: str = ""
) -> list[dict[str, str]]:
    """Of the printed ACLs, those of a process; without a topic, for all of them."""
    return [
        acl
        for acl in acls
        if (acl["process"], acl["operation"]) == (process, operation) and topic in {"", acl["name"]}
    ]


def buy(shop: Stubline, orders: int) -> list[Any]:
    bought = [shop.paid_order(1 + number % 3) for number in range(orders)]
    for order in bought:
        shop.report(order)
    return bought


def all_delivered(shop: Stubline, bought: list[Any]) -> None:
    """Every ordinal has its ticket, every order one mail, and no record is without an outcome."""
    shop.settle(60)
    for order in bought:
        quantity = sum(item.quantity for item in order.purchase.items)
        assert len(shop.tickets_of(order)) == quantity
        assert len(shop.mails_to(order)) == 1
    assert shop.conservation_gap() == 0
    # The demonstration's malformed callbacks, if it ran.
    assert shop.value("select count(*) from runtime.dead_letters") in {0, len(MALFORMED)}


def readiness(program: Program) -> str:
    """What /readyz answers; empty: ready."""
    try:
        answer = httpx.get(f"http://127.0.0.1:{program.port}/readyz", timeout=2)
    except httpx.TransportError:
        return "no answer"
    return "" if answer.status_code == httpx.codes.OK else str(answer.json()["detail"])


def wait_for(program: Program, code: str, seconds: float = NAMED_WITHIN_S) -> None:
    until = time.monotonic() + seconds
    while not (problem := readiness(program)).startswith(code) or bool(code) != bool(problem):
        assert time.monotonic() < until, f"{program.name}: {problem!r}, not {code!r}"
        time.sleep(0.1)


def change_password(cluster: Cluster, process: str, password: str) -> None:
    cluster.add_user(f"stubline-{process}", password)
    cluster.secret(process, password)


def ended(program: Program) -> bool:
    return not program.running


@contextmanager
def restarted(program: Program) -> Iterator[None]:
    """As its supervisor does it."""
    program.stop()
    program.start_soon()
    yield
    wait_for(program, "", 30)
