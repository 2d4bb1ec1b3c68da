"""Whatever the bytes are, they end as a callback or as a dead letter with a reason that quotes
nothing.
"""

from __future__ import annotations

import copy
import json
import random
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.callbacks import NATIVE, TOPIC, WOOCOMMERCE
from schemas.envelope import NotAnEvent
from services.ingest import vendors
from services.ingest.rules.decide import KnownPayment, decide_batch
from services.ingest.rules.facts import ParsedCallback
from services.ingest.store import facts_from_json, facts_to_json
from services.ingest.worker import order_observed
from services.runtime.errors import Poison
from services.runtime.records import Record
from tests.support.callbacks import native, native_order, record, woo_order
from tests.support.mutations import mutated
from tests.unit.ingest.test_rules import unknown_order

scraps = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=20),
        st.sampled_from(
            [
                "\0",
                "\u202e",
                "&#0;",
                "<script>",
                "1e999",
                "-0",
                "2026-11-20T15:28:08",
                "x" * 400,
                "NaN",
            ]
        ),
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


def ends(record: Record) -> ParsedCallback | None:
    """Return a callback, or nothing when it is a dead letter. Anything else fails the test."""
    try:
        return vendors.parse(record)
    except (NotAnEvent, Poison):
        return None


def is_storable(callback: ParsedCallback) -> None:
    """Check that it can be stored and published: no text that PostgreSQL refuses, no number without
    bounds.
    """
    assert len(callback.key) <= 1_000
    assert callback.order_id is not None
    _, after, _ = decide_batch(
        [callback],
        {callback.order_id: unknown_order(callback.order_id)},
        seen=[],
        payments={name: KnownPayment(name) for name in callback.payments},
    )
    order = after[callback.order_id]
    stored = facts_to_json(order.facts)
    assert "\\u0000" not in stored
    assert facts_from_json(stored) == order.facts
    output = order_observed(order, ["storefront"]).encode(time="2026-11-20T15:30:00Z")
    assert b"\\u0000" not in (output.value or b"")


def paths(document: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    places = [at]
    inner = (
        document.items()
        if isinstance(document, dict)
        else enumerate(document)
        if isinstance(document, list)
        else ()
    )
    for name, part in inner:
        places += paths(part, (*at, name))
    return places


def changed(document: Any, at: tuple[Any, ...], scrap: object) -> Any:
    if not at:
        return scrap
    document = copy.deepcopy(document)
    inner = document
    for name in at[:-1]:
        inner = inner[name]
    inner[at[-1]] = scrap
    return document


WOO, OWN = woo_order(), native_order()


@given(
    st.sampled_from(["sku", "name", "product_id"]),
    st.text(st.sampled_from("aR é\t\u00a0\u200d"), max_size=12),
)
def test_an_order_and_its_escaped_twin_have_the_same_content(field: str, value: str) -> None:
    """Whatever else is in a body: an accent in a name never decides how a product is spelt."""
    line = {**OWN["lines"][0], field: value}
    for order in ({**OWN, "lines": [line]}, {**OWN, "lines": [line], "number": value}):
        escaped, plain = json.dumps(order).encode(), json.dumps(order, ensure_ascii=False).encode()
        assert ends(native(OWN)._replace(value=escaped)) == ends(native(OWN)._replace(value=plain))


@settings(max_examples=400)
@given(
    st.sampled_from(paths(WOO)),
    scraps,
    st.sampled_from(["order.updated", "order.deleted", "order.restored", ""]),
)
def test_a_real_order_with_anything_in_any_place(
    at: tuple[Any, ...], scrap: object, callback_type: str
) -> None:
    if callback := ends(
        record(json.dumps(changed(WOO, at, scrap)).encode(), callback_type=callback_type)
    ):
        is_storable(callback)


@settings(max_examples=400)
@given(st.sampled_from(paths(OWN)), scraps)
def test_a_native_order_with_anything_in_any_place(at: tuple[Any, ...], scrap: object) -> None:
    body = changed(OWN, at, scrap)
    order = str(body.get("order_id", "")) if isinstance(body, dict) else ""
    if callback := ends(
        native(json.loads("{}"), order=order)._replace(value=json.dumps(body).encode())
    ):
        is_storable(callback)


@settings(max_examples=300)
@given(st.integers(0, 2**32), st.sampled_from([WOO, OWN]), st.sampled_from([WOOCOMMERCE, NATIVE]))
def test_a_real_body_with_bytes_flipped_cut_and_doubled(
    seed: int, order: dict[str, Any], kind: str
) -> None:
    body = mutated(json.dumps(order).encode(), random.Random(seed))
    if callback := ends(record(body, kind=kind)):
        is_storable(callback)


@given(
    st.binary(max_size=300),
    st.sampled_from(["order.updated", "order.deleted"]),
    st.sampled_from([WOOCOMMERCE, NATIVE]),
)
@example(b"[" * 1_000_000, "order.updated", WOOCOMMERCE)
@example(b'{"id":' * 200_000, "order.deleted", WOOCOMMERCE)
@example(b'{"buyer":' * 100_000, "", NATIVE)
@example(b'{"id":' + b"9" * 1_000_000 + b"}", "order.deleted", WOOCOMMERCE)
def test_any_bytes(body: bytes, callback_type: str, kind: str) -> None:
    ends(record(body, callback_type=callback_type, kind=kind))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [
                    "ce_id",
                    "ce_source",
                    "ce_type",
                    "ce_specversion",
                    "ce_time",
                    "content-type",
                    "ce_callbacktopic",
                ]
            ),
            st.one_of(
                st.none(),
                st.binary(max_size=30),
                st.sampled_from([b"1.0", b"/sources/shop", WOOCOMMERCE.encode()]),
            ),
        ),
        max_size=12,
    ),
    st.one_of(st.none(), st.binary(max_size=50)),
)
def test_any_headers(headers: list[tuple[str, bytes | None]], value: bytes | None) -> None:
    ends(Record(TOPIC, 0, 0, 0, None, value, headers))
    ends(Record(TOPIC, 0, 0, 0, b"\xff", value, [*record(WOO).headers, *headers]))


def test_a_body_at_the_limit_is_read_in_reasonable_time() -> None:
    item = {"id": 1, "name": "&amp;" * 1_900, "quantity": 1, "total": "1.00"}
    body = json.dumps(woo_order(line_items=[item | {"id": n} for n in range(100)])).encode()
    callback = vendors.parse(record(body))
    assert len(body) > 900_000
    is_storable(callback)
