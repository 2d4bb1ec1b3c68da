"""Laws of the settings for Kafka: each is used or refused, and a secret is read where it is named,
again when it changes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.topics import GROUPS, all_topics
from services.runtime.kafka.acls import PROCESSES, required_acls
from services.runtime.kafka.client import consumer_settings, producer_settings
from services.runtime.kafka.cluster import KafkaCluster
from services.runtime.kafka.credentials import CHECK_S, CredentialsChanged, CredentialsWatch, secret
from services.runtime.kafka.settings import KafkaSettings
from services.runtime.settings import ConfigurationError, read

SERVERS = "broker:9092"
SCRAM = {
    "SECURITY_PROTOCOL": "SASL_SSL",
    "SASL_MECHANISM": "SCRAM-SHA-512",
    "USER": "issuer",
    "PASSWORD": "env:KAFKA_SECRET",
}


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets STUBLINE_KAFKA_*, and nothing else of them."""
    for name in [name for name in os.environ if name.startswith("STUBLINE_KAFKA_")]:
        monkeypatch.delenv(name)

    def set_all(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"STUBLINE_KAFKA_{name}", value)

    return set_all


def test_without_settings_a_client_gets_addresses_and_its_own_settings() -> None:
    assert KafkaCluster(SERVERS).client_settings({"client.id": "x"}) == {
        "bootstrap.servers": SERVERS,
        "client.id": "x",
    }


def test_a_login_over_tls_reaches_every_client(
    given: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_SECRET", "a secret")
    given(**SCRAM, CA_FILE="/etc/ca.pem")
    cluster = KafkaCluster(SERVERS, read(KafkaSettings))
    wanted = {
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": "/etc/ca.pem",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "issuer",
        "sasl.password": "a secret",
    }
    for settings in (
        consumer_settings(cluster, "group", "client"),
        producer_settings(cluster, "client", 10_000),
        cluster.client_settings({}),
    ):
        assert settings.items() >= wanted.items()
    assert "a secret" not in repr(cluster)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"SECURITY_PROTOCOL": "SASL_SSL"}, "STUBLINE_KAFKA_SASL_MECHANISM is not set"),
        ({**SCRAM, "SECURITY_PROTOCOL": "SSL"}, "STUBLINE_KAFKA_PASSWORD is set, and SSL"),
        ({**SCRAM, "PASSWORD": "hunter2"}, "STUBLINE_KAFKA_PASSWORD string should match"),
        ({"CA_FILE": "/etc/ca.pem"}, "STUBLINE_KAFKA_CA_FILE is set, and PLAINTEXT does not use"),
        (
            {"SECURITY_PROTOCOL": "SSL", "KEY_FILE": "/etc/key.pem"},
            "STUBLINE_KAFKA_CERTIFICATE_FILE is not set",
        ),
        (
            {"SECURITY_PROTOCOL": "SASL_SSL", "SASL_MECHANISM": "OAUTHBEARER"},
            "STUBLINE_KAFKA_OAUTH_CLIENT_ID is not set",
        ),
        ({"PASWORD": "env:X"}, "did you mean STUBLINE_KAFKA_PASSWORD?"),
        ({"PREFIX": "no spaces"}, "STUBLINE_KAFKA_PREFIX string should match"),
    ],
)
def test_a_setting_that_is_missing_or_not_used_stops_the_start(
    given: Callable[..., None], values: dict[str, str], problem: str
) -> None:
    given(**values)
    with pytest.raises(ConfigurationError) as refused:
        read(KafkaSettings)
    assert problem in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_a_secret_is_read_where_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "secret"
    file.write_text("of a file\n")
    monkeypatch.setenv("KAFKA_SECRET", "of a variable")
    assert secret(f"file:{file}") == "of a file"
    assert secret("env:KAFKA_SECRET") == "of a variable"
    assert secret(None) is None
    for reference in ("env:NOT_THERE", f"file:{tmp_path}/none", f"file:{tmp_path}"):
        with pytest.raises(ConfigurationError, match=reference):
            secret(reference)


class Client:
    """Takes passwords as a Kafka client does."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, str]] = []

    def set_sasl_credentials(self, username: str, password: str, /) -> None:
        self.taken.append((username, password))


def rewritten(file: Path, text: str) -> None:
    """As secrets are replaced: by a new file in its place."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.replace(file)


def test_a_changed_password_is_handed_to_the_clients_once(tmp_path: Path) -> None:
    file, client, now = tmp_path / "password", Client(), 0.0
    file.write_text("first")
    settings = KafkaSettings(
        security_protocol="SASL_SSL",
        sasl_mechanism="PLAIN",
        user="issuer",
        password=f"file:{file}",
    )
    watch = CredentialsWatch(settings, client, clock=lambda: now)
    for text in ("second", "second", "", "third"):
        rewritten(file, text)
        watch.refresh()  # not due
        now += CHECK_S
        watch.refresh()
        now += CHECK_S
        watch.refresh()
    assert client.taken == [("issuer", "second"), ("issuer", "second"), ("issuer", "third")]


def test_a_changed_certificate_ends_the_process_when_its_files_are_settled(tmp_path: Path) -> None:
    certificate, key, now = tmp_path / "tls.crt", tmp_path / "tls.key", 0.0
    certificate.write_text("first")
    key.write_text("first")
    settings = KafkaSettings(security_protocol="SSL", certificate_file=certificate, key_file=key)
    watch = CredentialsWatch(settings, clock=lambda: now)
    for step in ("", "certificate", "key"):
        if step:
            rewritten(certificate if step == "certificate" else key, "second")
        now += CHECK_S
        watch.refresh()
    now += CHECK_S
    with pytest.raises(CredentialsChanged, match=r"tls\.crt, .*tls\.key"):
        watch.refresh()


def test_nothing_is_looked_at_when_nothing_can_change() -> None:
    watch = CredentialsWatch(KafkaSettings(), clock=lambda: 1e9)
    watch.refresh()


def test_a_group_may_read_its_topics_and_write_its_outputs_and_nothing_else() -> None:
    acls = required_acls(KafkaCluster(SERVERS, KafkaSettings(prefix="acme.")), {"issuer": "it"})
    for group in GROUPS:
        mine = {acl[2:] for acl in acls if acl.process == group.service}
        assert mine == {
            ("group", f"acme.{group.name}", "Read"),
            *(("topic", f"acme.{topic}", "Read") for topic in group.topics),
            ("topic", f"acme.{group.name}.replay.v1", "Read"),
            *(("topic", f"acme.{topic}", "Write") for topic in group.outputs),
            ("topic", f"acme.{group.name}.replay.v1", "Write"),
            ("topic", f"acme.{group.name}.dead.v1", "Write"),
        }
    assert {acl.user for acl in acls if acl.process == "issuer"} == {"it"}
    assert {acl.process for acl in acls} == PROCESSES.keys()
    assert {acl.operation for acl in acls if acl.process == "commands"} == {
        "Describe",
        "DescribeConfigs",
    }
    topics = {f"acme.{topic.name}" for topic in all_topics()}
    assert {acl.name for acl in acls if acl.process == "migrate"} == topics


def test_an_acl_is_a_line_to_paste() -> None:
    (acl,) = (
        required
        for required in required_acls(KafkaCluster(SERVERS), {})
        if required.process == "webhooks"
    )
    assert acl.command == (
        "kafka-acls.sh --add --allow-principal User:stubline-webhooks "
        "--topic callbacks.received.v1 --operation Write"
    )
    named = required_acls(KafkaCluster(SERVERS), {"webhooks": "CN=web hooks"})
    assert "'User:CN=web hooks'" in named[0].command
