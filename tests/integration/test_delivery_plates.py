"""The first mail of a campaign: `stubline campaigns apply` leaves its plate in the blob store, and
a sender on another machine sends without compiling anything.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import psycopg
import pytest
from typing_extensions import override

from deploy.local.mail import Mail
from deploy.local.roles import as_role
from schemas import structs
from schemas.orders import CampaignSnapshot
from services.console import cli
from services.delivery.rendering import SharedRenderer
from services.delivery.sender.process import SenderBuilder, open_external
from services.delivery.sender.telemetry import SenderTelemetry
from services.delivery.settings import DeliverySettings
from services.issuer.rules.campaigns import CampaignDefinition
from services.runtime.errors import StublineError
from services.runtime.process import StopRequest
from services.runtime.settings import Servers
from tests.support.deliveries import Deliveries, decided, deliveries, issued

pytestmark = pytest.mark.slow  # a layout engine compiles a design in each

FILE = """\
[[campaign]]
id = "spring"
name = "Spring Draw of {name}"
sources = ["shop"]
skus = ["RFL"]
"""


class Facts(SenderTelemetry):
    """Records how plates were made, and what failed."""

    def __init__(self) -> None:
        self.plates: list[str] = []
        self.failed: list[str] = []

    @override
    def compiled(self, seconds: float) -> None:
        self.plates.append("compiled")

    @override
    def plate_loaded(self, seconds: float) -> None:
        self.plates.append("loaded")

    @override
    def file_failed(self, order_id: str, error: StublineError) -> None:
        self.failed.append(error.code)


@pytest.fixture
def site(database_url: str, mail: Mail, tmp_path: Path) -> Iterator[Deliveries]:
    with deliveries(database_url, mail, tmp_path) as deployed:
        yield deployed


@pytest.fixture
def apply(site: Deliveries, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """`stubline campaigns apply`, on a machine with a plates folder of its own."""
    monkeypatch.setenv("DATABASE_URL", site.database_url)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")  # nobody asks it
    monkeypatch.setenv("STUBLINE_ACTOR", "ada")
    monkeypatch.setenv("STUBLINE_DELIVERY_PLATES_FOLDER", str(site.folder / "operator"))
    monkeypatch.setenv("STUBLINE_DELIVERY_FILES_URL", str(site.files))
    file = site.folder / "campaigns.toml"
    file.write_text(FILE.format(name=site.folder.name))
    return lambda: pytest.fail("refused") if cli.run(["campaigns", "apply", str(file)]) else None


@contextmanager
def sender(site: Deliveries, machine: str) -> Iterator[Facts]:
    """Run a sender on a machine that has never printed anything."""
    settings = DeliverySettings(
        smtp_url=site.mail.url,
        files_url=str(site.files),
        plates_folder=str(site.folder / machine),
        idle_wait_ms=50,
    )
    servers = Servers(
        DATABASE_URL=as_role(site.database_url, "delivery"), KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1"
    )
    facts, stop = Facts(), StopRequest()
    external = open_external(settings, SharedRenderer, facts)
    connections = SenderBuilder(settings, servers, external, facts).connections(stop)
    thread = threading.Thread(target=connections.run)
    thread.start()
    try:
        yield facts
    finally:
        stop.signal = signal.SIGTERM  # as its handler does
        thread.join()
        for each in connections.all_senders:
            each.context.channel.close()
            each.context.queue.close()


def applied(site: Deliveries) -> CampaignSnapshot:
    """Return the campaign as the issuer publishes it with each order."""
    with psycopg.connect(site.database_url) as connection:
        row = connection.execute("select definition from issuer.campaigns").fetchone()
    assert row is not None
    definition = CampaignDefinition.model_validate(row[0]).snapshot()
    return structs.convert(CampaignSnapshot, {"version": 1, **definition})


def paid(site: Deliveries, order_id: str, campaign: CampaignSnapshot) -> None:
    snapshot = msgspec.structs.replace(issued(order_id, 1, "Active"), campaigns=(campaign,))
    site.receive(decided(order_id, 1), snapshot)


def bundles(site: Deliveries) -> list[str]:
    return [path.suffix for path in site.files.rglob("*") if path.is_file()]


def test_an_applied_campaigns_first_mail_is_sent_without_compiling(
    site: Deliveries, apply: Callable[[], None]
) -> None:
    with sender(site, "sender") as facts:
        apply()
        assert bundles(site) == [".bundle"]
        for number in range(3):
            paid(site, f"shop:{number}", applied(site))
        site.until_sent()
    assert facts.plates == ["loaded"]
    assert facts.failed == []
    attached = [next(iter(mail.iter_attachments())).get_content() for mail in site.mail.mails()]
    assert len(attached) == 3
    assert all(pdf.startswith(b"%PDF") for pdf in attached)
    assert site.rows("select * from delivery.files") == []


def test_what_a_sender_had_to_compile_the_next_one_loads(
    site: Deliveries, apply: Callable[[], None]
) -> None:
    """As if the store had been unavailable while the campaign was applied."""
    apply()
    for path in (site.files / "plates").iterdir():
        path.unlink()
    with sender(site, "first") as first:
        paid(site, "shop:1", applied(site))
        site.until_sent()
        site.until("it is published", lambda: bundles(site) == [".bundle"])
    with sender(site, "second") as second:
        paid(site, "shop:2", applied(site))
        site.until_sent()
    assert (first.plates, second.plates) == (["compiled"], ["loaded"])


def test_a_damaged_plate_and_a_store_that_is_unavailable_stop_no_mail(
    site: Deliveries, apply: Callable[[], None]
) -> None:
    apply()
    [plate] = (site.files / "plates").iterdir()
    plate.write_bytes(plate.read_bytes()[:-1])
    with sender(site, "first") as first:
        paid(site, "shop:1", applied(site))
        site.until_sent()
    assert (first.plates, first.failed) == (["compiled"], ["delivery-file-damaged"])
    moved = (site.files / "plates").rename(site.folder / "away")
    (site.files / "plates").write_text("in its place")
    with sender(site, "second") as second:
        paid(site, "shop:2", applied(site))
        site.until_sent()
    assert moved.exists()
    assert second.plates == ["compiled"]
    assert set(second.failed) == {"delivery-files-unavailable"}
