"""`stubline check-event` reports what ingest would make of a file once it is sent: no more, no
less, and nothing is sent.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis.strategies import binary, dictionaries, none, one_of, recursive, text

from schemas.callbacks import NATIVE
from schemas.envelope import NotAnEvent
from services.console import cli
from services.ingest import vendors
from services.ingest.admin.check_event import NotAnEventFileError, check, draft_from
from services.runtime.errors import Poison
from tests.support.callbacks import native_order
from tests.support.vendors import VENDORS
from tests.support.vendors.vendor import Vendor

NOW = datetime(2026, 11, 21, tzinfo=UTC)
HEADERS = {
    "ce_specversion": "1.0",
    "ce_id": "a1",
    "ce_type": NATIVE,
    "ce_source": "/sources/shop",
    "ce_time": "2026-11-20T15:28:08Z",
    "content-type": "application/json",
}


def written(content: Any) -> bytes:
    return json.dumps(content).encode()


def recorded(key: str = "shop:727", order: dict[str, Any] | None = None, **headers: str) -> bytes:
    names = [part for pair in (HEADERS | headers).items() for part in pair]
    return written(
        {"topic": "t", "headers": names, "key": key, "payload": json.dumps(order or native_order())}
    )


def structured(order: dict[str, Any]) -> bytes:
    return written(
        {"specversion": "1.0", "id": "1", "type": NATIVE, "source": "/sources/shop", "data": order}
    )


GOOD = {
    "an order": written(native_order()),
    "a structured event": structured(native_order()),
    "one with its order in base64": written(
        {
            "specversion": "1.0",
            "id": "1",
            "type": NATIVE,
            "source": "/sources/shop",
            "data_base64": base64.b64encode(written(native_order())).decode(),
        }
    ),
    "a record of kcat": recorded(),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_event_is_reported_with_its_order_and_its_facts(name: str) -> None:
    checked = check(draft_from(GOOD[name], None), NOW)
    assert checked.callback is not None
    assert checked.callback.order_id == "shop:727"
    assert [fact.name for fact in checked.callback.facts] == ["storefront", "reached:completed"]
    assert (checked.fault, checked.draft.key) == ("", "shop:727")


HALF = "\ud800"  # of a character: json.dumps writes it, and no text may hold it
BAD = {
    "half a character in its id": (written(native_order(order_id=HALF)), "hex escape"),
    "half a character in its source": (written(native_order(source=HALF)), "utf-8"),
    "half a character in its payload": (recorded(order=native_order(number=HALF)), "hex escape"),
    "half a character in a header": (recorded(ce_id=HALF), "utf-8"),
    "half a character in its key": (recorded(key=HALF), "shop:727"),
    "half a character as its payload": (
        written({"headers": json.loads(recorded())["headers"], "payload": HALF}),
        "JSON",
    ),
    "an unknown key": (written(native_order(colour="red")), "colour"),
    "a time without an offset": (
        written(native_order(modified_at="2026-11-20T15:28:08")),
        "offset",
    ),
    "a blank in its id": (written(native_order(order_id="7 27")), "blank"),
    "another source in its header": (recorded(ce_source="/sources/other"), "misaddressed"),
    "a source that is no address": (recorded(ce_source="shop"), "/sources/<slug>"),
    "another key": (recorded(key="shop:728"), "shop:727"),
    "an unknown type": (recorded(ce_type="com.example.order"), "com.example.order"),
    "no version": (recorded(ce_specversion=""), "specversion"),
    "no value": (written({"headers": [], "key": "shop:727", "payload": None}), "specversion"),
    "an order of a megabyte": (written(native_order(number="1" * 2_000_000)), "bytes"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_would_be_a_dead_letter_is_reported_with_its_reason(name: str) -> None:
    content, why = BAD[name]
    checked = check(draft_from(content, None), NOW)
    assert checked.callback is None
    assert why in checked.fault


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"1",
        b'{"headers": 1}',
        b'{"headers": ["a"]}',
        b'{"payload": {}}',
        b"\xff",
        b"[" * 99_999,
    ],
)
def test_a_file_that_holds_nothing_to_be_sent_is_reported_as_that(content: bytes) -> None:
    with pytest.raises(NotAnEventFileError):
        draft_from(content, None)


def test_what_is_accepted_and_probably_a_mistake_is_a_warning() -> None:
    ahead = check(draft_from(written(native_order(modified_at="2027-01-01T00:00:00Z")), None), NOW)
    assert ahead.callback is not None
    assert ["ahead of this clock" in warning for warning in ahead.warnings] == [True]
    twice = json.loads(recorded())
    twice["headers"] += ["ce_id", "other"]
    assert "ce_id is repeated" in check(draft_from(written(twice), None), NOW).warnings[0]
    assert check(draft_from(recorded(), None), NOW).warnings == ()


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"total_minor": "12.50"}, "unreadable-amount: total_minor"),
        ({"currency": "XAU"}, "unknown-currency: the currency 'XAU'"),
        ({"paid_at": ""}, "unreadable-date: paid_at"),
    ],
)
def test_what_is_accepted_without_an_amount_or_a_date_is_a_warning(
    changes: dict[str, object], warning: str
) -> None:
    checked = check(draft_from(written(native_order(**changes)), None), NOW)
    assert checked.callback is not None
    assert [text for text in checked.warnings if text.startswith(warning)]


@pytest.mark.parametrize("to_json", [written, structured], ids=["an order", "an event"])
def test_a_nested_field_that_is_not_read_is_a_warning(
    to_json: Callable[[dict[str, Any]], bytes],
) -> None:
    """It is taken, for what is read inside an order may grow; a gift would be lost."""
    line = {"line_id": "1", "quantity": 1, "recipent": {"name": "Bob"}}
    gift = {"line_id": "2", "quantity": 1, "recipient": {"name": "Bob", "emial": "b@c.d"}}
    checked = check(draft_from(to_json(native_order(lines=[line, gift])), None), NOW)
    assert checked.callback is not None
    assert checked.warnings == (
        "lines.0.recipent is not read; did you mean recipient?",
        "lines.1.recipient.emial is not read; did you mean email?",
    )
    many = [{"line_id": str(at), "quantity": 1, "colour": "red"} for at in range(500)]
    assert len(check(draft_from(to_json(native_order(lines=many)), None), NOW).warnings) == 10


@pytest.mark.parametrize(
    "vendor", [pytest.param(vendor, id=kind) for kind, vendor in VENDORS.items()]
)
def test_a_record_of_any_source_can_be_checked_again(vendor: Vendor) -> None:
    """As `kcat -C -J` reads them from the topic."""
    for sample in vendor.samples.values():
        record = vendor.record(sample)
        names = [part for name, text in record.headers for part in (name, (text or b"").decode())]
        to_json = {
            "headers": names,
            "key": (record.key or b"").decode(),
            "payload": (record.value or b"").decode(),
        }
        assert check(draft_from(written(to_json), None), NOW).fault == ""


def test_a_structured_record_of_any_charset_needs_no_time_in_a_header() -> None:
    record = {
        "headers": ["content-type", "application/cloudevents+json; charset=utf-8"],
        "key": "shop:727",
        "payload": structured(native_order()).decode(),
    }
    assert check(draft_from(written(record), None), NOW).warnings == ()


JSON = recursive(one_of(none(), text()), lambda inner: dictionaries(text(), inner))


@given(
    one_of(
        binary().map(lambda tail: b'{"order_id":"' + tail + b'"}'),
        dictionaries(text(), JSON).map(written),
    )
)
def test_whatever_the_file_holds_the_answer_is_that_of_the_worker(content: bytes) -> None:
    try:
        sending = draft_from(content, None)
    except NotAnEventFileError:
        return
    checked = check(sending, NOW)
    try:
        vendors.parse(sending.record())
    except (NotAnEvent, Poison):
        assert checked.fault
    else:
        assert not checked.fault


def test_the_command_prints_how_to_send_it_and_ends_with_1_for_a_dead_letter(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "order.json"
    file.write_bytes(written(native_order()))
    assert cli.run(["check-event", str(file)]) == 0
    out = capsys.readouterr().out
    assert "good: order shop:727" in out
    assert (
        f"with the key shop:727, a ce_id of its own, and ce_specversion: 1.0; ce_type: {NATIVE}"
        in out
    )
    file.write_bytes(written(native_order(status="paid\x1b[31m")))
    assert cli.run(["check-event", str(file), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["fault"].startswith(
        "ingest-callback-unreadable: the status"
    )
    assert cli.run(["check-event", str(tmp_path / "none.json")]) == 2
