"""The how-to's source is a source: its text is run."""

from __future__ import annotations

import hmac
import re
from pathlib import Path
from types import ModuleType

import orjson

from schemas.orders import Storefront
from services.ingest import shops, sources
from services.ingest.sources.source import Source
from tests.support.vendors import Sample, Vendor
from tests.support.vendors.vendor import NOW

PAGE = Path(__file__).resolve().parents[3] / "docs" / "how-to" / "add-a-source.md"
FENCE = "`" * 3


def written(language: str) -> str:
    (found,) = re.findall(rf"{FENCE}{language}\n(.*?){FENCE}", PAGE.read_text("utf-8"), re.DOTALL)
    return str(found)


def test_the_source_of_the_how_to_works_as_it_stands(tmp_path: Path) -> None:
    module = ModuleType("ticketbox")
    exec(compile(written("python"), str(PAGE), "exec"), module.__dict__)  # noqa: S102 - our own page
    source = module.SOURCE
    assert isinstance(source, Source)
    told = {
        "event": "e-1",
        "order": "727",
        "state": "Completed",
        "cents": 1500,
        "name": "Ada  Example",
        "email": "ada@example.org",
        "changed": "2026-11-20T15:28:08Z",
    }
    body = orjson.dumps(told)

    def sign(sample: Sample, secret: str, _at: float) -> dict[bytes, bytes]:

        return {b"x-ticketbox-signature": hmac.digest(secret.encode(), sample.body, "sha256").hex().encode()}

    vendor = Vendor("ticketbox", "a secret of sixteen", "another of sixteen", {"order": Sample(body)}, sign)
    sources.KINDS["ticketbox"] = sources.SOURCES[source.type] = source
    try:
        assert source.verify(vendor.delivery(vendor.samples["order"], at=NOW))
        callback = sources.read(vendor.record(vendor.samples["order"], slug="box"))
        file = tmp_path / "sources.toml"
        file.write_text(written("toml"), "utf-8")
        shop = shops.read(file, {"TICKETBOX_SECRET": "a secret of sixteen"})["box"]
    finally:
        del sources.KINDS["ticketbox"], sources.SOURCES[source.type]
    assert shop.refused is None
    assert (callback.key, callback.order_id) == ("box:727 e-1", "box:727")
    order = Storefront.model_validate_json(callback.facts[0].content)
    assert (order.status, order.total_minor, order.buyer.name) == ("completed", 1500, "Ada Example")


def test_it_is_as_short_as_it_says() -> None:
    code = [
        line for line in written("python").splitlines() if line and not line.startswith(("from ", "import ", '"""'))
    ]
    assert len(code) <= 20
