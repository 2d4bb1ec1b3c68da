"""The how-to's source works as written: a folder of its own, under the laws of every source."""

from __future__ import annotations

import hmac
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from schemas import structs
from schemas.orders import Storefront
from services.ingest import vendors
from services.ingest.config import sources_file
from tests.support.vendors import VENDORS, Sample, Vendor
from tests.support.vendors.vendor import NOW
from tests.unit.ingest import test_every_source as laws
from tests.unit.ingest import test_every_source_over_http as http_laws

PAGE = Path(__file__).resolve().parents[3] / "docs" / "how-to" / "add-a-source.md"
FENCE = "`" * 3
SENT = {
    "event": "e-1",
    "order": "727",
    "state": "Completed",
    "cents": 1500,
    "name": "Ada  Example",
    "email": "ada@example.org",
    "changed": "2026-11-20T15:28:08Z",
}


def written(language: str) -> str:
    (block,) = re.findall(rf"{FENCE}{language}\n(.*?){FENCE}", PAGE.read_text("utf-8"), re.DOTALL)
    return str(block)


def sign(sample: Sample, secret: str, _at: float) -> dict[bytes, bytes]:
    return {
        b"x-ticketbox-signature": hmac.digest(secret.encode(), sample.body, "sha256").hex().encode()
    }


@pytest.fixture
def vendor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Vendor]:
    """The vendor of the page, found as one more folder: nothing else in the package changes."""
    folder = tmp_path / "vendors" / "ticketbox"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text('"""Ticketbox."""\n', "utf-8")
    (folder / "webhook.py").write_text(written("python"), "utf-8")
    monkeypatch.setattr(vendors, "__path__", [*vendors.__path__, str(folder.parent)])
    importlib.invalidate_caches()
    source = vendors.find_sources()["ticketbox"]
    samples = {"order": Sample(orjson.dumps(SENT))}
    vendor = Vendor("ticketbox", "a secret of sixteen", "another of sixteen", samples, sign)
    monkeypatch.setitem(vendors.WEBHOOK_SOURCES, "ticketbox", source)
    monkeypatch.setitem(vendors.SOURCES_BY_TYPE, source.type, source)
    monkeypatch.setitem(VENDORS, "ticketbox", vendor)
    yield vendor
    for name in [name for name in sys.modules if name.startswith(f"{vendors.__name__}.ticketbox")]:
        del sys.modules[name]
    del vendors.ticketbox  # type: ignore[attr-defined]  # the import system set it


def test_the_source_of_the_how_to_works_as_it_stands(vendor: Vendor, tmp_path: Path) -> None:
    assert vendor.source.verify(vendor.request(vendor.samples["order"], at=NOW))
    callback = vendors.parse(vendor.record(vendor.samples["order"], slug="box"))
    file = tmp_path / "sources.toml"
    file.write_text(written("toml"), "utf-8")
    config = sources_file.read(file, {"TICKETBOX_SECRET": "a secret of sixteen"})["box"]
    assert config.refusal is None
    assert (callback.key, callback.order_id) == ("box:727 e-1", "box:727")
    order = structs.decode(Storefront, callback.facts[0].content)
    assert (order.status, order.total_minor, order.buyer.name) == ("completed", 1500, "Ada Example")


def test_the_source_of_the_how_to_obeys_the_laws_of_every_source(vendor: Vendor) -> None:
    sample = vendor.samples["order"]
    laws.test_no_source_is_without_its_laws()
    laws.test_only_a_request_signed_with_a_secret_is_accepted(vendor, sample)
    laws.test_a_body_that_was_touched_is_refused(vendor, sample)
    laws.test_no_headers_make_the_endpoint_fail(vendor, sample)
    laws.test_a_sample_is_read_and_its_repeat_is_known(vendor, sample)
    laws.test_two_sources_of_a_kind_never_share_a_key(vendor, sample)
    for body in (b"", b"null", b"[]", b"{}", b'"x"', b"[" * 100_000, *wrong_in_one_place()):
        laws.test_no_bytes_raise_an_unexpected_error(vendor, body)
    for seed in range(10):
        laws.ends_whatever_is_sent(vendor, seed)
    http_laws.test_every_callback_is_a_record_for_each_of_its_orders_without_card_data(vendor.kind)
    http_laws.test_what_is_signed_is_never_refused_for_its_content(vendor.kind)
    http_laws.test_an_unauthenticated_caller_is_refused_and_nothing_is_published(vendor.kind)


def wrong_in_one_place() -> Iterator[bytes]:
    values: list[object] = [
        None,
        [],
        {},
        True,
        -1,
        10**18,
        "",
        "\u202e",
        "\0",
        "x" * 5_000,
        "2026-11-20T15:28:08",
    ]
    for name in SENT:
        for value in values:
            yield orjson.dumps({**SENT, name: value})
        yield orjson.dumps({key: value for key, value in SENT.items() if key != name})


def test_the_source_of_the_how_to_is_as_short_as_the_page_claims() -> None:
    code = [
        line
        for line in written("python").splitlines()
        if line and not line.startswith(("from ", "import ", '"""'))
    ]
    assert len(code) <= 20
