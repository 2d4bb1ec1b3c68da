"""Laws of real clusters: the pipeline runs where every client needs TLS, a login and exactly the
ACLs that `stubline topics acls` prints. A right, a password or a certificate that fails is named,
loses nothing, and the process goes on when it is restored.

One broker with Kafka's own authorizer. Topics and groups have a prefix, as on a shared cluster.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient
from rich.console import Console

from deploy.demo import __main__ as demo
from deploy.demo import reconcile
from deploy.demo.evening import plan
from deploy.demo.store import open_store
from deploy.demo.storefront import DemoStorefront
from deploy.local.kafka import BrokerSecurity
from deploy.local.ports import free_ports
from deploy.local.process import replace_text, wait_until
from deploy.local.programs import PUBLIC_PORT, services
from deploy.local.stack import Stack
from services.runtime.errors import OutputUnauthorized, StublineError
from services.runtime.kafka.acls import PROCESSES
from services.runtime.kafka.connections import BrokerLoginRefused, BrokerTlsFailed
from services.runtime.kafka.credentials import CredentialsChanged
from services.runtime.kafka.topics import BrokerAdmin
from tests.support.certificates import LocalAuthority
from tests.support.clusters import (
    NAMED_WITHIN_S,
    PREFIX,
    Cluster,
    all_delivered,
    buy,
    change_password,
    ended,
    readiness,
    restarted,
    rights,
    stubline,
    wait_for,
)
from tests.support.oauth import token_server
from tests.support.stubline import SECRET, Stubline, connected, write_files

pytestmark = pytest.mark.slow

EVENING, EVENING_S = 60, 5.0  # orders, and how long the shop posts


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    authority = LocalAuthority(folder)
    certificate = authority.issue("broker")
    expired = authority.issue("broker", file="broker-expired", is_expired=True)
    security = BrokerSecurity(
        certificate.both, authority.certificate, "an-administrators-own", {"plain": "plain-secret"}
    )
    with Stack.temporary(security=security) as stack:
        admin = AdminClient(stack.admin_settings)
        yield Cluster(stack, folder, authority, certificate, expired, admin)


@pytest.fixture(scope="module")
def acls(cluster: Cluster) -> list[dict[str, str]]:
    """A user for each process, and the ACLs that are printed, of which none is left out."""
    for process in PROCESSES:
        cluster.add_user(f"stubline-{process}", f"password-of-{process}")
        cluster.secret(process, f"password-of-{process}")
    printed = stubline(cluster, "commands", "topics", "acls", "--json")
    acls: list[dict[str, str]] = json.loads(printed)
    cluster.allow(acls)
    return acls


@pytest.fixture(scope="module")
def shop(
    cluster: Cluster, acls: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stubline]:
    """All processes, each with its own login, on the migrated cluster."""
    assert acls
    files = write_files(tmp_path_factory.mktemp("shop"))
    stubline(cluster, "migrate", "migrate")
    for campaigns in (files["campaigns"], demo.HERE / "campaigns.toml"):
        stubline(cluster, "commands", "campaigns", "apply", str(campaigns))
    with files["sources"].open("a") as sources:
        sources.write(
            f'[sources.{reconcile.SOURCE}]\nkind = "woocommerce"\n'
            'secrets = ["env:TEST_SHOP_SECRET"]\n'
        )
    environment = {**cluster.stack.environment, "TEST_SHOP_SECRET": SECRET}

    def own_settings(program: str) -> Mapping[str, str]:
        """A sender has no login: it needs no Kafka."""
        return cluster.settings(program) if program in PROCESSES else {}

    reader = cluster.reached(
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-512",
        user="stubline-commands",
        password=f"file:{cluster.folder / 'commands.secret'}",
        prefix=PREFIX,
    )
    with (
        services(
            cluster.folder, environment, files["sources"], senders=1, own_settings=own_settings
        ) as running,
        connected(running, environment, cluster.stack.smtp, reader) as pipeline,
    ):
        yield pipeline


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN", "OAUTHBEARER"])
def test_every_login_that_is_offered_works(cluster: Cluster, mechanism: str) -> None:
    cluster.add_user("scram", "scram-secret")
    name = "plain" if mechanism == "PLAIN" else "scram"
    login: dict[str, Any] = {"user": name, "password": cluster.secret(name, f"{name}-secret")}
    with token_server("client", "client-secret") as url:
        if mechanism == "OAUTHBEARER":
            login = {
                "oauth_token_url": url,
                "oauth_client_id": "client",
                "oauth_client_secret": cluster.secret("client", "client-secret"),
            }
        reached = cluster.reached(security_protocol="SASL_SSL", sasl_mechanism=mechanism, **login)
        assert BrokerAdmin(reached).brokers() == 1


def test_a_client_certificate_is_a_login_too(cluster: Cluster) -> None:
    address = cluster.stack.kafka[0].mutual_address
    own = cluster.authority.issue("client")
    files = {"certificate_file": own.certificate, "key_file": own.key}
    reached = cluster.reached(address=address, security_protocol="SSL", **files)
    assert BrokerAdmin(reached).brokers() == 1

    late = cluster.authority.issue("client", file="client-expired", is_expired=True)
    files = {"certificate_file": late.certificate, "key_file": late.key}
    reached = cluster.reached(address=address, security_protocol="SSL", **files)
    with pytest.raises(BrokerTlsFailed, match=r"client-expired.crt expired at "):
        BrokerAdmin(reached, timeout_s=1).brokers()


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"sasl_mechanism": "PLAIN", "user": "plain", "password": "env:HOME"}, BrokerLoginRefused),
        ({"sasl_mechanism": "PLAIN", "user": "x", "password": "env:HOME"}, BrokerLoginRefused),
    ],
)
def test_a_login_that_is_refused_is_named(
    cluster: Cluster, settings: dict[str, Any], kind: type[StublineError]
) -> None:
    reached = cluster.reached(security_protocol="SASL_SSL", **settings)
    with pytest.raises(kind, match="Authentication failed"):
        BrokerAdmin(reached, timeout_s=1).brokers()


def test_the_demonstration_runs_with_the_acls_that_are_printed(
    cluster: Cluster, shop: Stubline
) -> None:
    """A small evening, with its kill and its reconciliation: the books balance. First of those that
    use the shop, since its books are about an empty database.
    """
    scene = demo.Scene(
        plan(EVENING),
        DemoStorefront(shop.services.webhooks_port, f"/hooks/{reconcile.SOURCE}", SECRET),
        shop.services,
        lambda: open_store(shop.database_url, shop.store.cluster),
        Console(width=110, file=io.StringIO()),
        seconds=EVENING_S,
        outcome=cluster.folder,
    )
    code = demo.conclude(scene, shop.mail.maildir, demo.play(scene))
    assert isinstance(scene.console.file, io.StringIO)
    assert code == 0, scene.console.file.getvalue()


def test_commands_may_read_what_they_read_and_every_name_has_the_prefix(
    cluster: Cluster, shop: Stubline
) -> None:
    all_delivered(shop, buy(shop, 3))
    assert all(
        name.startswith((PREFIX, "__")) for name in cluster.admin.list_topics(timeout=10).topics
    )
    groups = cluster.admin.list_consumer_groups().result(10).valid
    assert {group.group_id for group in groups} == {
        f"{PREFIX}stubline.{stage}" for stage in ("ingest", "approval", "issuer", "delivery")
    }
    assert shop.command("topics", "check").returncode == 0
    status = shop.command("status", "--json")
    assert status.returncode == 0, status.stderr
    assert {row["lag"] for row in json.loads(status.stdout)} == {0}
    topics = cluster.admin.list_topics(timeout=10).topics
    assert len(topics[f"{PREFIX}orders.decided.v1"].partitions) == 2


def test_a_revoked_right_is_named_and_the_lane_goes_on_once_it_is_given_back(
    cluster: Cluster, shop: Stubline, acls: list[dict[str, str]]
) -> None:
    (right,) = rights(acls, "issuer", "Read", f"{PREFIX}orders.decided.v1")
    cluster.revoke(right)
    bought = buy(shop, 3)
    wait_for(shop.services.programs["issuer"], "input-")
    cluster.allow([right])
    wait_for(shop.services.programs["issuer"], "", 30)
    all_delivered(shop, bought)


@pytest.mark.parametrize("topic", [f"{PREFIX}tickets.changed.v1", ""], ids=["one", "all"])
def test_a_revoked_right_to_write_is_named_and_the_outputs_are_published_once_it_is_given_back(
    cluster: Cluster, shop: Stubline, acls: list[dict[str, str]], topic: str
) -> None:
    """Also that of a process which starts without it. Without any right to write its producer ends
    for good, and it needs another one.
    """
    issuer = shop.services.programs["issuer"]
    revoked = rights(acls, "issuer", "Write", topic)
    for right in revoked:
        cluster.revoke(right)
    bought = buy(shop, 3)
    wait_for(issuer, OutputUnauthorized.code)
    if not topic:
        issuer.stop()
        issuer.start_soon()
        wait_for(issuer, OutputUnauthorized.code)
    assert shop.value("select count(*) from runtime.lanes where stopped_code is not null") == 0
    cluster.allow(revoked)
    wait_for(issuer, "", 30)
    all_delivered(shop, bought)
    assert '"code": "output-unauthorized"' in issuer.log_file.read_text("utf-8")


@pytest.mark.parametrize("is_restarted", [False, True], ids=["running", "restarted"])
def test_callbacks_that_may_not_be_written_are_refused_with_a_reason_until_they_may(
    cluster: Cluster, shop: Stubline, acls: list[dict[str, str]], *, is_restarted: bool
) -> None:
    """The shop sends them again. Metadata may still be readable: it proves nothing."""
    webhooks = shop.services.programs["webhooks"]
    revoked = rights(acls, "webhooks", "Write")
    readable = [{**acl, "operation": "Describe"} for acl in revoked]
    cluster.allow(readable)
    for right in revoked:
        cluster.revoke(right)
    if is_restarted:
        webhooks.stop()
        webhooks.start_soon()
        wait_for(webhooks, OutputUnauthorized.code)
    with ThreadPoolExecutor(1) as pool:
        bought = pool.submit(buy, shop, 3)
        wait_for(webhooks, OutputUnauthorized.code)
        if is_restarted:  # its producer has ended, and the next one needs the new password
            change_password(cluster, "webhooks", "another-password")
        reasons = {f"{OutputUnauthorized.code}: callbacks.received.v1"}
        if is_restarted:  # a probe between the change at the broker and that of the file
            reasons.add(f"{BrokerLoginRefused.code}: Kafka does not answer")
        try:
            for _ in range(30):  # several probes
                time.sleep(0.1)
                assert readiness(webhooks).startswith(tuple(reasons))
        finally:
            cluster.allow(revoked)
        wait_for(webhooks, "", 30)
        all_delivered(shop, bought.result(60))
    change_password(cluster, "webhooks", "password-of-webhooks")
    for right in readable:
        cluster.revoke(right)
    lines = [
        line
        for line in webhooks.log_file.read_text("utf-8").splitlines()
        if '"code": "output-unauthorized"' in line and "retrying after error" in line
    ]
    assert len(lines) == 1 + is_restarted


def test_a_wrong_password_is_named_and_read_again_when_its_file_changes(
    cluster: Cluster, shop: Stubline
) -> None:
    approval, webhooks = shop.services.programs["approval"], shop.services.programs["webhooks"]
    for process in ("approval", "webhooks"):
        cluster.secret(process, "not-its-password")
    with restarted(approval), restarted(webhooks):
        wait_for(approval, BrokerLoginRefused.code)
        wait_for(webhooks, BrokerLoginRefused.code)
        for process in ("approval", "webhooks"):
            cluster.secret(process, f"password-of-{process}")
    all_delivered(shop, buy(shop, 3))


def test_an_expired_certificate_is_named_and_the_process_goes_on_with_the_next(
    cluster: Cluster, shop: Stubline
) -> None:
    delivery = shop.services.programs["delivery"]
    cluster.present(cluster.expired)
    try:
        with restarted(delivery):
            bought = buy(shop, 3)
            wait_for(delivery, BrokerTlsFailed.code)
            cluster.present(cluster.certificate)
    finally:
        cluster.present(cluster.certificate)
    all_delivered(shop, bought)
    assert "certificate has expired" in delivery.log_file.read_text("utf-8")


def test_an_expired_certificate_of_a_process_is_named_and_it_goes_on_with_the_next(
    cluster: Cluster, shop: Stubline, acls: list[dict[str, str]]
) -> None:
    """A second webhook endpoint, which logs in by its certificate."""
    name = "by-certificate"
    (right,) = rights(acls, "webhooks", "Write")
    cluster.allow([{**right, "user": f"CN={name}"}])
    issued = cluster.authority.issue(name, is_expired=True)
    (public_port,) = free_ports(1, avoid=set())
    program = shop.services.add(
        name,
        "services.ingest.webhooks",
        "STUBLINE_INGEST_WEBHOOK_HEALTH_PORT",
        None,
        **{PUBLIC_PORT: str(public_port)},
        KAFKA_BOOTSTRAP_SERVERS=cluster.stack.kafka[0].mutual_address,
        STUBLINE_KAFKA_SECURITY_PROTOCOL="SSL",
        STUBLINE_KAFKA_CA_FILE=str(cluster.authority.certificate),
        STUBLINE_KAFKA_CERTIFICATE_FILE=str(issued.certificate),
        STUBLINE_KAFKA_KEY_FILE=str(issued.key),
        STUBLINE_KAFKA_PREFIX=PREFIX,
    )
    program.start_soon()
    wait_for(program, BrokerTlsFailed.code)
    assert f"{name}.crt expired at " in readiness(program)
    cluster.authority.issue(name)
    wait_until("its end", partial(ended, program), seconds=NAMED_WITHIN_S)
    program.start()  # by its supervisor; it returns when the process is ready
    program.stop()


def test_a_changed_authority_ends_every_process_and_its_supervisor_starts_it_again(
    cluster: Cluster, shop: Stubline
) -> None:
    """All of them, for all of them read the same file."""
    programs = [shop.services.programs[name] for name in ("webhooks", "ingest", "issuer")]
    before = cluster.authority.certificate.read_text("utf-8")
    replace_text(cluster.authority.certificate, before)
    for program in programs:
        wait_until(f"the end of {program.name}", partial(ended, program), seconds=NAMED_WITHIN_S)
        assert CredentialsChanged.code in program.log_file.read_text("utf-8")
    programs[0].start()  # returns when it is ready
